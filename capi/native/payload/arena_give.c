/* Extents: giving memory back to the system; see arena.h.
 *
 * The problem: a copy into memory that was used before is four to ten times as fast as a copy into fresh memory, so
 * freed extents are to be used again. But until then nobody else can have their memory: the system does not reclaim
 * shared memory. Nothing tells beforehand whether an extent will be used again. And many pools have no thread that
 * could watch the clock.
 *
 * The solution has two limits. By size: a producer counts the memory of its extents. It clears `keep` of those that go
 * beyond GOPROC_MOST_KEPT. Whoever frees such an extent gives its memory back at once. The parent frees what all
 * workers produce. It also gives memory back at once when it has left GOPROC_MOST_IDLE to all workers together. By age:
 * an extent that has been free for GOPROC_IDLE_NS is given back when its producer, or its consumer, does something, or
 * by a worker that has slept for that time. Before a worker sleeps without a time limit, it clears `keep` of the
 * extents that the parent still looks into, so that the parent gives them back when it frees them. So each extent is
 * given back by somebody. For arguments it is the worker that consumed them; for results it is the parent, or the
 * worker that made them.
 *
 * Whoever gives a free extent back first puts GOPROC_GIVING into the word `owner`, by compare-and-swap. A producer
 * takes a free extent in the same way, so only one of them gets it. The first page, with the header, stays: it says
 * that the rest has no memory. Later the producer gives this page back, too, and unmaps the extent. Then it remembers
 * only the extent's place in the file.
 *
 * The limits: while the main program does nothing with the pool, and a worker is busy with one task, the memory of what
 * that worker has received or made may stay: up to GOPROC_MOST_KEPT of arguments and GOPROC_MOST_IDLE of results.
 */
#define _GNU_SOURCE
#include "arena.h"
#include "../wake.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { LOOK_NS = 250000000 };

void goproc_memory_punch(int fd, uint64_t begin, uint64_t end) {
    if (begin < end)
        (void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)begin, (off_t)(end - begin));
}

void goproc_mapping_give(goproc_mapping *mapping) {
    goproc_memory_punch(goproc_arena_file(mapping->arena), mapping->offset + GOPROC_PAGE_SIZE,
                        mapping->offset + mapping->size);
    goproc_extent_set_filled(mapping->header, 0);
    atomic_store(&mapping->header->owner, 0);
}

void goproc_mapping_remove(goproc_mapping *mapping) {
    if (mapping->arena->fd >= 0) {
        goproc_memory_punch(goproc_arena_file(mapping->arena), mapping->offset, mapping->offset + mapping->size);
        return;
    }
    /* The file is closed. So map the whole extent a second time: in the first mapping, some pages may be private. */
    void *whole = mremap(mapping->header, 0, mapping->mapped, MREMAP_MAYMOVE);
    if (whole == MAP_FAILED)
        return;
    (void)madvise(whole, mapping->mapped, MADV_REMOVE);
    munmap(whole, mapping->mapped);
}

static bool claim(const goproc_arena *arena, goproc_extent_header *header) {
    uint64_t nobody = 0;
    return atomic_compare_exchange_strong(&header->owner, &nobody, GOPROC_GIVING | arena->who);
}

static bool is_old(const goproc_extent_header *header, uint64_t now) {
    uint64_t used = atomic_load_explicit(&header->used_ns, memory_order_relaxed);
    return used + GOPROC_IDLE_NS <= now;
}

/* Gives back a free extent of this producer's, with its mapping. Does nothing if somebody has taken the extent
 * meanwhile, or if there is no memory to note its place. */
static void retire(goproc_mapping *mapping) {
    goproc_arena *arena = mapping->arena;
    if (arena->cold_count == arena->cold_capacity) {
        size_t capacity = arena->cold_capacity ? 2 * arena->cold_capacity : 16;
        goproc_piece *grown = realloc(arena->cold, capacity * sizeof *grown);
        if (grown == NULL)
            return;
        arena->cold = grown;
        arena->cold_capacity = capacity;
    }
    if (!claim(arena, mapping->header))
        return;
    arena->cold[arena->cold_count++] = (goproc_piece){mapping->offset, mapping->size};
    goproc_memory_punch(goproc_arena_file(arena), mapping->offset,
                        mapping->offset + mapping->size); /* all of it reads as 0 from now on, its owner, too */
    goproc_mapping_drop(mapping);
}

void goproc_arena_retire(goproc_arena *out, bool all) {
    uint64_t now = goproc_now_ns();
    for (size_t i = out->count;
         i-- > 0;) { /* from the end, because the last mapping takes the place of a dropped one */
        goproc_extent_header *header = out->mappings[i]->header;
        if (atomic_load(&header->owner) == 0 && (all || goproc_extent_filled(header) == 0 || is_old(header, now)))
            retire(out->mappings[i]);
    }
}

/* Whether the first page has memory. Reading it instead would give it some. */
static bool has_memory(void *page) {
    unsigned char resident = 1;
    (void)mincore(page, GOPROC_PAGE_SIZE, &resident);
    return resident & 1;
}

/* Gives back the extents that this consumer has freed, if nobody has used them for GOPROC_IDLE_NS. Returns whether
 * there are others that it has freed more recently. resting: this process is going to sleep, so extents that others use
 * are unmapped. */
static bool leave_old(goproc_arena *in, uint64_t now, bool resting) {
    bool more = false;
    for (size_t i = in->count; i-- > 0;) {
        goproc_mapping *mapping = in->mappings[i];
        goproc_extent_header *header = mapping->header;
        if (mapping->uses > 0 || mapping->shared)
            continue;
        if (!has_memory(header))
            goproc_mapping_drop(mapping); /* its producer has given it back */
        else if (atomic_load(&header->owner) != 0 || atomic_load(&header->holder) != in->who) {
            if (resting)
                goproc_mapping_drop(mapping); /* another consumer has used it since, or will */
        } else if (!is_old(header, now))
            more = true;
        else {
            if (claim(in, header))
                goproc_mapping_give(mapping);
            goproc_mapping_drop(mapping);
        }
    }
    return more;
}

void goproc_arenas_look(goproc_arena *out, goproc_arena *in) {
    uint64_t now = goproc_now_ns();
    if (now - out->looked_ns < LOOK_NS)
        return;
    out->looked_ns = now;
    goproc_arena_retire(out, false);
    (void)leave_old(in, now, false);
}

bool goproc_arenas_rest(goproc_arena *out, goproc_arena *in) {
    for (size_t i = out->count; i-- > 0;) {
        goproc_extent_header *header = out->mappings[i]->header;
        atomic_store(&header->keep, 0);
        if (atomic_load(&header->owner) == 0)
            retire(out->mappings[i]);
    }
    return leave_old(in, goproc_now_ns(), true);
}

/* The first piece at begin or after it that somebody may look into; if there is none, a piece of no size at end. */
static goproc_piece next_kept(const goproc_arena *arena, uint64_t begin, uint64_t end) {
    goproc_piece first = {end, 0};
    for (size_t i = 0; i < arena->inherited_count; i++)
        if (arena->inherited[i].offset >= begin && arena->inherited[i].offset < first.offset)
            first = arena->inherited[i];
    for (size_t i = 0; i < arena->count; i++)
        if (arena->mappings[i]->offset >= begin && arena->mappings[i]->offset < first.offset)
            first = (goproc_piece){arena->mappings[i]->offset, arena->mappings[i]->size};
    return first;
}

/* Gives back what lies between two offsets. The producers to which that range belongs have ended. */
static void forget(goproc_arena *arena, uint64_t begin, uint64_t end) {
    for (size_t i = arena->count; i-- > 0;) {
        goproc_mapping *mapping = arena->mappings[i];
        if (mapping->offset < begin || mapping->offset >= end)
            continue;
        mapping->orphaned = true;
        if (mapping->uses == 0)
            goproc_mapping_drop(mapping);
    }
    while (begin < end) {
        goproc_piece next = next_kept(arena, begin, end);
        goproc_memory_punch(goproc_arena_file(arena), begin, next.offset);
        begin = next.offset + next.size;
    }
}

void goproc_arena_forget(goproc_arena *arena, uint64_t range) {
    uint64_t begin = GOPROC_EXTENTS_START + range * GOPROC_EXTENT_RANGE;
    forget(arena, begin, begin + GOPROC_EXTENT_RANGE);
}

void goproc_arena_forget_all(goproc_arena *arena) {
    forget(arena, GOPROC_EXTENTS_START, GOPROC_MEMORY_SIZE);
}
