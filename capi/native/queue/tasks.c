/* tasks.c - what is not yet in the ring, and what has been taken and not been reported done. Without Python.
 *
 * Each process has a share, a word of its own. So it is known which items a killed process had.
 *
 *   unfed_by   How many items the process has in a buffer of its own, because the ring is full. When it has ended, they
 *              are lost: they count no more, and join() tells of them.
 *   taken_by   The upper half is how many tasks the process has taken and not reported done. The lower half is the
 *              number of the item that it took last. The word is stored before the head is. If the head is not behind
 *              that item, the process was killed in between: it has taken one task less.
 *
 * task_done() may also be called for tasks that another process has taken, or that nobody has taken yet, as with
 * multiprocessing. Then it changes another share, or counts in done_ahead.
 *
 * Limit: 64 processes have a share. For other processes, items in buffers do not count for maxsize, and it is not
 * noticed when they are killed with tasks.
 */
#include "ring.h"

/* ---- items in buffers -------------------------------------------------------------------------------------------- */

static void limit_done_ahead(goproc_ring *ring);

static void note_lost(goproc_queue_header *header, uint32_t pid, uint32_t items) {
    uint64_t lost = atomic_load(&header->unfed_lost);
    while (!atomic_compare_exchange_weak(&header->unfed_lost, &lost, (uint64_t)pid << 32 | ((uint32_t)lost + items)))
        ;
}

uint32_t goproc_unfed(goproc_ring *ring, int look) {
    goproc_queue_header *header = ring->header;
    uint32_t shares = atomic_load(&header->unfed), sum = 0;
    for (uint32_t i = 0; i < shares && i < GOPROC_MOST_SHARES; i++) {
        goproc_share *share = &header->unfed_by[i];
        uint32_t items = (uint32_t)atomic_load(&share->word);
        uint64_t who = atomic_load(&share->who);
        if (items && look && goproc_ring_fate(ring, who) != GOPROC_RUNS) {
            if (header->joinable)
                note_lost(header, (uint32_t)who, items);
            atomic_store(&share->word, 0);
            items = 0;
        }
        sum += items;
    }
    return sum;
}

uint32_t goproc_unfed_here(goproc_ring *ring) {
    goproc_gate *putting = &ring->header->putting;
    uint32_t items = goproc_unfed(ring, 0);
    if (!items)
        return 0;
    uint64_t inside = atomic_load(&putting->inside);
    if (inside && goproc_ring_fate(ring, inside) != GOPROC_RUNS)
        atomic_compare_exchange_strong(&putting->inside, &inside, 0);
    if (goproc_gate_try(putting, ring->me)) {
        items = goproc_unfed(ring, 1);
        goproc_gate_leave(putting);
    }
    return items;
}

uint32_t goproc_unfed_lost(goproc_ring *ring, uint32_t *pid) {
    if (!atomic_load(&ring->header->unfed_lost))
        return 0;
    uint64_t lost = atomic_exchange(&ring->header->unfed_lost, 0);
    *pid = (uint32_t)(lost >> 32);
    if (lost)
        limit_done_ahead(ring);
    return (uint32_t)lost;
}

static goproc_share *unfed_share(goproc_ring *ring) {
    goproc_queue_header *header = ring->header;
    goproc_share *empty = NULL;
    uint32_t shares = atomic_load(&header->unfed);
    for (uint32_t i = 0; i < GOPROC_MOST_SHARES; i++) {
        goproc_share *share = &header->unfed_by[i];
        if (i < shares && atomic_load(&share->who) == ring->me)
            return share;
        if (!empty && (i >= shares || atomic_load(&share->word) == 0)) {
            empty = share;
            if (i >= shares)
                break;
        }
    }
    if (!empty)
        return NULL;
    uint32_t index = (uint32_t)(empty - header->unfed_by);
    atomic_store(&empty->word, 0);
    atomic_store(&empty->who, ring->me);
    if (index >= shares)
        atomic_store(&header->unfed, index + 1);
    return empty;
}

void goproc_unfed_add(goproc_ring *ring) {
    goproc_share *share = unfed_share(ring);
    if (!share) {
        ring->uncounted++;
        return;
    }
    atomic_fetch_add(&share->word, 1);
    ring->counted++;
}

void goproc_unfed_remove(goproc_ring *ring) {
    if (ring->uncounted) {
        ring->uncounted--;
        return;
    }
    goproc_share *share = ring->counted ? unfed_share(ring) : NULL;
    if (!share)
        return;
    ring->counted--;
    if (atomic_load(&share->word))
        atomic_fetch_sub(&share->word, 1);
}

/* ---- tasks that have been taken ---------------------------------------------------------------------------------- */

static uint32_t tasks_of(uint64_t word, uint32_t head) {
    uint32_t tasks = (uint32_t)(word >> 32);
    return tasks && (int32_t)(head - (uint32_t)word) <= 0 ? tasks - 1 : tasks;
}

static uint64_t with_tasks(uint32_t tasks, uint32_t item) {
    return (uint64_t)tasks << 32 | item;
}

static uint32_t head_count(const goproc_ring *ring) {
    return goproc_count_of(atomic_load(&ring->header->head));
}

void goproc_task_taken(goproc_ring *ring, uint64_t position) {
    goproc_queue_header *header = ring->header;
    uint32_t head = goproc_count_of(position);
    goproc_share *mine = NULL, *empty = NULL;
    for (int i = 0; i < GOPROC_MOST_SHARES && !mine; i++) {
        goproc_share *share = &header->taken_by[i];
        uint64_t who = atomic_load(&share->who);
        if (who == ring->me)
            mine = share;
        else if (!empty && tasks_of(atomic_load(&share->word), head) == 0)
            empty = share;
        if (who == 0)
            break; /* the shares behind it were never used */
    }
    if (!mine && empty) {
        mine = empty;
        atomic_store(&mine->word, 0);
        atomic_store(&mine->who, ring->me);
    }
    if (!mine)
        mine = &header->taken_by_others;
    /* Other processes may report tasks done that this one has taken. */
    uint64_t word = atomic_load(&mine->word);
    while (!atomic_compare_exchange_weak(&mine->word, &word, with_tasks(tasks_of(word, head) + 1, head)))
        ;
}

static int report_done(goproc_ring *ring, goproc_share *share) {
    uint64_t word = atomic_load(&share->word);
    while (tasks_of(word, head_count(ring)))
        if (atomic_compare_exchange_weak(&share->word, &word, word - with_tasks(1, 0)))
            return 1;
    return 0;
}

static int report_any(goproc_ring *ring) {
    goproc_queue_header *header = ring->header;
    for (int i = 0; i < GOPROC_MOST_SHARES; i++)
        if (atomic_load(&header->taken_by[i].who) == ring->me && report_done(ring, &header->taken_by[i]))
            return 1;
    if (report_done(ring, &header->taken_by_others))
        return 1;
    /* multiprocessing lets any process report a task done. */
    for (int i = 0; i < GOPROC_MOST_SHARES; i++)
        if (report_done(ring, &header->taken_by[i]))
            return 1;
    return 0;
}

/* How many tasks are in the queue, or taken and not reported done. */
static uint64_t tasks_left(goproc_ring *ring) {
    goproc_queue_header *header = ring->header;
    /* Tasks that move meanwhile may count twice, but none is missed: the places are read in the order in which tasks
     * pass them. */
    uint64_t sum = goproc_unfed(ring, 0);
    uint32_t tail = goproc_count_of(atomic_load(&header->tail)), head = head_count(ring);
    sum += tail - head;
    for (int i = 0; i < GOPROC_MOST_SHARES; i++)
        sum += tasks_of(atomic_load(&header->taken_by[i].word), head);
    return sum + tasks_of(atomic_load(&header->taken_by_others.word), head);
}

/* After tasks were lost: no more can have been reported done than there are. */
static void limit_done_ahead(goproc_ring *ring) {
    uint64_t left = tasks_left(ring);
    if (atomic_load(&ring->header->done_ahead) > left)
        atomic_store(&ring->header->done_ahead, (uint32_t)left);
}

uint64_t goproc_unfinished(goproc_ring *ring) {
    uint32_t ahead = atomic_load(&ring->header->done_ahead);
    uint64_t left = tasks_left(ring);
    return left > ahead ? left - ahead : 0;
}

int goproc_task_done(goproc_ring *ring) {
    if (goproc_unfinished(ring) == 0)
        return 0;
    if (!report_any(ring)) /* multiprocessing counts only how often task_done() is called */
        atomic_fetch_add(&ring->header->done_ahead, 1);
    return 1;
}

void goproc_task_was_done(goproc_ring *ring) {
    goproc_queue_header *header = ring->header;
    if (goproc_unfinished(ring) == 0) {
        atomic_fetch_add(&header->join_turn, 1);
        goproc_wake_all(&header->join_bell);
    }
}

uint32_t goproc_tasks_lost(goproc_ring *ring, uint32_t *pid) {
    goproc_queue_header *header = ring->header;
    for (int i = 0; i < GOPROC_MOST_SHARES; i++) {
        goproc_share *share = &header->taken_by[i];
        uint64_t who = atomic_load(&share->who), word = atomic_load(&share->word);
        uint32_t tasks = tasks_of(word, head_count(ring));
        if (!who || !tasks)
            continue;
        int fate = goproc_ring_fate(ring, who);
        if (fate == GOPROC_LEFT)
            atomic_compare_exchange_strong(&share->who, &who, GOPROC_SOMEBODY);
        if (fate != GOPROC_KILLED || !atomic_compare_exchange_strong(&share->word, &word, with_tasks(0, 0)))
            continue;
        *pid = (uint32_t)who;
        limit_done_ahead(ring);
        return tasks;
    }
    return 0;
}

void goproc_ring_left(goproc_ring *ring, uint64_t pid) {
    goproc_queue_header *header = ring->header;
    for (int i = 0; ring->joinable && i < GOPROC_MOST_SHARES; i++) {
        goproc_share *share = &header->taken_by[i];
        uint64_t who = atomic_load(&share->who);
        if (who == 0)
            break;
        if ((uint32_t)who == pid)
            atomic_compare_exchange_strong(&share->who, &who, GOPROC_SOMEBODY);
    }
}

void goproc_rings_left(uint32_t pid) {
    goproc_each_ring(goproc_ring_left, pid);
}
