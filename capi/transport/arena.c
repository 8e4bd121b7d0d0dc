/* Extents; see arena.h. */
#define _GNU_SOURCE
#include "arena.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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
    *mapping = (goproc_mapping){.offset = offset, .size = size, .header = memory};
    arena->mappings[arena->count++] = mapping;
    return mapping;
}

static void unmap(goproc_mapping *mapping) {
    munmap(mapping->header, mapping->size);
    free(mapping);
}

void *goproc_arena_allocate(goproc_arena *arena, uint64_t length, goproc_extent *extent) {
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
    return goproc_extent_payload(header);
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

goproc_mapping *goproc_arena_map(goproc_arena *arena, const goproc_extent *extent) {
    if (!is_possible(extent))
        return NULL;
    /* An extent's size never changes and follows from the length of every payload in it. */
    uint64_t size = size_for(extent->length);
    goproc_mapping *mapping = find(arena, extent->offset);
    if (mapping == NULL)
        mapping = map(arena, extent->offset, size);
    else if (mapping->size != size || mapping->viewed) {
        errno = EPROTO;
        return NULL;
    }
    return mapping;
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
    *copy = (goproc_mapping){.size = size, .header = memory, .detached = true};
    void *original = mmap(NULL, size, PROT_READ, MAP_SHARED, arena->fd, (off_t)extent->offset);
    if (original == MAP_FAILED) {
        unmap(copy);
        return NULL;
    }
    memcpy(memory, original, size);
    munmap(original, size);
    return copy;
}

/* Replaces a mapping by a private one of the same pages: nobody writes to them but who looks into the mapping. */
static bool make_private(const goproc_arena *arena, goproc_mapping *mapping) {
    return mmap(mapping->header, mapping->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, arena->fd,
                (off_t)mapping->offset) != MAP_FAILED;
}

void goproc_arena_before_fork(goproc_arena *arena) {
    size_t kept = 0;
    for (size_t i = 0; i < arena->count; i++) {
        goproc_mapping *mapping = arena->mappings[i];
        if (mapping->viewed && make_private(arena, mapping))
            mapping->detached = true;
        else
            arena->mappings[kept++] = mapping;
    }
    arena->count = kept;
}

void goproc_mapping_release(goproc_mapping *mapping, uint64_t serial) {
    mapping->viewed = false;
    if (mapping->detached)
        unmap(mapping);
    else
        atomic_compare_exchange_strong(&mapping->header->owner, &serial, 0);
}

void goproc_arena_trim(goproc_arena *arena) {
    for (size_t i = 0; i < arena->count; i++) {
        goproc_mapping *mapping = arena->mappings[i];
        if (atomic_load(&mapping->header->owner) == 0)
            fallocate(arena->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)mapping->offset,
                      (off_t)mapping->size);
    }
}

void goproc_arena_abandon(goproc_arena *arena) {
    size_t kept = 0;
    for (size_t i = 0; i < arena->count; i++) {
        if (arena->mappings[i]->viewed)
            arena->mappings[kept++] = arena->mappings[i];
        else
            munmap(arena->mappings[i]->header, arena->mappings[i]->size);
    }
    arena->count = kept;
    arena->fd = -1;
}

void goproc_arena_clear(goproc_arena *arena) {
    for (size_t i = 0; i < arena->count; i++) {
        if (arena->mappings[i]->viewed) {
            make_private(arena, arena->mappings[i]); /* no fork will find it in the arena any more */
            arena->mappings[i]->detached = true;
        } else
            unmap(arena->mappings[i]);
    }
    free(arena->mappings);
    arena->mappings = NULL;
    arena->count = arena->capacity = 0;
}
