/* event.c - the descriptor of a queue, which is readable while there are items. Without Python. */
#define _GNU_SOURCE
#include "ring.h"

static int has_event(const goproc_ring *ring) {
    return goproc_mark(ring->event) == ring->event_mark;
}

void goproc_event_signal(const goproc_ring *ring) {
    uint64_t one = 1;
    if (has_event(ring) && write(ring->event, &one, sizeof one) < 0)
        return; /* it is readable already */
}

void goproc_event_clear(const goproc_ring *ring) {
    uint64_t number;
    if (!ring->is_ended && has_event(ring) && read(ring->event, &number, sizeof number) < 0)
        return; /* it was not readable */
}

int goproc_ring_has_ended(goproc_ring *ring) {
    if (!ring->is_ended && goproc_ends_are_closed(ring, GOPROC_PUTTING_END)) {
        ring->is_ended = 1;
        goproc_event_signal(ring);
    }
    return ring->is_ended;
}

int goproc_ring_watch(goproc_ring *ring) {
    if (!has_event(ring)) {
        errno = EBADF;
        return -1;
    }
    atomic_store(&ring->header->watched, 1);
    if (goproc_ring_count(ring))
        goproc_event_signal(ring);
    return ring->event;
}

static void mend(goproc_ring *ring, uint64_t unused) {
    (void)unused;
    if (atomic_load(&ring->header->watched) && goproc_ring_count(ring))
        goproc_event_signal(ring);
}

void goproc_rings_mend(void) {
    goproc_each_ring(mend, 0);
}
