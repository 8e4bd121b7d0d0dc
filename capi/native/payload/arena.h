/* arena.h - extents: the places in a pool's memory for payloads that do not fit into a ring.
 *
 * A producer (the parent, or one worker) allocates extents in a range of file offsets of its own; the consumer maps
 * what it is told of, and frees it by clearing one word in the extent's header. So no lock is shared, and an extent
 * outlives neither its payload's last reader nor the pool. Freed extents are used again, since touching fresh memory
 * costs ten times as much as copying into warm memory; those that are not used again soon are given back.
 *
 *   arena.c        allocating, mapping, releasing
 *   arena_give.c   giving memory back to the system
 *   arena_fork.c   what a fork, and the end of a pool, make of extents that are still looked into
 */
#ifndef GOPROC_ARENA_H
#define GOPROC_ARENA_H

#include "../layout.h"

#include <stdbool.h>
#include <stddef.h>

/* How many pages of an extent a consumer has for itself at most. */
enum { GOPROC_MOST_OWNED = 32 };

/* How many bytes of free extents stay for the next use: of each producer, and of all that the parent receives.
 * What the parent still looks into counts as well. There is room for payloads of 192 and 256 MiB with what describes
 * them. */
#define GOPROC_MOST_KEPT (UINT64_C(193) << 20)
#define GOPROC_MOST_IDLE (UINT64_C(257) << 20)

/* After so long without use the memory of a free extent is given back. A program that works on one large object after
 * another often does something else for a second or two in between. */
#define GOPROC_IDLE_NS INT64_C(4000000000)

struct goproc_arena;

/* One mapped extent. */
typedef struct {
    struct goproc_arena *arena; /* which lists it; NULL: none does, and the last object that looks into it unmaps it */
    size_t place;               /* its place in the arena's list */
    uint64_t offset;
    size_t size;
    goproc_extent_header *header;
    uint64_t kept;   /* producer: how many of its bytes count as kept */
    uint64_t idle;   /* consumer: how many of its bytes count as idle */
    uint64_t serial; /* consumer: of the use that is looked into */
    uint64_t length; /* consumer: of its payload */
    size_t uses;     /* consumer: how many objects look into it */
    size_t readers;  /* consumer: how many of them never write there */
    void *spare;     /* of a pool that has ended: a private mapping of the same extent, in case of a fork; or NULL */
    uint32_t owned[GOPROC_MOST_OWNED]; /* consumer: which pages are mapped privately */
    uint32_t owned_count;
    bool orphaned; /* consumer: its producer has ended, so nobody uses the extent again */
    bool shared;   /* consumer: a forked child looks into it, too, so it is never given back */
} goproc_mapping;

/* A piece of the memory file. */
typedef struct {
    uint64_t offset, size;
} goproc_piece;

/* The mappings of one side: of the producer's own extents, or of those that a consumer has been told of. */
typedef struct goproc_arena {
    int fd;               /* of the memory file; -1: abandoned. Use goproc_arena_file */
    uint32_t mark;        /* of it: see descriptors.c */
    uint64_t who;         /* the serial of the worker whose arena it is, 0 for the parent */
    uint64_t next, limit; /* the producer's range; next is the first offset never used */
    uint64_t serial;
    uint64_t kept;        /* a producer's: bytes of extents whose memory stays when they are freed */
    uint64_t held, idle;  /* a consumer's: bytes of payloads looked into, and of free extents whose memory it left */
    uint64_t most_idle;   /* a consumer's: what both are at most, if it is to leave more */
    uint64_t most_placed; /* a consumer's: how many bytes of objects may lie in extents instead of being copied */
    uint64_t looked_ns;   /* when it was last looked for what can be given back */
    goproc_mapping **mappings;
    size_t count, capacity;
    goproc_piece *cold; /* a producer's: extents without memory and mapping, to be used again */
    size_t cold_count, cold_capacity;
    goproc_piece *inherited; /* a consumer's: extents that forked children may look into */
    size_t inherited_count;
} goproc_arena;

/* Makes an arena over the memory file fd, which stays the caller's. who: the serial of the worker that it belongs to, 0
 * for the parent; it numbers a producer's range. */
void goproc_arena_init(goproc_arena *arena, int fd, uint64_t who);

/* The descriptor of the memory file, or -1 if the program has closed it, and may have given its number to another
 * file. */
int goproc_arena_file(const goproc_arena *arena);

/* Allocates an extent for length bytes and describes it. Returns its mapping, or NULL with errno set. */
goproc_mapping *goproc_arena_allocate(goproc_arena *arena, uint64_t length, goproc_extent *extent);

/* Copies size bytes to where they belong in the payload of an allocated extent. Fresh memory is filled by a system
 * call: a fault for each page, which clears it first, takes more than twice as long. May be called without the GIL. */
void goproc_mapping_fill(goproc_mapping *mapping, uint64_t at, const void *from, size_t size);

/* Notes that a payload of that length has been filled in. */
void goproc_mapping_filled(goproc_mapping *mapping, uint64_t length);

/* Frees an extent that this producer allocated, unless it has been freed, or used again, meanwhile. */
void goproc_arena_reclaim(goproc_arena *arena, const goproc_extent *extent);

/* Frees what a worker of that serial, which has ended, has taken from this producer and looked into. What it has freed,
 * and would have given back later, is given back. */
void goproc_arena_reclaim_from(goproc_arena *arena, uint64_t worker);

/* Maps an extent that another producer described, or finds its mapping, and uses it. Returns NULL with errno set:
 * EPROTO when the description is impossible. */
goproc_mapping *goproc_arena_map(goproc_arena *arena, const goproc_extent *extent);

/* Copies what lies in an extent that another producer described, and goes on to own it, into memory of this process
 * alone, and uses that. The mapping belongs to no arena. Returns NULL with errno set as goproc_arena_map. */
goproc_mapping *goproc_arena_copy(goproc_arena *arena, const goproc_extent *extent);

/* Gives back what has been free for GOPROC_IDLE_NS: of the extents of out, and of those that in has consumed. It looks
 * for that four times a second at most. */
void goproc_arenas_look(goproc_arena *out, goproc_arena *in);

static inline void goproc_arenas_tidy(goproc_arena *out, goproc_arena *in) {
    if (out->count > 0 || in->count > 0)
        goproc_arenas_look(out, in);
}

/* Gives back what is free, and has the consumers of the rest of out do so, since this producer is about to sleep for
 * long. Returns whether there is something for which it is too early. */
bool goproc_arenas_rest(goproc_arena *out, goproc_arena *in);

/* Gives back the memory of a producer that has ended, but for what this process, or one forked from it, may look
 * into. */
void goproc_arena_forget(goproc_arena *arena, uint64_t range);

/* The same for all producers: the pool has ended. */
void goproc_arena_forget_all(goproc_arena *arena);

/* Before a fork: makes every mapping that is looked into memory of this process alone, which a fork copies on write,
 * and frees the extents. */
void goproc_arena_before_fork(goproc_arena *arena);

/* The same for what pools that have ended have left. */
void goproc_arena_survivors_before_fork(void);

/* In a forked child: unmaps everything that nothing looks into, and forgets the file. Allocates and frees nothing. */
void goproc_arena_abandon(goproc_arena *arena);
void goproc_arena_survivors_abandon(void);

/* Unmaps everything that nothing looks into. The rest goes on without the arena. */
void goproc_arena_clear(goproc_arena *arena);

/* Makes the page at offset of a used mapping private, not the first one: what is written there the producer never sees,
 * and what it writes there later, in another use, this process sees. Returns whether that succeeded. */
bool goproc_mapping_own_page(goproc_mapping *mapping, size_t offset);

/* Notes that a further object looks into a mapping, which never writes there. */
void goproc_mapping_read(goproc_mapping *mapping);

/* Notes that an object, or such a reader, looks into a mapping no more. The last one frees the extent, or unmaps what
 * no arena lists. The mapping may be gone then. */
void goproc_mapping_release(goproc_mapping *mapping);
void goproc_mapping_release_reader(goproc_mapping *mapping);

static inline void *goproc_extent_payload(goproc_extent_header *header) {
    return header + 1;
}

/* What the parts of the arena share.
 *
 * goproc_mapping_map: map size bytes at offset and list the mapping. NULL with errno set.
 * goproc_mapping_list, goproc_mapping_unlist: put a mapping into an arena's list (false: no memory), and take it out.
 * goproc_mapping_drop: take it out, and unmap it.
 * goproc_mapping_private: map that many pages of it privately.
 * goproc_mapping_give: give back the memory of an extent whose owner the caller has made GOPROC_GIVING, which frees it.
 * goproc_mapping_remove: give back the memory of an extent as a whole, which no producer uses again.
 * goproc_memory_punch: give back the memory between two offsets of the file. */
goproc_mapping *goproc_mapping_map(goproc_arena *arena, uint64_t offset, uint64_t size);
bool goproc_mapping_list(goproc_arena *arena, goproc_mapping *mapping);
void goproc_mapping_unlist(goproc_mapping *mapping);
void goproc_mapping_drop(goproc_mapping *mapping);
bool goproc_mapping_private(const goproc_mapping *mapping, size_t page, size_t count);
void goproc_mapping_give(goproc_mapping *mapping);
void goproc_mapping_remove(goproc_mapping *mapping);
void goproc_memory_punch(int fd, uint64_t begin, uint64_t end);

#endif
