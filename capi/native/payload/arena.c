/* Extents: allocating, mapping, releasing; see arena.h. */
#define _GNU_SOURCE
#include "arena.h"
#include "../descriptors.h"
#include "../wake.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

enum {
    SMALLEST = 64 << 10,
    /* How much memory an extent may keep for the next use if this producer frees it, not a consumer. Only this producer
     * could give the memory back later, and it may do nothing for long. */
    MOST_LEFT_BEHIND = 1 << 20,
};

void goproc_arena_init(goproc_arena *arena, int fd, uint64_t who) {
    *arena = (goproc_arena){.fd = fd, .mark = goproc_mark(fd), .who = who, .most_idle = UINT64_MAX};
    arena->next = GOPROC_EXTENTS_START + who * GOPROC_EXTENT_RANGE;
    arena->limit = arena->next + GOPROC_EXTENT_RANGE;
}

int goproc_arena_file(const goproc_arena *arena) {
    return arena->fd >= 0 && goproc_mark(arena->fd) == arena->mark ? arena->fd : -1;
}

/* The size of the extent for length bytes. Sizes are powers of two, so that a freed extent often fits the next payload.
 * Pages that are never touched cost nothing. */
static uint64_t size_for(uint64_t length) {
    uint64_t size = SMALLEST;
    while (size < length + sizeof(goproc_extent_header))
        size *= 2;
    return size;
}

static goproc_mapping *find(const goproc_arena *arena, uint64_t offset) {
    for (size_t i = 0; i < arena->count; i++)
        if (arena->mappings[i]->offset == offset)
            return arena->mappings[i];
    return NULL;
}

bool goproc_mapping_list(goproc_arena *arena, goproc_mapping *mapping) {
    if (arena->count == arena->capacity) {
        size_t capacity = arena->capacity ? 2 * arena->capacity : 16;
        goproc_mapping **grown = realloc(arena->mappings, capacity * sizeof *grown);
        if (grown == NULL) {
            errno = ENOMEM;
            return false;
        }
        arena->mappings = grown;
        arena->capacity = capacity;
    }
    mapping->arena = arena;
    mapping->place = arena->count;
    arena->mappings[arena->count++] = mapping;
    return true;
}

void goproc_mapping_unlist(goproc_mapping *mapping) {
    goproc_arena *arena = mapping->arena;
    goproc_mapping *last = arena->mappings[--arena->count];
    arena->mappings[mapping->place] = last;
    last->place = mapping->place;
    arena->kept -= mapping->kept;
    arena->idle -= mapping->idle;
    if (mapping->uses > 0)
        arena->held -= mapping->length;
    mapping->kept = mapping->idle = 0;
    mapping->arena = NULL;
}

static void unmap(goproc_mapping *mapping) {
    munmap(mapping->header, mapping->mapped);
    if (mapping->spare != NULL)
        munmap(mapping->spare, mapping->mapped);
    free(mapping);
}

void goproc_mapping_drop(goproc_mapping *mapping) {
    goproc_mapping_unlist(mapping);
    unmap(mapping);
}

/* The pages for a payload of length bytes, with its header. */
static uint64_t pages_for(uint64_t length) {
    uint64_t bytes = sizeof(goproc_extent_header) + length;
    return (bytes + GOPROC_PAGE_SIZE - 1) / GOPROC_PAGE_SIZE * GOPROC_PAGE_SIZE;
}

goproc_mapping *goproc_mapping_map(goproc_arena *arena, uint64_t offset, uint64_t size, uint64_t mapped) {
    goproc_mapping *mapping = calloc(1, sizeof *mapping);
    if (mapping == NULL)
        return NULL;
    void *memory = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, goproc_arena_file(arena), (off_t)offset);
    if (memory == MAP_FAILED) {
        free(mapping);
        return NULL;
    }
    *mapping = (goproc_mapping){.offset = offset, .size = size, .mapped = mapped, .header = memory};
    if (!goproc_mapping_list(arena, mapping)) {
        unmap(mapping);
        errno = ENOMEM;
        return NULL;
    }
    return mapping;
}

/* Returns the free extent of that size that was used last. It prefers one with memory to one without. So extents that
 * are no longer needed stay unused, and are given back. Returns NULL when there is none. */
static goproc_mapping *free_mapping(const goproc_arena *arena, uint64_t size) {
    goproc_mapping *best = NULL;
    uint64_t best_used = 0;
    for (size_t i = 0; i < arena->count; i++) {
        goproc_extent_header *header = arena->mappings[i]->header;
        if (arena->mappings[i]->size != size || arena->mappings[i]->mapped != size ||
            atomic_load_explicit(&header->owner, memory_order_acquire) != 0)
            continue;
        uint64_t used =
            goproc_extent_filled(header) > 0 ? atomic_load_explicit(&header->used_ns, memory_order_relaxed) : 0;
        if (best == NULL || used > best_used) {
            best = arena->mappings[i];
            best_used = used;
        }
    }
    return best;
}

/* An extent of that size that has neither mapping nor memory. mapped: how much of it is mapped. */
static goproc_mapping *fresh_mapping(goproc_arena *arena, uint64_t size, uint64_t mapped) {
    for (size_t i = arena->cold_count; i-- > 0;) {
        if (arena->cold[i].size != size)
            continue;
        goproc_mapping *mapping = goproc_mapping_map(arena, arena->cold[i].offset, size, mapped);
        if (mapping != NULL)
            arena->cold[i] = arena->cold[--arena->cold_count];
        return mapping;
    }
    if (arena->limit - arena->next < size) {
        errno = ENOMEM;
        return NULL;
    }
    goproc_mapping *mapping = goproc_mapping_map(arena, arena->next, size, mapped);
    if (mapping != NULL)
        arena->next += size;
    return mapping;
}

goproc_mapping *goproc_arena_allocate(goproc_arena *arena, uint64_t length, goproc_extent *extent) {
    if (length > GOPROC_EXTENT_RANGE / 2) {
        errno = ENOMEM;
        return NULL;
    }
    uint64_t size = size_for(length), serial = ++arena->serial, nobody;
    goproc_mapping *mapping;
    bool is_short = goproc_address_space_is_short();
    if (is_short)
        goproc_arena_shrink(arena);
    do { /* again if somebody has begun to give the extent back meanwhile */
        mapping = is_short ? NULL : free_mapping(arena, size);
        if (mapping == NULL)
            mapping = fresh_mapping(arena, size, is_short ? pages_for(length) : size);
        if (mapping == NULL)
            return NULL;
        nobody = 0;
    } while (!atomic_compare_exchange_strong(&mapping->header->owner, &nobody, serial));
    goproc_extent_header *header = mapping->header;
    uint64_t memory = sizeof *header + length, filled = goproc_extent_filled(header);
    if (memory < filled && filled <= size)
        memory = filled;
    arena->kept -= mapping->kept;
    bool keep = !is_short && arena->kept + memory <= GOPROC_MOST_KEPT;
    mapping->kept = keep ? memory : 0;
    arena->kept += mapping->kept;
    atomic_store_explicit(&header->keep, keep, memory_order_relaxed);
    atomic_store_explicit(&header->holder, 0, memory_order_relaxed);
    atomic_store_explicit(&header->used_ns, goproc_now_ns(), memory_order_relaxed);
    mapping->filling = true;
    *extent = (goproc_extent){.offset = mapping->offset, .length = length, .serial = serial};
    return mapping;
}

/* Whether write(2) may write up to the offset end. Beyond RLIMIT_FSIZE, which the program may have set since the
 * file was made, the kernel would send a signal. Stores into the mapping have no limit. */
static bool may_write(uint64_t end) {
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && (limit.rlim_cur == RLIM_INFINITY || end <= limit.rlim_cur);
}

void goproc_mapping_fill(goproc_mapping *mapping, uint64_t at, const void *from, size_t size) {
    const uint8_t *bytes = from;
    uint64_t offset = sizeof(goproc_extent_header) + at;
    if (size >= GOPROC_PAGE_SIZE && offset + size > goproc_extent_filled(mapping->header) &&
        may_write(mapping->offset + offset + size)) {
        ssize_t written;
        int file = goproc_arena_file(mapping->arena);
        while (size > 0 && (written = pwrite(file, bytes, size, (off_t)(mapping->offset + offset))) > 0) {
            bytes += written;
            offset += (uint64_t)written;
            size -= (size_t)written;
        }
    }
    memcpy((uint8_t *)mapping->header + offset, bytes, size); /* the rest, which could not be written */
}

void goproc_mapping_filled(goproc_mapping *mapping, uint64_t length) {
    goproc_extent_header *header = mapping->header;
    uint64_t filled = goproc_extent_filled(header), end = sizeof *header + length;
    uint64_t begin = filled & ~(uint64_t)(GOPROC_PAGE_SIZE - 1);
    if (end <= filled)
        return;
    if (atomic_load_explicit(&header->keep, memory_order_relaxed)) /* so that the next use has no page faults */
        (void)madvise((uint8_t *)header + begin, end - begin, MADV_POPULATE_READ);
    goproc_extent_set_filled(header, end);
}

/* Frees an extent whose owner is owner, and gives back its memory. Only a small extent keeps its memory for the next
 * use. */
static void reclaim(const goproc_arena *arena, goproc_mapping *mapping, uint64_t owner) {
    goproc_extent_header *header = mapping->header;
    bool keep =
        atomic_load(&header->keep) && goproc_extent_filled(header) <= MOST_LEFT_BEHIND && !(owner & GOPROC_GIVING);
    if (atomic_compare_exchange_strong(&header->owner, &owner, keep ? 0 : GOPROC_GIVING | arena->who) && !keep)
        goproc_mapping_give(mapping);
}

void goproc_arena_reclaim(goproc_arena *arena, const goproc_extent *extent) {
    goproc_mapping *mapping = find(arena, extent->offset);
    if (mapping != NULL)
        reclaim(arena, mapping, extent->serial);
}

void goproc_arena_reclaim_from(goproc_arena *arena, uint64_t worker) {
    for (size_t i = 0; i < arena->count; i++) {
        goproc_extent_header *header = arena->mappings[i]->header;
        uint64_t owner = atomic_load(&header->owner);
        bool its = owner & GOPROC_GIVING ? owner == (GOPROC_GIVING | worker) : atomic_load(&header->holder) == worker;
        if (its && (owner != 0 || goproc_extent_filled(header) > 0))
            reclaim(arena, arena->mappings[i], owner);
    }
}

/* Whether an extent can have this description; if not, errno is set. */
static bool is_possible(const goproc_extent *extent) {
    if (extent->offset < GOPROC_EXTENTS_START || extent->offset % SMALLEST != 0 ||
        extent->length > GOPROC_EXTENT_RANGE / 2 || extent->offset > GOPROC_MEMORY_SIZE - GOPROC_EXTENT_RANGE ||
        extent->serial == 0) {
        errno = EPROTO;
        return false;
    }
    return true;
}

bool goproc_mapping_private(const goproc_mapping *mapping, size_t page, size_t count) {
    return mmap((uint8_t *)mapping->header + page * GOPROC_PAGE_SIZE, count * GOPROC_PAGE_SIZE, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_FIXED, goproc_arena_file(mapping->arena),
                (off_t)(mapping->offset + page * GOPROC_PAGE_SIZE)) != MAP_FAILED;
}

/* Makes the private pages show what the producer has written, not what this process had written to them before. */
static bool renew(goproc_mapping *mapping) {
    if (mapping->owned_count == GOPROC_MOST_OWNED) { /* after payloads of many different layouts */
        if (mmap(mapping->header, mapping->mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                 goproc_arena_file(mapping->arena), (off_t)mapping->offset) == MAP_FAILED)
            return false;
        mapping->owned_count = 0;
    }
    for (uint32_t i = 0; i < mapping->owned_count; i++)
        if (madvise((uint8_t *)mapping->header + (size_t)mapping->owned[i] * GOPROC_PAGE_SIZE, GOPROC_PAGE_SIZE,
                    MADV_DONTNEED) < 0)
            return false;
    return true;
}

goproc_mapping *goproc_arena_map(goproc_arena *arena, const goproc_extent *extent) {
    if (!is_possible(extent))
        return NULL;
    /* The size of an extent never changes, and the length of any payload in it tells the size. */
    uint64_t size = size_for(extent->length), needed = pages_for(extent->length);
    goproc_mapping *mapping = find(arena, extent->offset);
    if (mapping != NULL && mapping->size == size && mapping->mapped < needed && mapping->uses == 0) {
        goproc_mapping_drop(mapping);
        mapping = NULL;
    }
    if (mapping == NULL)
        mapping = goproc_mapping_map(arena, extent->offset, size, goproc_address_space_is_short() ? needed : size);
    else if (mapping->size != size || mapping->uses > 0) {
        errno = EPROTO;
        return NULL;
    } else if (!renew(mapping))
        return NULL;
    if (mapping != NULL) {
        arena->idle -= mapping->idle;
        arena->held += extent->length;
        mapping->idle = 0;
        mapping->uses = 1;
        mapping->serial = extent->serial;
        mapping->length = extent->length;
        atomic_store_explicit(&mapping->header->holder, arena->who, memory_order_relaxed);
    }
    return mapping;
}

bool goproc_mapping_own_page(goproc_mapping *mapping, size_t offset) {
    uint32_t page = (uint32_t)(offset / GOPROC_PAGE_SIZE);
    if (mapping->arena == NULL)
        return true;
    if (page == 0)
        return false; /* the word that frees the extent is there */
    for (uint32_t i = 0; i < mapping->owned_count; i++)
        if (mapping->owned[i] == page)
            return true;
    if (mapping->owned_count == GOPROC_MOST_OWNED || !goproc_mapping_private(mapping, page, 1))
        return false;
    mapping->owned[mapping->owned_count++] = page;
    return true;
}

goproc_mapping *goproc_arena_copy(goproc_arena *arena, const goproc_extent *extent) {
    if (!is_possible(extent))
        return NULL;
    size_t size = sizeof(goproc_extent_header) + extent->length;
    goproc_mapping *copy = calloc(1, sizeof *copy);
    if (copy == NULL)
        return NULL;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        free(copy);
        return NULL;
    }
    *copy = (goproc_mapping){.size = size, .mapped = size, .header = memory, .uses = 1};
    (void)madvise(memory, size, MADV_HUGEPAGE); /* without huge pages, it is only slower */
    void *original = mmap(NULL, size, PROT_READ, MAP_SHARED, goproc_arena_file(arena), (off_t)extent->offset);
    if (original == MAP_FAILED) {
        unmap(copy);
        return NULL;
    }
    memcpy(memory, original, size);
    munmap(original, size);
    return copy;
}

void goproc_mapping_read(goproc_mapping *mapping) {
    mapping->uses++;
    mapping->readers++;
}

void goproc_mapping_release_reader(goproc_mapping *mapping) {
    mapping->readers--;
    goproc_mapping_release(mapping);
}

/* Frees an extent that nothing looks into any more. Its memory stays if its producer wants that (keep), and this
 * process has not left too much memory in other extents. */
static void free_extent(goproc_arena *arena, goproc_mapping *mapping) {
    goproc_extent_header *header = mapping->header;
    uint64_t filled = goproc_extent_filled(header), owner = mapping->serial;
    uint64_t memory = filled < mapping->size ? filled : mapping->size;
    atomic_store_explicit(&header->used_ns, goproc_now_ns(), memory_order_relaxed);
    if (atomic_load(&header->keep) && arena->held + arena->idle + memory <= arena->most_idle &&
        !goproc_address_space_is_short()) {
        mapping->idle = memory;
        arena->idle += memory;
        if (!atomic_compare_exchange_strong(&header->owner, &owner, 0) || atomic_load(&header->keep))
            return;
        owner = 0; /* the producer has just cleared keep, and may have seen the extent still in use */
    }
    if (atomic_compare_exchange_strong(&header->owner, &owner, GOPROC_GIVING | arena->who))
        goproc_mapping_give(mapping);
    goproc_mapping_drop(mapping);
}

void goproc_mapping_release(goproc_mapping *mapping) {
    if (--mapping->uses > 0)
        return;
    goproc_arena *arena = mapping->arena;
    if (arena == NULL) {
        unmap(mapping);
        return;
    }
    arena->held -= mapping->length;
    if (mapping->shared)
        goproc_mapping_drop(mapping);
    else if (mapping->orphaned) {
        goproc_mapping_remove(mapping);
        goproc_mapping_drop(mapping);
    } else
        free_extent(arena, mapping);
}
