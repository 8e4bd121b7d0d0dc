/* doorbell.pml - workers deliver results; whoever sleeps in the parent until a result comes is woken.
 *
 * The workers are goproc_channel_poke() of capi/native/channel.c, the collector goproc_port_collect() and the watcher watch() of
 * capi/native/port_collect.c. The collector is a thread of the program that wants a result. It may leave when it has
 * one, or because a signal handler raises. The watcher is the pool's own thread: it collects what nobody else does.
 *
 * All words of this protocol are changed by read-modify-write, and read by sequentially consistent loads. The models
 * sleeping.pml and *.litmus show that the order of memory then is that of the program; so here memory has no buffers.
 *
 * Checked: when nothing moves any more, all results have been collected.
 *
 * Faults that spin must find:
 *   -DFAULT_DOORBELL_KEPT   the worker that wakes the collector does not change the doorbell for that
 *   -DFAULT_NO_LOOK         the watcher sleeps without reading the doorbell after it has written that it watches
 *   -DFAULT_LEAVES          when a collector leaves because of an exception, the pump does not wake the watcher
 */
#define WORKERS 2
#define RESULTS 1 /* of each worker */
#define MOST_TIMEOUTS 1 /* how often the collector's sleep ends because of the time */

#define WATCH 1
#define COLLECTOR 2

byte waiting = 0, doorbell = 0, watch_bell = 0; /* the control page */
byte delivered[WORKERS];                         /* the tails of the result rings */

byte collected[WORKERS], drained = 0, waiters = 0; /* the parent's own */
bool looked = false; /* whether anybody has collected in the watcher's pause; in C a counter */
bool collector_asleep = false, watcher_asleep = false;
byte timeouts = 0;

proctype worker(byte me) {
    byte seen, sent = 0;
    bool was;
    do
    :: sent < RESULTS ->
        sent++;
        delivered[me] = sent;
        doorbell++;
        seen = waiting;
        if
        :: seen & COLLECTOR ->
            d_step { was = (waiting & COLLECTOR) != 0; waiting = waiting & ~COLLECTOR };
            if
            :: was ->
#ifndef FAULT_DOORBELL_KEPT
                doorbell++;
#endif
                collector_asleep = false
            :: else
            fi
        :: !(seen & COLLECTOR) && (seen & WATCH) ->
            d_step { was = (waiting & WATCH) != 0; waiting = waiting & ~WATCH };
            if
            :: was -> watch_bell++; watcher_asleep = false
            :: else
            fi
        :: else
        fi;
        seen = 0;
        was = false
    :: else -> break
    od
}

/* The engine looks at one ring after the other. */
inline collect() {
    number = 0; found = false;
    do
    :: number < WORKERS ->
        d_step { found = found || delivered[number] != collected[number]; collected[number] = delivered[number] };
        number++
    :: else -> break
    od;
    drained = rung;
    looked = true;
    number = 0;
    rung = 0
}

proctype collector() {
    byte number, rung, seen;
    bool found;
    do
    :: true ->
        seen = doorbell;
        rung = seen;
        collect();
        if
        :: found -> found = false; /* it has a result: it comes back for another one, or never */
            if
            :: true
            :: true -> break
            fi
        :: else ->
            waiters++;
            waiting = waiting | COLLECTOR;
            atomic {
                if
                :: doorbell == seen -> collector_asleep = true
                :: else
                fi
            };
            if
            :: !collector_asleep
            :: atomic { collector_asleep && timeouts < MOST_TIMEOUTS -> timeouts++; collector_asleep = false }
            fi;
            waiting = waiting & ~COLLECTOR;
            waiters--;
            if
            :: true
            :: true -> /* a signal handler raises; half a second later the pump looks, and wakes the watcher */
#ifndef FAULT_LEAVES
                watch_bell++;
                watcher_asleep = false;
#endif
                break
            fi
        fi
    od
}

proctype watcher() {
    byte bell, number, rung;
    bool found;
    do
    :: true ->
        bell = watch_bell;
        waiting = waiting | WATCH;
        atomic {
            if
#ifdef FAULT_NO_LOOK
            :: watch_bell == bell -> watcher_asleep = true
#else
            :: doorbell == drained && watch_bell == bell -> watcher_asleep = true
#endif
            :: else
            fi
        };
        !watcher_asleep;
        waiting = waiting & ~WATCH;
        looked = false;
        /* Here it waits for 10 ms: others may collect. While a thread waits, or collects, it watches on. */
        if
        :: !looked && waiters == 0 && doorbell != drained ->
            rung = doorbell;
            collect();
            found = false
        :: looked
        :: doorbell == drained
        fi
    od
}

init {
    byte number = 0;
    atomic {
        run worker(0);
        run worker(1);
        run collector();
        run watcher()
    };
    timeout ->
    do
    :: number < WORKERS -> assert(collected[number] == RESULTS); number++
    :: else -> break
    od
}
