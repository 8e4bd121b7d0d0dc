/* arena.h - extents: the places in a pool's memory for payloads that do not fit into a ring.
 *
 * A producer (the parent, or one worker) allocates extents in a range of file offsets of its own. The consumer maps the
 * extents that frames describe, and frees each by clearing one word in its header. So no lock is shared, and an extent
 * is freed when its payload has no reader any more, or the pool ends. Freed extents are used again, because copying
 * into fresh memory takes several times as long as into warm memory. The memory of extents that are not used again soon
 * is given back to the system.
 *
 * An object "looks into" an extent if its memory lies there: an array, placed bytes, a memoryview.
 *
 *   arena.c        allocating, mapping, releasing
 *   arena_give.c   giving memory back to the system
 *   arena_short.c  address space that the program has limited
 *   arena_fork.c   extents that are still looked into when the process forks, or when their pool ends
 */
#ifndef GOPROC_ARENA_H
#define GOPROC_ARENA_H

#include "../layout.h"

#include <stdbool.h>
#include <stddef.h>

/* How many pages of an extent a consumer has for itself at most. */
enum { GOPROC_MOST_OWNED = 32 };

/* How many bytes of free extents stay for the next use: GOPROC_MOST_KEPT of each producer, and GOPROC_MOST_IDLE of
 * all that the parent receives, including what it still looks into. That is room for payloads of 192 and 256 MiB,
 * with their headers. */
#define GOPROC_MOST_KEPT (UINT64_C(193) << 20)
#define GOPROC_MOST_IDLE (UINT64_C(257) << 20)

/* The memory of a free extent is given back after this time without use. The time is that long because a program that
 * works on one large object after another often does something else for a second or two in between. */
#define GOPROC_IDLE_NS INT64_C(4000000000)

struct goproc_arena;

/* One mapped extent. */
typedef struct {
    struct goproc_arena *arena; /* the arena that lists it; NULL: none, and the last object to go unmaps it */
    size_t place;               /* its place in the arena's list */
    uint64_t offset;
    size_t size;   /* of the extent */
    size_t mapped; /* how many of its bytes are mapped: all, or fewer where address space is short */
    goproc_extent_header *header;
    uint64_t kept;   /* producer: how many of its bytes count as kept */
    uint64_t idle;   /* consumer: how many of its bytes count as idle */
    uint64_t serial; /* consumer: of the use whose payload this is */
    uint64_t length; /* consumer: of its payload */
    size_t uses;     /* consumer: how many objects look into it */
    size_t readers;  /* consumer: how many of them never write there */
    void *spare;     /* when the pool has ended: a private mapping of the same extent, in case of a fork; or NULL */
    uint32_t owned[GOPROC_MOST_OWNED]; /* consumer: which pages are mapped privately */
    uint32_t owned_count;
    bool filling;  /* producer: its payload is being filled in, perhaps without the GIL */
    bool orphaned; /* consumer: its producer has ended, so nobody uses the extent again */
    bool shared;   /* consumer: a forked child looks into it, too, so it is never given back */
} goproc_mapping;

/* A piece of the memory file. */
typedef struct {
    uint64_t offset, size;
} goproc_piece;

/* The mappings of a producer's own extents, or of the extents that a consumer has been told of. */
typedef struct goproc_arena {
    int fd;               /* of the memory file; -1: abandoned. Use goproc_arena_file */
    uint32_t mark;        /* of fd: see descriptors.c */
    uint64_t who;         /* the serial of the worker whose arena it is, 0 for the parent */
    uint64_t next, limit; /* the producer's range; next is the first offset never used */
    uint64_t serial;
    uint64_t kept;        /* a producer's: bytes of extents whose memory stays when they are freed */
    uint64_t held, idle;  /* a consumer's: bytes of payloads looked into, and of free extents whose memory it left */
    uint64_t most_idle;   /* a consumer's: it leaves the memory of an extent only while both are at most this */
    uint64_t most_placed; /* a consumer's: how many bytes of objects may lie in extents instead of being copied */
    uint64_t looked_ns;   /* when goproc_arenas_look last looked */
    goproc_mapping **mappings;
    size_t count, capacity;
    goproc_piece *cold; /* a producer's: extents without memory and mapping, to be used again */
    size_t cold_count, cold_capacity;
    goproc_piece *inherited; /* a consumer's: extents that forked children may look into */
    size_t inherited_count;
} goproc_arena;

/* Makes an arena over the memory file fd, which the caller owns. who: the serial of the worker that the arena
 * belongs to, 0 for the parent. It is also the number of a producer's range. */
void goproc_arena_init(goproc_arena *arena, int fd, uint64_t who);

/* The descriptor of the memory file, or -1 if the program has closed it: then its number may be another file's. */
int goproc_arena_file(const goproc_arena *arena);

/* Allocates an extent for length bytes and describes it. Returns its mapping, or NULL with errno set. */
goproc_mapping *goproc_arena_allocate(goproc_arena *arena, uint64_t length, goproc_extent *extent);

/* Copies size bytes into the payload of an allocated extent, at the offset at. Fresh memory is filled by a system call,
 * because page faults, each of which clears a page first, take more than twice as long. May be called without the
 * GIL. */
void goproc_mapping_fill(goproc_mapping *mapping, uint64_t at, const void *from, size_t size);

/* Notes that a payload of that length has been filled in. May be called without the GIL. */
void goproc_mapping_filled(goproc_mapping *mapping, uint64_t length);

/* The producer will not look into the payload any more. */
void goproc_mapping_ready(goproc_mapping *mapping);

/* Frees an extent that this producer allocated, unless it has been freed, or used again, meanwhile. */
void goproc_arena_reclaim(goproc_arena *arena, const goproc_extent *extent);

/* The worker of that serial has ended. Frees the extents of this producer that the worker had taken. Gives back those
 * that the worker had freed, and would have given back later. */
void goproc_arena_reclaim_from(goproc_arena *arena, uint64_t worker);

/* Maps an extent that another producer described, or finds its mapping, and counts one use of it. Returns NULL with
 * errno set, to EPROTO if the description is impossible. */
goproc_mapping *goproc_arena_map(goproc_arena *arena, const goproc_extent *extent);

/* Copies the payload of an extent that another producer described to private memory of this process. The producer keeps
 * the extent. Returns the mapping of the copy, which belongs to no arena, with one use; or NULL with errno set, as
 * goproc_arena_map. */
goproc_mapping *goproc_arena_copy(goproc_arena *arena, const goproc_extent *extent);

/* Gives back the memory of extents that have been free for GOPROC_IDLE_NS: of the extents of out, and of those that in
 * has consumed. It looks for them four times a second at most. */
void goproc_arenas_look(goproc_arena *out, goproc_arena *in);

static inline void goproc_arenas_tidy(goproc_arena *out, goproc_arena *in) {
    if (out->count > 0 || in->count > 0)
        goproc_arenas_look(out, in);
}

/* For a process that is about to sleep for long. Gives back the free extents of out, and has the consumers give back
 * the others when they free them. Gives back the extents that in has consumed, if they have been free for
 * GOPROC_IDLE_NS. Returns whether there are others, for which it is too early. */
bool goproc_arenas_rest(goproc_arena *out, goproc_arena *in);

/* Gives back the memory of a producer that has ended, except what this process, or a child of it, may look into. range
 * is that of the producer. */
void goproc_arena_forget(goproc_arena *arena, uint64_t range);

/* The same for all producers: the pool has ended. */
void goproc_arena_forget_all(goproc_arena *arena);

/* Before a fork: makes every mapping that is looked into private memory of this process, and frees the extents. */
void goproc_arena_before_fork(goproc_arena *arena);

/* The same for extents of pools that have ended. */
void goproc_arena_survivors_before_fork(void);

/* In a forked child: unmaps all mappings that nothing looks into, and forgets the file. It may neither allocate nor
 * free memory of the heap. */
void goproc_arena_abandon(goproc_arena *arena);
void goproc_arena_survivors_abandon(void);

/* Unmaps all mappings that nothing looks into. The others go on without the arena. */
void goproc_arena_clear(goproc_arena *arena);

/* Makes the page at offset of a used mapping private; it cannot be the first page. The producer never sees what this
 * process writes there. But this process sees what the producer writes there later, for another use. Returns whether
 * that succeeded. */
bool goproc_mapping_own_page(goproc_mapping *mapping, size_t offset);

/* Notes that one more object looks into a mapping: a reader, which never writes there. */
void goproc_mapping_read(goproc_mapping *mapping);

/* Note that an object, or a reader, no longer looks into a mapping. When none does any more, the extent is freed; a
 * mapping that no arena lists is unmapped. The mapping may be gone after the call. */
void goproc_mapping_release(goproc_mapping *mapping);
void goproc_mapping_release_reader(goproc_mapping *mapping);

/* How many bytes of an extent have memory. A process that does not hold the extent may read an old number. */
static inline uint64_t goproc_extent_filled(const goproc_extent_header *header) {
    return atomic_load_explicit(&header->filled, memory_order_relaxed);
}

static inline void goproc_extent_set_filled(goproc_extent_header *header, uint64_t bytes) {
    atomic_store_explicit(&header->filled, bytes, memory_order_relaxed);
}

static inline void *goproc_extent_payload(goproc_extent_header *header) {
    return header + 1;
}

/* What arena.c, arena_give.c and arena_fork.c share.
 *
 * goproc_address_space_is_short: whether the program has limited its address space, and little of it is left.
 * goproc_arena_shrink: unmap what this producer can do without: all free extents, and what it has written to others.
 * goproc_arena_retire: give back a producer's free extents, with their mappings: all, or only those that are old.
 * goproc_mapping_map: map the first bytes, mapped, of an extent of that size, and list the mapping. Returns NULL with
 * errno set.
 * goproc_mapping_list: put a mapping into an arena's list. Returns false if there is no memory.
 * goproc_mapping_unlist: remove a mapping from its arena's list.
 * goproc_mapping_drop: unlist and unmap a mapping.
 * goproc_mapping_private: map count pages of it privately, from page on.
 * goproc_mapping_give: give back the memory of an extent, and free it. The caller has put GOPROC_GIVING into its owner.
 * goproc_mapping_remove: give back all memory of an extent that no producer will use again.
 * goproc_memory_punch: give back the memory between two offsets of the file. */
bool goproc_address_space_is_short(void);
void goproc_arena_shrink(goproc_arena *arena);
void goproc_arena_retire(goproc_arena *arena, bool all);
goproc_mapping *goproc_mapping_map(goproc_arena *arena, uint64_t offset, uint64_t size, uint64_t mapped);
bool goproc_mapping_list(goproc_arena *arena, goproc_mapping *mapping);
void goproc_mapping_unlist(goproc_mapping *mapping);
void goproc_mapping_drop(goproc_mapping *mapping);
bool goproc_mapping_private(const goproc_mapping *mapping, size_t page, size_t count);
void goproc_mapping_give(goproc_mapping *mapping);
void goproc_mapping_remove(goproc_mapping *mapping);
void goproc_memory_punch(int fd, uint64_t begin, uint64_t end);

#endif
