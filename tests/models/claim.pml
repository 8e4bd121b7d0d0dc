/* claim.pml - the claim word of a task frame: the worker begins tasks, the parent takes tasks back.
 *
 * A frame holds a batch of TASKS tasks. The claim word has two numbers: the next task to begin, and the task to stop
 * before. Both sides change it by compare-and-swap: the worker in claim_tasks() and goproc_channel_leave() of capi/native/channel.c,
 * the parent in Slot.TakeBack of core/ring/slot.go. The worker may be killed at any instruction. When it is dead, the
 * parent reads the word, as Pool.Exited does.
 *
 * Checked: each task is begun by the worker or taken back, never both and never neither; and the worker leaves a frame
 * only when it has no task left. It is one word, so the order of memory cannot break this: the processor orders all
 * changes of one word.
 *
 * Faults that spin must find:
 *   -DFAULT_WORKER_STORES   the worker writes the word without comparing
 *   -DFAULT_PARENT_STORES   the parent does
 *   -DFAULT_LEAVES_EARLY    the worker leaves the frame after its first claim
 */
#define TASKS 3
#define MOST 2 /* how many tasks the worker begins at once, at most: send() begins one, more() several */

/* The claim word. A step that reads or writes both numbers is one step, as they are one word. */
byte next = 0, end = TASKS;
byte begun[TASKS], taken[TASKS];
bool worker_gone = false, left_frame = false;

inline begin_task(first, count) {
    byte i = first;
    do
    :: i < first + count -> begun[i]++; i++
    :: else -> break
    od;
    i = 0
}

active proctype worker() {
    byte seen_next, seen_end, count;
    bool claimed;
    do
    :: true -> break /* killed */
    :: !left_frame ->
        d_step { seen_next = next; seen_end = end };
        if
        :: seen_next >= seen_end -> left_frame = true; goto over
        :: else
        fi;
        select(count : 1 .. MOST);
        if
        :: count > seen_end - seen_next -> count = seen_end - seen_next
        :: else
        fi;
        claimed = false;
#ifdef FAULT_WORKER_STORES
        d_step { next = seen_next + count; end = seen_end; claimed = true; begin_task(seen_next, count) };
#else
        d_step {
            if
            :: next == seen_next && end == seen_end ->
                next = seen_next + count;
                claimed = true;
                begin_task(seen_next, count) /* to begin a task is to change the word */
            :: else
            fi
        };
#endif
#ifdef FAULT_LEAVES_EARLY
        if
        :: claimed -> left_frame = true; goto over
        :: else
        fi
#endif
    od;
over:
    worker_gone = true
}

inline take_back(most) {
    /* What the worker has left may be overwritten: the parent does not touch it. */
    d_step {
        if
        :: left_frame
        :: else -> seen_next = next; seen_end = end
        fi
    };
    if
    :: seen_next < seen_end ->
        first = (seen_end - seen_next > most -> seen_end - most : seen_next);
#ifdef FAULT_PARENT_STORES
        d_step { next = seen_next; end = first; i = first; do :: i < seen_end -> taken[i]++; i++ :: else -> break od };
#else
        d_step {
            if
            :: next == seen_next && end == seen_end ->
                end = first;
                i = first;
                do
                :: i < seen_end -> taken[i]++; i++
                :: else -> break
                od
            :: else
            fi
        };
#endif
    :: else
    fi;
    seen_next = 0; seen_end = 0; first = 0; i = 0
}

active proctype parent() {
    byte seen_next, seen_end, first, i;
    do
    :: take_back(1)
    :: take_back(TASKS)
    :: worker_gone -> break
    od;
    /* The worker has ended, or has left the frame: what is left in the frame goes to others. */
    take_back(TASKS);
    do
    :: i < TASKS ->
        assert(begun[i] + taken[i] == 1);
        i++
    :: else -> break
    od;
    assert(!left_frame || next == end)
}
