/* gate.c - one process at a time puts into a queue, and one gets. Without Python.
 *
 * Nothing in a queue need be repaired when a process was killed inside a gate. So whoever finds that merely empties the
 * gate, and then enters as everybody does. Nobody is inside a gate for longer than copying an item takes, and nobody
 * waits for the GIL inside.
 */
#include "ring.h"

int goproc_ring_fate(const goproc_ring *ring, uint64_t who) {
    if (atomic_load(&ring->header->mixed))
        return GOPROC_RUNS;
    return goproc_fate((uint32_t)who, (uint32_t)(who >> 32), 0);
}

void goproc_wake_flagged(_Atomic uint32_t *flag, _Atomic uint32_t *word, int all) {
    if (!atomic_load(flag))
        return;
    /* The flag is cleared first. Who sets it after that looks at the word once more before sleeping. If somebody has
     * been woken, others may still sleep. */
    atomic_store(flag, 0);
    if (syscall(SYS_futex, (uint32_t *)word, FUTEX_WAKE, all ? INT32_MAX : 1, NULL, NULL, 0) > 0 && !all)
        atomic_store(flag, 1);
}

void goproc_gate_leave(goproc_gate *gate) {
    atomic_store(&gate->inside, 0);
    goproc_wake_flagged(&gate->sleepers, goproc_count_word(&gate->inside), 0);
}

int goproc_gate_wait(goproc_ring *ring, goproc_gate *gate, goproc_sync_spinner *spinner, uint64_t deadline) {
    _Atomic uint32_t *word = goproc_count_word(&gate->inside);
    uint32_t pid = (uint32_t)atomic_load(&gate->inside);
    if (pid == 0 || goproc_sync_spin(spinner, word, pid))
        return 0;
    uint64_t look_at = goproc_now_ns() + GOPROC_FIRST_LOOK_NS;
    for (;;) {
        atomic_store(&gate->sleepers, 1);
        uint64_t inside = atomic_load(&gate->inside);
        if (inside == 0)
            return 0;
        uint64_t now = goproc_now_ns();
        if (now >= look_at) {
            look_at = now + GOPROC_NEXT_LOOK_NS;
            if (goproc_ring_fate(ring, inside) != GOPROC_RUNS &&
                atomic_compare_exchange_strong(&gate->inside, &inside, 0))
                return 0;
        }
        int error = goproc_nap(word, (uint32_t)inside, deadline, (int64_t)(look_at - now));
        if (error)
            return error;
    }
}
