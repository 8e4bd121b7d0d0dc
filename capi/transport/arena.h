/* arena.h - extents: the places in a pool's memory for payloads that do not fit into a ring.
 *
 * A producer (the parent, or one worker) allocates extents in a range of file offsets of its own; the consumer maps
 * what it is told of, and frees it by clearing one word in the extent's header. So no lock is shared, and an extent
 * outlives neither its payload's last reader nor the pool. Freed extents are used again, since touching fresh memory
 * costs ten times as much as copying into warm memory.
 */
#ifndef GOPROC_ARENA_H
#define GOPROC_ARENA_H

#include "layout.h"

#include <stdbool.h>
#include <stddef.h>

/* How many pages of an extent a consumer has for itself at most. */
enum { GOPROC_MOST_OWNED = 32 };

/* One mapped extent. */
typedef struct {
    uint64_t offset;
    size_t size;
    goproc_extent_header *header;
    uint64_t touched; /* producer: so many bytes have memory that is mapped; the others may not */
    uint64_t serial;  /* consumer: of the use that is looked into */
    uint64_t length;  /* consumer: of its payload */
    size_t uses;      /* consumer: how many objects look into it */
    size_t readers;   /* consumer: how many of them never write there */
    int fd; /* -1: no arena lists it, its pages are private, and the last object that looks into it unmaps it */
    uint32_t owned[GOPROC_MOST_OWNED]; /* consumer: which pages are mapped privately */
    uint32_t owned_count;
    bool orphaned; /* consumer: its producer has ended, so nobody uses the extent again */
} goproc_mapping;

/* A piece of the memory file. */
typedef struct {
    uint64_t offset, size;
} goproc_piece;

/* The mappings of one side: of the producer's own extents, or of those that a consumer has been told of. */
typedef struct {
    int fd;
    uint64_t next, limit; /* the producer's range; next is the first offset never used */
    uint64_t serial;
    uint64_t most_placed; /* a consumer's: so many bytes of objects may lie in extents instead of being copied */
    goproc_mapping **mappings;
    size_t count, capacity;
    goproc_piece *inherited; /* a consumer's: extents that forked children may look into */
    size_t inherited_count;
} goproc_arena;

/* Makes an arena over the memory file fd, which stays the caller's. range numbers the producer; a consumer passes any. */
void goproc_arena_init(goproc_arena *arena, int fd, uint64_t range);

/* Allocates an extent for length bytes and describes it. Returns its mapping, or NULL with errno set. */
goproc_mapping *goproc_arena_allocate(goproc_arena *arena, uint64_t length, goproc_extent *extent);

/* Copies size bytes to where they belong in the payload of an allocated extent. Fresh memory is filled by a system call: a
 * fault for each page, which clears it first, takes more than twice as long. May be called without the GIL. */
void goproc_mapping_fill(goproc_mapping *mapping, uint64_t at, const void *from, size_t size);

/* Maps what has been filled, for the next use. length: of the payload. */
void goproc_mapping_filled(goproc_mapping *mapping, uint64_t length);

/* Frees an extent that this producer allocated, unless it has been freed, or used again, meanwhile. */
void goproc_arena_reclaim(goproc_arena *arena, const goproc_extent *extent);

/* Maps an extent that another producer described, or finds its mapping, and uses it. Returns NULL with errno set: EPROTO
 * when the description is impossible. */
goproc_mapping *goproc_arena_map(goproc_arena *arena, const goproc_extent *extent);

/* Copies what lies in an extent that another producer described, and goes on to own it, into memory of this process alone,
 * and uses that. The mapping belongs to no arena. Returns NULL with errno set as goproc_arena_map. */
goproc_mapping *goproc_arena_copy(goproc_arena *arena, const goproc_extent *extent);

/* Before a fork: makes every mapping that is looked into private to each of the two processes, as other memory is. What is
 * only read is copied for that. The extents of all else are kept from being used again: the other process may look into
 * them for as long as it likes. */
void goproc_arena_before_fork(goproc_arena *arena);

/* Gives the memory of free extents back to the system. Returns whether there are others. */
bool goproc_arena_trim(goproc_arena *arena);

/* Gives back the memory of a producer that has ended, but for what this process, or one forked from it, may look into. */
void goproc_arena_forget(goproc_arena *arena, uint64_t range);

/* Unmaps everything that nothing looks into, and makes the rest private, as before a fork. */
void goproc_arena_clear(goproc_arena *arena);

/* In a forked child: unmaps everything that nothing looks into, and forgets the file. Allocates and frees nothing. */
void goproc_arena_abandon(goproc_arena *arena);

/* Makes the page at offset of a used mapping private, not the first one: what is written there the producer never sees, and
 * what it writes there later, in another use, this process sees. Returns whether that succeeded. */
bool goproc_mapping_own_page(goproc_mapping *mapping, size_t offset);

/* Notes that a further object looks into a mapping, which never writes there. */
void goproc_mapping_read(goproc_mapping *mapping);

/* Notes that an object, or such a reader, looks into a mapping no more. The last one frees the extent, or unmaps what no
 * arena lists. */
void goproc_mapping_release(goproc_mapping *mapping);
void goproc_mapping_release_reader(goproc_mapping *mapping);

static inline void *goproc_extent_payload(goproc_extent_header *header) {
    return header + 1;
}

#endif
