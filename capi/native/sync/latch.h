/* latch.h - a latch: it is held for a few steps on a cell, by one thread of one process.
 *
 * The word is 0, or the holder's pid. A waiting thread checks whether that process still runs; if not, the thread takes
 * the latch over. So each step made under a latch must leave the cell valid: one store at its end completes it.
 */
#ifndef GOPROC_LATCH_H
#define GOPROC_LATCH_H

#include "sync.h"

static inline void goproc_latch_wait(_Atomic uint32_t *latch, uint32_t me) {
    uint32_t seen = 0;
    for (unsigned tries = 0; !atomic_compare_exchange_strong(latch, &seen, me); tries++) {
        if (seen && tries > 1000) {
            /* Its holder has been stopped, or has ended. */
            if (seen != me && goproc_fate(seen, 0, 0) != GOPROC_RUNS &&
                atomic_compare_exchange_strong(latch, &seen, me))
                return;
            struct timespec pause = {.tv_nsec = 100000};
            nanosleep(&pause, NULL);
        } else if (tries > 10) {
            sched_yield();
        } else {
            goproc_pause();
        }
        seen = 0;
    }
}

static inline void goproc_latch(_Atomic uint32_t *latch) {
    uint32_t nobody = 0, me = atomic_load(&goproc_myself()->pid);
    if (!atomic_compare_exchange_strong(latch, &nobody, me))
        goproc_latch_wait(latch, me);
}

static inline void goproc_unlatch(_Atomic uint32_t *latch) {
    atomic_store(latch, 0);
}

#endif
