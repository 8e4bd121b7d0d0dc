/* Extents; see arena.h. */
#define _GNU_SOURCE
#include "arena.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

enum { SMALLEST = 64 << 10 };

void goproc_arena_init(goproc_arena *arena, int fd, uint64_t range) {
    *arena = (goproc_arena){.fd = fd};
    arena->next = GOPROC_EXTENTS_START + range * GOPROC_EXTENT_RANGE;
    arena->limit = arena->next + GOPROC_EXTENT_RANGE;
}

/* The size of the extent that holds length bytes. Pages that are never touched cost nothing, so sizes are powers of
 * two and a freed extent fits often. */
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

/* Maps size bytes at offset and lists the mapping. */
static goproc_mapping *map(goproc_arena *arena, uint64_t offset, uint64_t size) {
    if (arena->count == arena->capacity) {
        size_t capacity = arena->capacity ? 2 * arena->capacity : 16;
        goproc_mapping **grown = realloc(arena->mappings, capacity * sizeof *grown);
        if (grown == NULL) {
            errno = ENOMEM;
            return NULL;
        }
        arena->mappings = grown;
        arena->capacity = capacity;
    }
    goproc_mapping *mapping = calloc(1, sizeof *mapping);
    if (mapping == NULL)
        return NULL;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, arena->fd, (off_t)offset);
    if (memory == MAP_FAILED) {
        free(mapping);
        return NULL;
    }
    *mapping = (goproc_mapping){.offset = offset, .size = size, .header = memory, .fd = arena->fd};
    arena->mappings[arena->count++] = mapping;
    return mapping;
}

static void unmap(goproc_mapping *mapping) {
    munmap(mapping->header, mapping->size);
    free(mapping);
}

goproc_mapping *goproc_arena_allocate(goproc_arena *arena, uint64_t length, goproc_extent *extent) {
    if (length > GOPROC_EXTENT_RANGE / 2) {
        errno = ENOMEM;
        return NULL;
    }
    uint64_t size = size_for(length);
    goproc_mapping *mapping = NULL;
    for (size_t i = 0; i < arena->count && mapping == NULL; i++)
        if (arena->mappings[i]->size == size &&
            atomic_load_explicit(&arena->mappings[i]->header->owner, memory_order_acquire) == 0)
            mapping = arena->mappings[i];
    if (mapping == NULL) {
        if (arena->limit - arena->next < size) {
            errno = ENOMEM;
            return NULL;
        }
        mapping = map(arena, arena->next, size);
        if (mapping == NULL)
            return NULL;
        arena->next += size;
    }
    goproc_extent_header *header = mapping->header;
    header->size = size;
    atomic_store_explicit(&header->owner, ++arena->serial, memory_order_release);
    *extent = (goproc_extent){.offset = mapping->offset, .length = length, .serial = arena->serial};
    return mapping;
}

/* Whether write(2) may write up to there: beyond RLIMIT_FSIZE, which the program may have set since the file was made, a signal
 * comes. Stores into the mapping have no limit. */
static bool may_write(uint64_t end) {
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && (limit.rlim_cur == RLIM_INFINITY || end <= limit.rlim_cur);
}

void goproc_mapping_fill(goproc_mapping *mapping, uint64_t at, const void *from, size_t size) {
    const uint8_t *bytes = from;
    uint64_t offset = sizeof(goproc_extent_header) + at;
    if (size >= GOPROC_PAGE_SIZE && offset + size > mapping->touched && may_write(mapping->offset + offset + size)) {
        ssize_t written;
        while (size > 0 && (written = pwrite(mapping->fd, bytes, size, (off_t)(mapping->offset + offset))) > 0) {
            bytes += written;
            offset += (uint64_t)written;
            size -= (size_t)written;
        }
    }
    memcpy((uint8_t *)mapping->header + offset, bytes, size); /* what is left, if it could not be written */
}

void goproc_mapping_filled(goproc_mapping *mapping, uint64_t length) {
    uint64_t begin = mapping->touched & ~(uint64_t)(GOPROC_PAGE_SIZE - 1);
    uint64_t end = sizeof(goproc_extent_header) + length;
    if (end <= mapping->touched)
        return;
    (void)madvise((uint8_t *)mapping->header + begin, end - begin,
                  MADV_POPULATE_READ); /* else the next use has the faults */
    mapping->touched = end;
}

void goproc_arena_reclaim(goproc_arena *arena, const goproc_extent *extent) {
    goproc_mapping *mapping = find(arena, extent->offset);
    uint64_t serial = extent->serial;
    if (mapping != NULL)
        atomic_compare_exchange_strong(&mapping->header->owner, &serial, 0);
}

/* Whether the description can be one of an extent; if not, errno is set. */
static bool is_possible(const goproc_extent *extent) {
    if (extent->offset < GOPROC_EXTENTS_START || extent->offset % SMALLEST != 0 ||
        extent->length > GOPROC_EXTENT_RANGE / 2 || extent->offset > GOPROC_MEMORY_SIZE - GOPROC_EXTENT_RANGE ||
        extent->serial == 0) {
        errno = EPROTO;
        return false;
    }
    return true;
}

/* Maps pages of an extent privately: nobody but who looks into the mapping writes to them. */
static bool make_private(const goproc_mapping *mapping, size_t page, size_t count) {
    return mmap((uint8_t *)mapping->header + page * GOPROC_PAGE_SIZE, count * GOPROC_PAGE_SIZE, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_FIXED, mapping->fd, (off_t)(mapping->offset + page * GOPROC_PAGE_SIZE)) != MAP_FAILED;
}

/* Drops what this process has written to its private pages, so that they show what the producer has written since. */
static bool renew(goproc_mapping *mapping) {
    if (mapping->owned_count == GOPROC_MOST_OWNED) { /* payloads of many layouts have been here */
        if (mmap(mapping->header, mapping->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, mapping->fd,
                 (off_t)mapping->offset) == MAP_FAILED)
            return false;
        mapping->owned_count = 0;
    }
    for (uint32_t i = 0; i < mapping->owned_count; i++)
        if (madvise((uint8_t *)mapping->header + (size_t)mapping->owned[i] * GOPROC_PAGE_SIZE, GOPROC_PAGE_SIZE,
                    MADV_DONTNEED) < 0)
            return false;
    return true;
}

static void sort(uint32_t *numbers, uint32_t count) {
    for (uint32_t i = 1; i < count; i++)
        for (uint32_t j = i; j > 0 && numbers[j] < numbers[j - 1]; j--) {
            uint32_t number = numbers[j];
            numbers[j] = numbers[j - 1];
            numbers[j - 1] = number;
        }
}

goproc_mapping *goproc_arena_map(goproc_arena *arena, const goproc_extent *extent) {
    if (!is_possible(extent))
        return NULL;
    /* An extent's size never changes and follows from the length of every payload in it. */
    uint64_t size = size_for(extent->length);
    goproc_mapping *mapping = find(arena, extent->offset);
    if (mapping == NULL)
        mapping = map(arena, extent->offset, size);
    else if (mapping->size != size || mapping->uses > 0) {
        errno = EPROTO;
        return NULL;
    } else if (!renew(mapping))
        return NULL;
    if (mapping != NULL) {
        mapping->uses = 1;
        mapping->serial = extent->serial;
        mapping->length = extent->length;
    }
    return mapping;
}

bool goproc_mapping_own_page(goproc_mapping *mapping, size_t offset) {
    uint32_t page = (uint32_t)(offset / GOPROC_PAGE_SIZE);
    if (mapping->fd < 0)
        return true;
    if (page == 0)
        return false; /* the word that frees the extent is there */
    for (uint32_t i = 0; i < mapping->owned_count; i++)
        if (mapping->owned[i] == page)
            return true;
    if (mapping->owned_count == GOPROC_MOST_OWNED || !make_private(mapping, page, 1))
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
    *copy = (goproc_mapping){.size = size, .header = memory, .uses = 1, .fd = -1};
    (void)madvise(memory, size, MADV_HUGEPAGE); /* where there are none, it is only slower */
    void *original = mmap(NULL, size, PROT_READ, MAP_SHARED, arena->fd, (off_t)extent->offset);
    if (original == MAP_FAILED) {
        unmap(copy);
        return NULL;
    }
    memcpy(memory, original, size);
    munmap(original, size);
    return copy;
}

/* Detaches a mapping, private as a whole from now on. */
static bool detach(goproc_mapping *mapping) {
    size_t page = 0, pages = mapping->size / GOPROC_PAGE_SIZE;
    sort(mapping->owned, mapping->owned_count);
    for (uint32_t i = 0; i <= mapping->owned_count;
         i++) { /* up to each page that is private, and has been written to */
        size_t end = i < mapping->owned_count ? mapping->owned[i] : pages;
        if (end > page && !make_private(mapping, page, end - page))
            return false;
        page = end + 1;
    }
    mapping->fd = -1;
    return true;
}

/* Moves what lies in a mapping that is only read to memory of this process alone, at the same addresses, and frees the extent.
 * Threads that read it meanwhile, without the GIL, wait in a page fault at most. */
static bool move_out(goproc_mapping *mapping) {
    size_t size =
        (sizeof(goproc_extent_header) + mapping->length + GOPROC_PAGE_SIZE - 1) & ~(size_t)(GOPROC_PAGE_SIZE - 1);
    goproc_extent_header *shared =
        mmap(NULL, GOPROC_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, mapping->fd, (off_t)mapping->offset);
    if (shared == MAP_FAILED)
        return false;
    void *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool moved = copy != MAP_FAILED;
    if (moved) {
        (void)madvise(copy, size, MADV_HUGEPAGE);
        memcpy(copy, mapping->header, size);
        moved = mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, mapping->header) != MAP_FAILED;
        if (!moved)
            munmap(copy, size);
    }
    if (moved) {
        if (mapping->size > size)
            munmap((uint8_t *)mapping->header + size, mapping->size - size);
        mapping->size = size;
        mapping->fd = -1;
        uint64_t serial = mapping->serial;
        atomic_compare_exchange_strong(&shared->owner, &serial, 0);
    }
    munmap(shared, GOPROC_PAGE_SIZE);
    return moved;
}

static void punch(int fd, uint64_t begin, uint64_t end) {
    if (begin < end)
        (void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)begin, (off_t)(end - begin));
}

static bool make_ours(goproc_arena *arena, goproc_mapping *mapping) {
    uint64_t begin = mapping->offset, end = begin + mapping->size;
    if (mapping->readers == mapping->uses && move_out(mapping)) {
        if (mapping->orphaned)
            punch(arena->fd, begin, end);
        return true;
    }
    goproc_piece *grown = realloc(arena->inherited, (arena->inherited_count + 1) * sizeof *grown);
    if (grown == NULL)
        return false;
    arena->inherited = grown;
    grown[arena->inherited_count++] = (goproc_piece){mapping->offset, mapping->size};
    return detach(mapping);
}

/* The first piece at or behind begin that may be looked into; one of no size at end if there is none. */
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

void goproc_arena_forget(goproc_arena *arena, uint64_t range) {
    uint64_t begin = GOPROC_EXTENTS_START + range * GOPROC_EXTENT_RANGE, end = begin + GOPROC_EXTENT_RANGE;
    size_t kept = 0;
    for (size_t i = 0; i < arena->count; i++) {
        goproc_mapping *mapping = arena->mappings[i];
        if (mapping->offset >= begin && mapping->offset < end)
            mapping->orphaned = true;
        if (mapping->orphaned && mapping->uses == 0)
            unmap(mapping);
        else
            arena->mappings[kept++] = mapping;
    }
    arena->count = kept;
    while (begin < end) {
        goproc_piece next = next_kept(arena, begin, end);
        punch(arena->fd, begin, next.offset);
        begin = next.offset + next.size;
    }
}

void goproc_arena_before_fork(goproc_arena *arena) {
    size_t kept = 0;
    for (size_t i = 0; i < arena->count; i++) {
        goproc_mapping *mapping = arena->mappings[i];
        if (mapping->uses == 0 || !make_ours(arena, mapping))
            arena->mappings[kept++] = mapping;
    }
    arena->count = kept;
}

void goproc_mapping_read(goproc_mapping *mapping) {
    mapping->uses++;
    mapping->readers++;
}

void goproc_mapping_release_reader(goproc_mapping *mapping) {
    mapping->readers--;
    goproc_mapping_release(mapping);
}

void goproc_mapping_release(goproc_mapping *mapping) {
    uint64_t serial = mapping->serial;
    if (--mapping->uses > 0)
        return;
    if (mapping->fd < 0)
        unmap(mapping);
    else if (mapping->orphaned)
        punch(mapping->fd, mapping->offset, mapping->offset + mapping->size);
    else
        atomic_compare_exchange_strong(&mapping->header->owner, &serial, 0);
}

bool goproc_arena_trim(goproc_arena *arena) {
    bool left = false;
    for (size_t i = 0; i < arena->count; i++) {
        goproc_mapping *mapping = arena->mappings[i];
        if (mapping->touched == 0) /* looking would provide a page */
            continue;
        if (atomic_load(&mapping->header->owner) == 0) {
            punch(arena->fd, mapping->offset, mapping->offset + mapping->size);
            mapping->touched = 0;
        } else
            left = true;
    }
    return left;
}

void goproc_arena_abandon(goproc_arena *arena) {
    size_t kept = 0;
    for (size_t i = 0; i < arena->count; i++) {
        if (arena->mappings[i]->uses > 0) {
            arena->mappings[i]->fd = -1;
            arena->mappings[kept++] = arena->mappings[i];
        } else
            munmap(arena->mappings[i]->header, arena->mappings[i]->size);
    }
    arena->count = kept;
    arena->fd = -1;
}

void goproc_arena_clear(goproc_arena *arena) {
    for (size_t i = 0; i < arena->count; i++) {
        if (arena->mappings[i]->uses == 0)
            unmap(arena->mappings[i]);
        else if (!make_ours(arena, arena->mappings[i])) /* no fork will find it in the arena any more */
            arena->mappings[i]->fd = -1;
    }
    free(arena->mappings);
    free(arena->inherited);
    arena->mappings = NULL;
    arena->inherited = NULL;
    arena->inherited_count = 0;
    arena->count = arena->capacity = 0;
}
