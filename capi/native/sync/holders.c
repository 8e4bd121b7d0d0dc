/* holders.c - who holds a bounded semaphore.
 *
 * The value of the semaphore is not stored: it is the bound, less the permits of the holders. So taking or giving a
 * permit is one store, and a process may be killed before or after it. A latch keeps the steps of several processes
 * apart.
 *
 * Programs also use bounded semaphores as signals: a producer takes a permit for each item, and a consumer gives it
 * back. Then a producer that was killed holds nothing that it would have given back. So when a process gives back a
 * permit that it does not hold, the semaphore counts as a signal from then on, and killed holders are not reported any
 * more.
 */
#include "holders.h"

#include <string.h>

#include "latch.h"

uint64_t goproc_coarse_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Returns the permits that are taken. With the latch held, the number is exact. */
static uint64_t taken(goproc_bounded_cell *cell) {
    uint64_t sum = atomic_load(&cell->unnamed);
    for (int i = 0; i < GOPROC_MOST_HOLDERS; i++)
        sum += atomic_load(&cell->holders[i].permits);
    return sum;
}

uint32_t goproc_bounded_value(goproc_bounded_cell *cell) {
    uint64_t sum = taken(cell);
    return sum < cell->lock.most ? cell->lock.most - (uint32_t)sum : 0;
}

static int same(const goproc_who *a, const goproc_who *b) {
    return atomic_load(&a->pid) == atomic_load(&b->pid) && atomic_load(&a->started) == atomic_load(&b->started) &&
           atomic_load(&a->space) == atomic_load(&b->space);
}

/* Returns the place of this process: the one that it has, else a free one, else NULL. */
static goproc_holder *place(goproc_bounded_cell *cell, int also_free) {
    goproc_holder *free_place = NULL;
    for (int i = 0; i < GOPROC_MOST_HOLDERS; i++) {
        goproc_holder *holder = &cell->holders[i];
        if (atomic_load(&holder->permits) == 0) {
            if (!free_place)
                free_place = holder;
        } else if (same(&holder->who, goproc_myself())) {
            return holder;
        }
    }
    return also_free ? free_place : NULL;
}

int goproc_bounded_take(goproc_bounded_cell *cell) {
    goproc_latch(&cell->lock.latch);
    int has = taken(cell) < cell->lock.most;
    if (has) {
        goproc_holder *holder = atomic_load(&cell->lock.signals) ? NULL : place(cell, 1);
        if (!holder) {
            atomic_fetch_add(&cell->unnamed, 1);
        } else {
            if (atomic_load(&holder->permits) == 0) {
                goproc_sign(&holder->who);
                memcpy(holder->name, goproc_my_name(), sizeof holder->name);
                atomic_store(&holder->since_ns, goproc_coarse_ns());
            }
            atomic_fetch_add(&holder->permits, 1);
        }
    }
    goproc_unlatch(&cell->lock.latch);
    return has;
}

/* Subtracts one from the number, unless it is 0. */
static int take_one(_Atomic uint32_t *number) {
    if (atomic_load(number) == 0)
        return 0;
    atomic_fetch_sub(number, 1);
    return 1;
}

int goproc_bounded_give(goproc_bounded_cell *cell) {
    goproc_latch(&cell->lock.latch);
    goproc_holder *holder = place(cell, 0);
    int gave = holder ? take_one(&holder->permits) : 0;
    if (!gave) {
        gave = take_one(&cell->unnamed);
        for (int i = 0; i < GOPROC_MOST_HOLDERS && !gave; i++)
            gave = take_one(&cell->holders[i].permits);
        if (gave)
            atomic_store(&cell->lock.signals, 1);
    }
    goproc_unlatch(&cell->lock.latch);
    return gave;
}

int goproc_bounded_look(goproc_bounded_cell *cell, goproc_lost *lost) {
    int found = 0;
    goproc_latch(&cell->lock.latch);
    for (int i = 0; i < GOPROC_MOST_HOLDERS && !found && !atomic_load(&cell->lock.signals); i++) {
        goproc_holder *holder = &cell->holders[i];
        uint32_t permits = atomic_load(&holder->permits);
        int fate = permits ? goproc_fate_of(&holder->who) : GOPROC_RUNS;
        if (fate == GOPROC_LEFT) {
            /* If this process is killed between these two steps, too many permits are taken, never too few. */
            atomic_fetch_add(&cell->unnamed, permits);
            atomic_store(&holder->permits, 0);
        } else if (fate == GOPROC_KILLED) {
            lost->pid = atomic_load(&holder->who.pid);
            memcpy(lost->name, holder->name, sizeof lost->name);
            lost->name[sizeof lost->name - 1] = 0;
            atomic_fetch_sub(&holder->permits, 1);
            found = 1;
        }
    }
    goproc_unlatch(&cell->lock.latch);
    return found;
}

void goproc_bounded_left(goproc_bounded_cell *cell, uint32_t pid) {
    for (int i = 0; i < GOPROC_MOST_HOLDERS; i++) {
        goproc_holder *holder = &cell->holders[i];
        if (atomic_load(&holder->permits) == 0 || atomic_load(&holder->who.pid) != pid)
            continue;
        goproc_latch(&cell->lock.latch);
        uint32_t permits = atomic_load(&holder->permits);
        if (permits && atomic_load(&holder->who.pid) == pid) {
            atomic_fetch_add(&cell->unnamed, permits);
            atomic_store(&holder->permits, 0);
        }
        goproc_unlatch(&cell->lock.latch);
    }
}
