/* gate.c - one process at a time puts into a queue, and one gets. Without Python.
 *
 * If a process was killed inside a gate, nothing in the queue needs repair. So the process that finds this only empties
 * the gate, and then enters like any other. Nobody is inside a gate for longer than copying an item takes, and nobody
 * waits for the GIL inside.
 */
#include "ring.h"

int goproc_ring_fate(const goproc_ring *ring, uint64_t who) {
    if (atomic_load(&ring->header->mixed))
        return GOPROC_RUNS;
    return goproc_fate((uint32_t)who, (uint32_t)(who >> 32), 0);
}

/* Changes the bell if it is armed. Returns whether it was: then a thread may sleep, or be about to, and nobody else
 * wakes it. */
static int ring_bell(goproc_bell *bell) {
    uint32_t seen = atomic_load(bell);
    while (seen & 1)
        if (atomic_compare_exchange_weak(bell, &seen, seen + 1))
            return 1;
    return 0;
}

static int wake(goproc_bell *bell, int count) {
    return (int)syscall(SYS_futex, (uint32_t *)bell, FUTEX_WAKE, count, NULL, NULL, 0);
}

void goproc_wake_all(goproc_bell *bell) {
    if (ring_bell(bell))
        wake(bell, INT32_MAX);
}

void goproc_wake_one(goproc_bell *bell, _Atomic uint32_t *count, uint32_t base) {
    /* After one thread has been woken, others may still sleep, so the bell is armed again. While it was not armed,
     * other processes may have put items, and have woken nobody for them. */
    int32_t woken = 0;
    while (ring_bell(bell) && wake(bell, 1) > 0) {
        woken++;
        atomic_fetch_or(bell, 1);
        if ((int32_t)(atomic_load(count) - base) <= woken)
            break;
    }
}

void goproc_gate_leave(goproc_gate *gate) {
    atomic_store(&gate->inside, 0);
    while (ring_bell(&gate->bell) && wake(&gate->bell, 1) > 0) {
        atomic_fetch_or(&gate->bell, 1);
        if (atomic_load(&gate->inside))
            break; /* the process inside wakes the next one */
    }
}

int goproc_gate_wait(goproc_ring *ring, goproc_gate *gate, goproc_sync_spinner *spinner, uint64_t deadline) {
    _Atomic uint32_t *word = goproc_count_word(&gate->inside);
    uint32_t pid = (uint32_t)atomic_load(&gate->inside);
    if (pid == 0 || goproc_sync_spin(spinner, word, pid))
        return 0;
    for (;;) {
        uint32_t seen = goproc_bell_armed(&gate->bell);
        uint64_t inside = atomic_load(&gate->inside);
        if (inside == 0)
            return 0;
        int error = goproc_nap(&gate->bell, seen, deadline, GOPROC_FIRST_LOOK_NS);
        if (error == EINTR && goproc_ring_fate(ring, inside) != GOPROC_RUNS &&
            atomic_compare_exchange_strong(&gate->inside, &inside, 0))
            return 0;
        if (error)
            return error;
    }
}
