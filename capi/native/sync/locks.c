/* locks.c - taking locks and semaphores, and giving them back. Without Python.
 *
 * A lock's word is 0, or the pid of its holder. So one step takes the lock and says who has it. A semaphore's word is
 * its value. A thread that must wait spins a little, and then sleeps on the word. From time to time it looks whether
 * the holder still runs. It also looks whether the word has changed without a wake: the process that had to wake it may
 * have been killed, or the one that was woken instead.
 */
#include "../queue/ring.h"
#include "holders.h"

#include <string.h>

/* Notes who holds the lock, after its word says so. */
static void sign_lock(goproc_lock_cell *cell) {
    memcpy(cell->name, goproc_my_name(), sizeof cell->name);
    atomic_store_explicit(&cell->since_ns, goproc_coarse_ns(), memory_order_relaxed);
    goproc_sign(&cell->holder);
}

int goproc_lock_take(const goproc_lock *lock) {
    goproc_lock_cell *cell = lock->cell;
    uint32_t seen = 0;
    switch (lock->kind) {
    case GOPROC_CELL_LOCK:
        if (!atomic_compare_exchange_strong(&cell->word, &seen,
                                            atomic_load_explicit(&goproc_myself()->pid, memory_order_relaxed)))
            return 0;
        sign_lock(cell);
        return 1;
    case GOPROC_CELL_BOUNDED:
        return goproc_bounded_take((goproc_bounded_cell *)cell);
    default:
        seen = atomic_load(&cell->word);
        while (seen)
            if (atomic_compare_exchange_weak(&cell->word, &seen, seen - 1))
                return 1;
        return 0;
    }
}

/* Returns whether there is nothing to take while the word has the value *seen. */
static int must_wait(const goproc_lock *lock, uint32_t *seen) {
    goproc_lock_cell *cell = lock->cell;
    *seen = atomic_load(&cell->word);
    switch (lock->kind) {
    case GOPROC_CELL_LOCK:
        return *seen != 0;
    case GOPROC_CELL_BOUNDED: /* the word grows after each release */
        return goproc_bounded_value((goproc_bounded_cell *)cell) == 0;
    default:
        return *seen == 0;
    }
}

int goproc_lock_look(const goproc_lock *lock, goproc_lost *lost) {
    goproc_lock_cell *cell = lock->cell;
    int takes = lock->abandoned == GOPROC_TAKE;
    if (lock->abandoned == GOPROC_KEEP || lock->kind == GOPROC_CELL_SEMAPHORE)
        return GOPROC_BUSY;
    if (lock->kind == GOPROC_CELL_BOUNDED) {
        if (!goproc_bounded_look((goproc_bounded_cell *)cell, lost))
            return GOPROC_BUSY;
        if (takes)
            return goproc_lock_take(lock) ? GOPROC_TAKEN : GOPROC_BUSY;
        atomic_fetch_add(&cell->word, 1);
        goproc_futex_wake_some(&cell->word, 1);
        return GOPROC_ABANDONED;
    }
    uint32_t pid = atomic_load(&cell->word);
    if (pid == 0)
        return GOPROC_BUSY;
    /* Between taking the lock and signing it there is no signature. */
    int signed_by_it = atomic_load(&cell->holder.pid) == pid;
    int fate = signed_by_it ? goproc_fate_of(&cell->holder) : goproc_fate(pid, 0, 0);
    if (fate == GOPROC_RUNS)
        return GOPROC_BUSY;
    if (signed_by_it) {
        memcpy(lost->name, cell->name, sizeof lost->name);
        lost->name[sizeof lost->name - 1] = 0;
    } else {
        lost->name[0] = 0;
    }
    lost->pid = pid;
    if (fate == GOPROC_LEFT) {
        atomic_compare_exchange_strong(&cell->word, &pid, GOPROC_SOMEBODY);
        return GOPROC_BUSY;
    }
    if (takes) {
        uint32_t me = atomic_load(&goproc_myself()->pid);
        if (!atomic_compare_exchange_strong(&cell->word, &pid, me))
            return GOPROC_BUSY;
        sign_lock(cell);
        return GOPROC_TAKEN;
    }
    if (!atomic_compare_exchange_strong(&cell->word, &pid, 0))
        return GOPROC_BUSY;
    goproc_futex_wake_some(&cell->word, 1);
    return GOPROC_ABANDONED;
}

/* goproc_lock_wait() after its spins. This thread counts as waiting. */
static int wait_counted(const goproc_lock *lock, goproc_lock_waiting *waiting, goproc_lost *lost) {
    goproc_lock_cell *cell = lock->cell;
    for (;;) {
        uint32_t seen;
        if (goproc_lock_take(lock))
            return GOPROC_TAKEN;
        uint64_t now = goproc_now_ns();
        if (now >= waiting->look_at) {
            waiting->look_at = now + GOPROC_NEXT_LOOK_NS;
            int how = goproc_lock_look(lock, lost);
            if (how != GOPROC_BUSY)
                return how;
        }
        if (!must_wait(lock, &seen)) {
            if (waiting->deadline && now >= waiting->deadline)
                return GOPROC_BUSY; /* others are faster each time */
            continue;
        }
        if (!waiting->note)
            waiting->note = goproc_waits_for(GOPROC_WAIT_LOCK, cell, 0, waiting->deadline);
        if (waiting->note)
            atomic_store_explicit(&waiting->note->asleep, 1, memory_order_release);
        int error = goproc_nap(&cell->word, seen, waiting->deadline, (int64_t)(waiting->look_at - now));
        if (waiting->note) /* the store comes before the next attempt to take the lock */
            atomic_store(&waiting->note->asleep, 0);
        if (error)
            return error == EINTR ? GOPROC_INTERRUPTED : GOPROC_BUSY;
    }
}

int goproc_lock_wait(const goproc_lock *lock, goproc_sync_spinner *spinner, goproc_lock_waiting *waiting,
                     goproc_lost *lost) {
    enum { MOST_SPINS = 8 }; /* others may be faster each time */
    uint32_t seen;
    for (int i = 0; i < MOST_SPINS && must_wait(lock, &seen); i++) {
        if (!goproc_sync_spin(spinner, &lock->cell->word, seen))
            break;
        if (goproc_lock_take(lock))
            return GOPROC_TAKEN;
    }
    atomic_fetch_add(&lock->cell->waiting, 1);
    int how = wait_counted(lock, waiting, lost);
    atomic_fetch_sub(&lock->cell->waiting, 1);
    if (how != GOPROC_INTERRUPTED) {
        goproc_waits_no_longer(waiting->note); /* before it waits for the GIL */
        waiting->note = NULL;
    }
    return how;
}

int goproc_lock_give(const goproc_lock *lock) {
    goproc_lock_cell *cell = lock->cell;
    int gave;
    uint32_t seen = atomic_load(&cell->word);
    switch (lock->kind) {
    case GOPROC_CELL_LOCK:
        /* The signature is removed first. Otherwise somebody who looks at the next holder before it has signed could
         * find the signature of an older process with the same pid. */
        if (seen != 0)
            atomic_store_explicit(&cell->holder.pid, 0, memory_order_relaxed);
        gave = seen != 0 && atomic_exchange(&cell->word, 0) != 0;
        break;
    case GOPROC_CELL_BOUNDED:
        gave = goproc_bounded_give((goproc_bounded_cell *)cell);
        if (gave)
            atomic_fetch_add(&cell->word, 1);
        break;
    default:
        do
            gave = seen < cell->most;
        while (gave && !atomic_compare_exchange_weak(&cell->word, &seen, seen + 1));
    }
    if (gave && atomic_load(&cell->waiting))
        goproc_futex_wake_some(&cell->word, 1);
    return gave;
}

uint32_t goproc_lock_value(const goproc_lock *lock) {
    goproc_lock_cell *cell = lock->cell;
    switch (lock->kind) {
    case GOPROC_CELL_LOCK:
        return atomic_load(&cell->word) == 0;
    case GOPROC_CELL_BOUNDED:
        return goproc_bounded_value((goproc_bounded_cell *)cell);
    default:
        return atomic_load(&cell->word);
    }
}

void goproc_leave_cell(goproc_cell *memory, void *data) {
    uint32_t pid = *(uint32_t *)data, seen = pid;
    goproc_lock_cell *cell = (goproc_lock_cell *)memory;
    uint32_t space = memory->kind == GOPROC_CELL_LOCK ? atomic_load(&cell->holder.space) : 0;
    if (memory->kind == GOPROC_CELL_LOCK && atomic_load(&cell->word) == pid &&
        (atomic_load(&cell->holder.pid) != pid || !space || space == atomic_load(&goproc_myself()->space)))
        atomic_compare_exchange_strong(&cell->word, &seen, GOPROC_SOMEBODY);
    else if (memory->kind == GOPROC_CELL_BOUNDED)
        goproc_bounded_left((goproc_bounded_cell *)cell, pid);
}

void goproc_left(uint32_t pid) {
    goproc_each_cell(goproc_leave_cell, &pid);
    goproc_rings_left(pid);
}
