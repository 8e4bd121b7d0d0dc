/* queue.pml - items go through a queue's ring; processes are killed at any step; those who sleep are woken.
 *
 * The producer is put() of capi/native/queue/waits.c with goproc_ring_put() of ring.c, the consumer take() and
 * wait_for_item(). The gates and the wakes are those of gate.c. The ring has SLOTS places of two halves each, so that
 * half an item can be seen. Who finds a gate taken, sleeps until it is left; in C it also spins first.
 *
 * All words of the header are changed and read by sequentially consistent operations, so memory has no buffers here. The
 * halves of an item are plain memory: publish.litmus shows that who sees the tail sees them.
 *
 * A sleeper looks after a time whether the process that it waits for was killed. In the model a sleep ends by time only
 * when a process has been killed, and only if that makes a difference: so a wake that is lost without a kill is found.
 *
 * Checked when nothing moves any more: each item whose put has counted was taken once or is in the ring; no item was
 * taken twice or by half; nobody who lives sleeps for an item, for room or at a gate, where there is one.
 *
 * All at once has too many states, so parts are searched:
 *   -DPRODUCERS=2 -DCONSUMERS=1                          one is killed; the ring is full after one item
 *   -DPRODUCERS=1 -DCONSUMERS=2                          the same, with two who get
 *   -DPRODUCERS=3 -DCONSUMERS=0 -DSLOTS=3 -DMOST_KILLS=0 two sleep at a gate
 *   -DSPINS_AT_GATES -DSLOTS=2 -DMOST_KILLS=0            two put while two sleep for items; nobody sleeps at gates
 *
 * Faults that spin must find:
 *   -DFAULT_TAIL_FIRST -DPRODUCERS=1 -DCONSUMERS=1 -DMOST_KILLS=0
 *       the tail is stored before the second half of the item is written
 *   -DFAULT_HEAD_FIRST -DCONSUMERS=1 -DMOST_KILLS=0
 *       the head is stored before the item has been copied
 *   -DFAULT_NO_GATE -DSLOTS=2 -DMOST_KILLS=0
 *       consumers take without a gate
 *   -DFAULT_GATE_KEPT -DCONSUMERS=0 -DSLOTS=2
 *       nobody looks whether the process inside a gate was killed
 *   -DFAULT_NO_LOOK -DPRODUCERS=1 -DCONSUMERS=1 -DMOST_KILLS=0
 *       a consumer arms its bell after it has looked at the tail
 *   -DFAULT_NO_LOOK_FOR_ROOM -DCONSUMERS=1 -DMOST_KILLS=0
 *       a producer does not look again for room after it has armed its bell
 *   -DFAULT_BELL_CLEARED -DSPINS_AT_GATES -DSLOTS=2 -DMOST_KILLS=0
 *       who wakes makes the bell even, and does not change it for those who are about to sleep
 *   -DFAULT_ONE_WAKE -DSPINS_AT_GATES -DSLOTS=2 -DMOST_KILLS=0
 *       who has woken one arms the bell again, and does not look what others have put meanwhile
 *   -DFAULT_ONE_WAKE_AT_GATE -DPRODUCERS=3 -DCONSUMERS=0 -DSLOTS=3 -DMOST_KILLS=0
 *       the same of who leaves a gate
 */
#ifndef SLOTS
#define SLOTS 1
#endif
#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef CONSUMERS
#define CONSUMERS 2
#endif
#define PROCESSES (PRODUCERS + CONSUMERS)
#define ITEMS PRODUCERS /* each producer puts one, each consumer gets one */
#ifndef MOST_KILLS
#define MOST_KILLS 1
#endif

#define NOBODY 0 /* in a gate; a process inside is its number and 1 */

/* The bell that a process sleeps on. */
#define AWAKE 0
#define FOR_ITEM 1
#define FOR_ROOM 2
#define TO_PUT 3
#define TO_GET 4

/* The header. */
byte putting = NOBODY, getting = NOBODY, tail = 0, head = 0;
byte put_bell = 0, get_bell = 0, item_bell = 0, room_bell = 0; /* odd: somebody may sleep */

/* The ring. */
byte first[SLOTS], second[SLOTS];

byte sleeps[PROCESSES];
bool dead[PROCESSES], ended[PROCESSES];
byte kills = 0;

/* What is checked. counted: by item, whether its put has counted. */
bool counted[ITEMS + 1];
byte taken[ITEMS + 1];
byte halves = 0;

/* FUTEX_WAKE: one of those who sleep on a word, any of them. */
inline wake(word) {
    atomic {
        if
        :: sleeps[0] == word -> sleeps[0] = AWAKE; woken = true
        :: sleeps[1] == word -> sleeps[1] = AWAKE; woken = true
#if PROCESSES > 2
        :: sleeps[2] == word -> sleeps[2] = AWAKE; woken = true
#endif
#if PROCESSES > 3
        :: sleeps[3] == word -> sleeps[3] = AWAKE; woken = true
#endif
        :: else -> woken = false
        fi
    }
}

/* goproc_wake_one() and goproc_gate_leave(): enough is what ends the loop after somebody has been woken. */
inline wake_one(bell, word, enough) {
    do
    :: !(bell & 1) -> break
    :: bell & 1 ->
        atomic { /* compare-and-swap */
            if
#ifdef FAULT_BELL_CLEARED
            :: bell & 1 -> bell--; woken = true
#else
            :: bell & 1 -> bell++; woken = true
#endif
            :: else -> woken = false
            fi
        };
        if
        :: woken -> wake(word)
        :: else
        fi;
        if
        :: woken -> given++; bell = bell | 1
        :: else -> break
        fi;
        if
        :: enough -> break
        :: !(enough)
        fi
    od;
    woken = false; given = 0
}

inline arm(bell) {
    atomic { bell = bell | 1; armed = bell }
}

/* FUTEX_WAIT: the kernel compares the bell, and has the thread sleep, at once. */
inline sleep(bell, word) {
    atomic {
        if
        :: bell == armed -> sleeps[me] = word
        :: else
        fi
    };
    sleeps[me] == AWAKE;
    armed = 0
}

#ifdef FAULT_ONE_WAKE_AT_GATE
#define ENOUGH_AT_GATE(gate) true
#else
#define ENOUGH_AT_GATE(gate) (gate != NOBODY)
#endif
#ifdef FAULT_ONE_WAKE
#define ENOUGH_PUT true
#else
#define ENOUGH_PUT (tail - base <= given)
#endif

#ifdef FAULT_GATE_KEPT
#define IS_FOUND_DEAD(number) false
#else
#define IS_FOUND_DEAD(number) dead[number - 1]
#endif

#ifdef SPINS_AT_GATES
inline enter(gate, bell, word) {
    atomic {
        if
        :: gate == NOBODY
        :: gate != NOBODY && IS_FOUND_DEAD(gate)
        fi;
        gate = me + 1
    }
}

inline leave(gate, bell, word) {
    gate = NOBODY
}
#else
inline enter(gate, bell, word) {
    do
    :: atomic { gate == NOBODY -> gate = me + 1; break } /* compare-and-swap */
    :: gate != NOBODY ->
        arm(bell);
        seen = gate;
        if
        :: seen == NOBODY -> armed = 0
        :: seen != NOBODY && IS_FOUND_DEAD(seen) ->
            atomic {
                armed = 0;
                if
                :: gate == seen -> gate = NOBODY
                :: else
                fi
            }
        :: seen != NOBODY && !IS_FOUND_DEAD(seen) -> sleep(bell, word)
        fi;
        seen = 0
    od
}

inline leave(gate, bell, word) {
    gate = NOBODY;
    wake_one(bell, word, ENOUGH_AT_GATE(gate))
}
#endif

#define IS_FULL (tail - head == SLOTS)

proctype producer(byte me) {
    byte seen, armed, base, given, item = me + 1;
    byte seen_room;
    bool woken, done, looked;
    {
        do
        :: done -> break
        :: !done ->
            enter(putting, put_bell, TO_PUT);
            if
            :: !IS_FULL ->
                first[tail % SLOTS] = item;
#ifdef FAULT_TAIL_FIRST
                atomic { tail++; counted[item] = true };
                second[(tail - 1) % SLOTS] = item;
#else
                second[tail % SLOTS] = item;
                atomic { tail++; counted[item] = true };
#endif
                done = true
            :: IS_FULL
            fi;
            leave(putting, put_bell, TO_PUT);
            if
            :: done -> base = head; wake_one(item_bell, FOR_ITEM, ENOUGH_PUT)
#ifdef FAULT_NO_LOOK_FOR_ROOM
            :: !done -> arm(room_bell); sleep(room_bell, FOR_ROOM)
#else
            :: !done && !looked -> /* now look again */
                looked = true;
                arm(room_bell);
                seen_room = armed
            :: !done && looked ->
                looked = false;
                armed = seen_room;
                sleep(room_bell, FOR_ROOM);
                seen_room = 0
#endif
            fi
        od
    } unless { dead[me] }
    ended[me] = true
}

proctype consumer(byte me) {
    byte seen, armed, given, at, item;
    bool woken, done;
    {
        do
        :: done -> break
        :: !done && tail == head ->
#ifdef FAULT_NO_LOOK
            seen = tail;
            arm(item_bell);
            if
            :: seen != head -> armed = 0
            :: seen == head -> sleep(item_bell, FOR_ITEM)
            fi;
            seen = 0
#else
            arm(item_bell);
            if
            :: tail != head -> armed = 0
            :: tail == head -> sleep(item_bell, FOR_ITEM)
            fi
#endif
        :: !done && tail != head ->
#ifndef FAULT_NO_GATE
            enter(getting, get_bell, TO_GET);
#endif
            at = head;
            if
            :: tail == at
            :: tail != at ->
#ifdef FAULT_HEAD_FIRST
                head = at + 1;
#endif
                item = first[at % SLOTS];
                atomic {
                    if
                    :: item != second[at % SLOTS] -> halves++
                    :: else
                    fi
                };
                /* A killed consumer's item is gone with it once the head is stored. */
                atomic { head = at + 1; taken[item]++ };
                done = true
            fi;
#ifndef FAULT_NO_GATE
            leave(getting, get_bell, TO_GET);
#endif
            if
            :: done && (room_bell & 1) ->
                atomic {
                    if
                    :: room_bell & 1 -> room_bell++; woken = true
                    :: else -> woken = false
                    fi
                };
                do /* all of them */
                :: woken -> wake(FOR_ROOM)
                :: else -> break
                od
            :: else
            fi;
            at = 0; item = 0
        od
    } unless { dead[me] }
    ended[me] = true
}

/* Kills one process, if it has not ended, or none. A killed process does not sleep any more. Processes of a kind are
 * alike, so the first of each kind will do. */
proctype killer() {
    if
    :: true
    :: atomic { !ended[0] -> kills++; dead[0] = true; sleeps[0] = AWAKE }
#if CONSUMERS > 0
    :: atomic { !ended[PRODUCERS] -> kills++; dead[PRODUCERS] = true; sleeps[PRODUCERS] = AWAKE }
#endif
    fi
}

/* A sleep ends by time. */
#define HAS_ENDED(i)                                                                                                    \
    ((sleeps[i] == FOR_ITEM && tail != head) || (sleeps[i] == FOR_ROOM && !IS_FULL) ||                                   \
     (sleeps[i] == TO_PUT && (putting == NOBODY || IS_FOUND_DEAD(putting))) ||                                                \
     (sleeps[i] == TO_GET && (getting == NOBODY || IS_FOUND_DEAD(getting))))

proctype clock() {
    byte i;
    do
    :: atomic {
        kills > 0 && (HAS_ENDED(0) || HAS_ENDED(1)
#if PROCESSES > 2
            || HAS_ENDED(2)
#endif
#if PROCESSES > 3
            || HAS_ENDED(3)
#endif
        ) ->
        i = 0;
        do
        :: i < PROCESSES && HAS_ENDED(i) -> sleeps[i] = AWAKE; i++
        :: i < PROCESSES && !HAS_ENDED(i) -> i++
        :: i == PROCESSES -> break
        od;
        i = 0
       }
    od
}

init {
    byte i, in_ring;
    atomic {
        i = 0;
        do
        :: i < PRODUCERS -> run producer(i); i++
        :: i >= PRODUCERS && i < PROCESSES -> run consumer(i); i++
        :: i == PROCESSES -> break
        od;
        run clock();
#if MOST_KILLS > 0
        run killer()
#endif
    };
    timeout ->
    atomic {
        assert(halves == 0);
        i = 1;
        do
        :: i <= ITEMS ->
            assert(taken[i] <= 1);
            assert(counted[i] || taken[i] == 0);
            in_ring = in_ring + (counted[i] && taken[i] == 0);
            i++
        :: else -> break
        od;
        assert(in_ring == tail - head);
        i = 0;
        do
        :: i < PROCESSES ->
            if
            :: !dead[i] ->
                assert(sleeps[i] != FOR_ITEM || tail == head);
                assert(sleeps[i] != FOR_ROOM || IS_FULL);
                assert(sleeps[i] != TO_PUT && sleeps[i] != TO_GET)
            :: else
            fi;
            i++
        :: else -> break
        od
    }
}
