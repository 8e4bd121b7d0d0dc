/* sleeping.pml - a worker sleeps until the parent publishes something; the parent wakes only a worker that sleeps.
 *
 * The worker is goproc_channel_sleep() of capi/native/channel.c, the parent Slot.Publish, Slot.Stop and Slot.Wake of
 * core/ring/slot.go. The same words serve a worker that waits for room for a result (Slot.Release).
 *
 * Memory is weak as on a processor with store buffers: what a process writes is at first in its buffer, and reaches
 * memory some time later. A sequentially consistent load waits until the own buffer is empty; so does a swap, which
 * changes memory itself.
 *
 * Checked: the worker gets all tasks, and ends. If a wake is lost, spin finds a state that nobody leaves.
 *
 * Faults that spin must find:
 *   -DFAULT_PARENT_READS_EARLY   the parent's load does not wait for its store of the tail
 *   -DFAULT_WORKER_READS_EARLY   the worker's load does not wait for its store of "sleeping"
 *   -DFAULT_BELL_READ_LATE       the worker reads the bell after the tail
 *   -DFAULT_BELL_KEPT            the parent wakes without changing the bell
 */
#define TASKS 3
#define MOST_SPURIOUS 2 /* how often the worker's sleep ends without reason: signals */

/* Memory. */
byte tail = 0, stop = 0, sleeping = 0, bell = 0;

/* The store buffers: at most one word each. */
bool tail_buffered = false, stop_buffered = false, sleeping_buffered = false;
byte tail_new, sleeping_new;

bool asleep = false; /* in the futex of the bell */
byte head = 0, spurious = 0;

active proctype memory() {
end:
    do
    :: atomic { tail_buffered -> tail = tail_new; tail_buffered = false }
    :: atomic { stop_buffered -> stop = 1; stop_buffered = false }
    :: atomic { sleeping_buffered -> sleeping = sleeping_new; sleeping_buffered = false }
    :: atomic { asleep && spurious < MOST_SPURIOUS -> spurious++; asleep = false }
    od
}

inline wait_for_own_stores() {
#ifndef FAULT_PARENT_READS_EARLY
    !tail_buffered && !stop_buffered
#else
    skip
#endif
}

inline wake() {
    wait_for_own_stores();
    if
    :: sleeping != 0 ->
        d_step { was = sleeping; sleeping = 0 }; /* a swap */
        if
        :: was != 0 ->
#ifndef FAULT_BELL_KEPT
            bell++;
#endif
            asleep = false /* FUTEX_WAKE */
        :: else
        fi
    :: else
    fi
}

active proctype parent() {
    byte pushed = 0, was;
    do
    :: pushed < TASKS ->
        !tail_buffered;
        pushed++;
        d_step { tail_new = pushed; tail_buffered = true };
        wake()
    :: else -> break
    od;
    !tail_buffered;
    head == TASKS; /* a worker is told to stop only when it has nothing left */
    stop_buffered = true;
    wake()
}

active proctype worker() {
    byte seen_bell, seen_tail;
    do
    :: seen_tail = tail;
        if
        :: seen_tail > head -> head++
        :: seen_tail == head && stop == 1 -> break
        :: else ->
            do
            :: true ->
#ifndef FAULT_BELL_READ_LATE
                seen_bell = bell;
#endif
                !sleeping_buffered;
                d_step { sleeping_new = 1; sleeping_buffered = true };
#ifndef FAULT_WORKER_READS_EARLY
                !sleeping_buffered;
#endif
                seen_tail = tail;
                if
                :: seen_tail != head -> break
                :: stop == 1 -> break
                :: else
                fi;
#ifdef FAULT_BELL_READ_LATE
                seen_bell = bell;
#endif
                atomic { /* FUTEX_WAIT: the kernel compares, and has the thread sleep, at once */
                    if
                    :: bell == seen_bell -> asleep = true
                    :: else
                    fi
                };
                !asleep
            od;
            !sleeping_buffered;
            d_step { sleeping_new = 0; sleeping_buffered = true }
        fi
    od;
    assert(head == TASKS)
}
