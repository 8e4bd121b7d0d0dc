/* Extents that are still looked into when the process forks, or when their pool has ended; see arena.h.
 *
 * The problem: what a function received, or a result that the main program keeps, lies in memory that is shared with
 * other processes. A forked child must not see what its parent writes there, nor the other way round, and each keeps
 * the memory as long as it likes.
 *
 * What does not work: to map the extent privately, and leave the copying to later writes. Pages that nobody has written
 * to would still be the pool's. Nobody would know when the last process has finished with them, so the pool's file
 * would keep them to its end. Nor does it work to copy the extent to other memory by memcpy(): that needs the memory
 * twice, and what another thread writes without the GIL at that moment is lost.
 *
 * The solution: before the fork, the whole extent becomes private memory of this process, at the same addresses. That
 * is done in pieces, and each piece is given back at once, so the memory is needed twice for one piece only. If all
 * objects only read the extent, the piece is copied to fresh memory that takes the place of the mapping. If one may
 * write there, the piece is mapped privately, and the kernel is told to copy all its pages at once, as if each were
 * written to. So no thread's writes are lost.
 *
 * When a pool ends, all extents that are not looked into are given back. The others, the survivors, stay as they are,
 * and the file's descriptor is closed. Each is given back when its last object is gone. If the program forks before
 * that, survivors are treated as above. A survivor that may be written to needs a private mapping of the file for that,
 * which cannot be made without the descriptor. So it is made when the pool ends, as a second mapping, the spare.
 *
 * The limits: if memory is too short for this, parent and child go on to share the extent. It is given back when the
 * last mapping of the file is gone.
 */
#define _GNU_SOURCE
#include "arena.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum { PIECE = 16 << 20 };

/* The extents of pools that have ended. */
static goproc_arena survivors = {.fd = -1};

static void sort(uint32_t *numbers, uint32_t count) {
    for (uint32_t i = 1; i < count; i++)
        for (uint32_t j = i; j > 0 && numbers[j] < numbers[j - 1]; j--) {
            uint32_t number = numbers[j];
            numbers[j] = numbers[j - 1];
            numbers[j - 1] = number;
        }
}

static bool take_spare(const goproc_mapping *mapping, size_t page, size_t count) {
    size_t at = page * GOPROC_PAGE_SIZE, size = count * GOPROC_PAGE_SIZE;
    return mremap((uint8_t *)mapping->spare + at, size, size, MREMAP_MAYMOVE | MREMAP_FIXED,
                  (uint8_t *)mapping->header + at) != MAP_FAILED;
}

/* Maps all of a mapping privately. */
static bool detach(goproc_mapping *mapping) {
    bool (*make_private)(const goproc_mapping *, size_t, size_t) = goproc_mapping_private;
    if (mapping->arena->fd < 0) {
        make_private = take_spare;
        if (mapping->spare == NULL || mprotect(mapping->spare, mapping->mapped, PROT_READ | PROT_WRITE) < 0)
            return false;
    }
    size_t page = 0, pages = mapping->mapped / GOPROC_PAGE_SIZE;
    sort(mapping->owned, mapping->owned_count);
    for (uint32_t i = 0; i <= mapping->owned_count; i++) { /* what lies between the pages that are private already */
        size_t end = i < mapping->owned_count ? mapping->owned[i] : pages;
        if (end > page && !make_private(mapping, page, end - page))
            return false;
        page = end + 1;
    }
    return true;
}

/* Has the kernel copy the pages of a private mapping, as if they were written to. */
static bool copy_pages(uint8_t *memory, size_t size) {
    if (madvise(memory, size, MADV_POPULATE_WRITE) == 0)
        return true;
    if (errno != EINVAL)
        return false;
    for (size_t at = 0; at < size; at += GOPROC_PAGE_SIZE) { /* before Linux 5.14: write what is there */
        _Atomic uint32_t *word = (_Atomic uint32_t *)(void *)(memory + at);
        uint32_t value = atomic_load(word);
        atomic_compare_exchange_strong(word, &value, value);
    }
    return true;
}

/* Puts a copy in the place of memory that is only read. A thread that reads there meanwhile at most waits for a page
 * fault. */
static bool replace(uint8_t *memory, size_t size) {
    void *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
        return false;
    (void)madvise(copy, size, MADV_HUGEPAGE);
    memcpy(copy, memory, size);
    if (mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, memory) == MAP_FAILED) {
        munmap(copy, size);
        return false;
    }
    return true;
}

/* Makes a mapping that is looked into private memory of this process, and frees the extent. Returns whether that
 * succeeded. */
static bool make_ours(goproc_mapping *mapping) {
    uint8_t *memory = (uint8_t *)mapping->header;
    size_t size =
        (sizeof(goproc_extent_header) + mapping->length + GOPROC_PAGE_SIZE - 1) & ~(size_t)(GOPROC_PAGE_SIZE - 1);
    atomic_store(&mapping->header->holder,
                 UINT64_MAX); /* no worker's: if this fails, the extent is not freed when this worker has ended */
    goproc_extent_header *shared = mremap(memory, 0, mapping->mapped, MREMAP_MAYMOVE); /* the extent once more */
    if ((void *)shared == MAP_FAILED)
        return false;
    bool reading = mapping->readers == mapping->uses, done = reading || detach(mapping);
    for (size_t at = 0; done && at < size; at += PIECE) {
        size_t piece = size - at < PIECE ? size - at : PIECE, first = at > 0 ? at : GOPROC_PAGE_SIZE;
        done = reading ? replace(memory + at, piece) : copy_pages(memory + at, piece);
        if (done && first < at + piece)
            (void)madvise((uint8_t *)shared + first, at + piece - first, MADV_REMOVE);
    }
    if (done && mapping->orphaned)
        (void)madvise(shared, mapping->mapped, MADV_REMOVE);
    else if (done) {
        uint64_t serial = mapping->serial;
        goproc_extent_set_filled(shared, 0);
        atomic_compare_exchange_strong(&shared->owner, &serial, 0);
    }
    munmap(shared, mapping->mapped);
    if (!done)
        return false;
    if (mapping->mapped > size)
        munmap(memory + size, mapping->mapped - size);
    if (mapping->spare != NULL)
        munmap(mapping->spare, mapping->mapped);
    mapping->spare = NULL;
    mapping->mapped = size;
    goproc_mapping_unlist(mapping);
    return true;
}

/* Notes that a forked child looks into an extent, too. */
static void share(goproc_arena *arena, goproc_mapping *mapping) {
    mapping->shared = true;
    goproc_piece *grown = realloc(arena->inherited, (arena->inherited_count + 1) * sizeof *grown);
    if (grown == NULL)
        return;
    arena->inherited = grown;
    grown[arena->inherited_count++] = (goproc_piece){mapping->offset, mapping->size};
}

void goproc_arena_before_fork(goproc_arena *arena) {
    for (size_t i = arena->count; i-- > 0;) { /* from the end: the last mapping takes the place of one that leaves */
        goproc_mapping *mapping = arena->mappings[i];
        if (mapping->uses > 0 && !mapping->shared && !make_ours(mapping))
            share(arena, mapping);
    }
}

void goproc_arena_survivors_before_fork(void) {
    goproc_arena_before_fork(&survivors);
}

void goproc_arena_abandon(goproc_arena *arena) {
    for (size_t i = 0; i < arena->count; i++) {
        goproc_mapping *mapping = arena->mappings[i];
        mapping->arena = NULL;
        if (mapping->uses == 0)
            munmap(mapping->header, mapping->mapped);
    }
    arena->count = 0;
    arena->fd = -1;
}

void goproc_arena_survivors_abandon(void) {
    goproc_arena_abandon(&survivors);
}

/* Has a mapping that is looked into go on without its pool. */
static void survive(goproc_mapping *mapping) {
    goproc_arena *arena = mapping->arena;
    mapping->orphaned = true;
    if (mapping->readers < mapping->uses && !mapping->shared) {
        void *spare = mmap(NULL, mapping->mapped, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, goproc_arena_file(arena),
                           (off_t)mapping->offset);
        if (spare == MAP_FAILED) {
            if (make_ours(mapping))
                return;
        } else
            mapping->spare = spare;
    }
    goproc_mapping_unlist(mapping);
    if (goproc_mapping_list(&survivors, mapping)) /* if not, a forked child will share it */
        survivors.held += mapping->length;
}

void goproc_arena_clear(goproc_arena *arena) {
    for (size_t i = arena->count; i-- > 0;) {
        if (arena->mappings[i]->uses == 0)
            goproc_mapping_drop(arena->mappings[i]);
        else
            survive(arena->mappings[i]);
    }
    free(arena->mappings);
    free(arena->cold);
    free(arena->inherited);
    arena->mappings = NULL;
    arena->cold = arena->inherited = NULL;
    arena->inherited_count = arena->cold_count = arena->cold_capacity = 0;
    arena->count = arena->capacity = 0;
}
