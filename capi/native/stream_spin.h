/* stream_spin.h - whether stream.c spins before it sleeps. */
#ifndef GOPROC_STREAM_SPIN_H
#define GOPROC_STREAM_SPIN_H

#include "native.h"
#include "sync/sync.h"

/* Whether it pays to spin before sleeping. Where both ends have a processor, a spin that succeeds saves two context
 * switches. Where they share one, or others want it, sleeping at once is faster. So a stream spins as long as at least
 * four of five spins succeed. Otherwise it does not spin for some waits, and then tries one spin. */
typedef struct {
    int16_t credit;
    uint16_t rest;  /* how many waits without a spin are left */
    uint16_t pause; /* how many there will be the next time */
} spinner;

enum { MOST_CREDIT = 16, PRICE = 4, LEAST_PAUSE = 8, MOST_PAUSE = 256 };

static inline int may_spin(spinner *spinner) {
    if (goproc_sync_spin_ns() == 0)
        return 0;
    if (spinner->rest) {
        spinner->rest--;
        return 0;
    }
    return 1;
}

static inline void spun(spinner *spinner, int succeeded) {
    if (succeeded) {
        if (spinner->credit < MOST_CREDIT)
            spinner->credit++;
        else
            spinner->pause = LEAST_PAUSE;
    } else if ((spinner->credit = (int16_t)(spinner->credit - PRICE)) < 0) {
        spinner->credit = 0;
        spinner->rest = spinner->pause;
        if (spinner->pause < MOST_PAUSE)
            spinner->pause *= 2;
    }
}

#endif
