/* layout.h - the memory that a pool shares with its workers, as C sees it.
 *
 * core/ring/layout.go describes it and states the same numbers for Go; a test in capi compares the two.
 */
#ifndef GOPROC_LAYOUT_H
#define GOPROC_LAYOUT_H

#include <stdatomic.h>
#include <stdint.h>

enum {
    GOPROC_PAGE_SIZE = 4096,
    GOPROC_RING_SIZE = 64 << 10,
    GOPROC_SLOT_SIZE = GOPROC_PAGE_SIZE + 2 * GOPROC_RING_SIZE,
    GOPROC_SLOTS_START = GOPROC_PAGE_SIZE,
    GOPROC_MAX_INLINE = 16 << 10,
};

/* The bits of goproc_control.waiting. */
enum { GOPROC_WAITING_COLLECTOR = 1, GOPROC_WAITING_FEED = 2, GOPROC_WAITING_DRAIN = 4, GOPROC_WAITING_WATCH = 8 };

/* What goproc_slot.sleeping says that the worker waits for. */
enum { GOPROC_SLEEP_TASKS = 1, GOPROC_SLEEP_ROOM = 2, GOPROC_SLEEP_TAKEN = 3 };

/* How many parts may be ahead: a worker has sent them, and the program has not taken them. */
enum { GOPROC_PARTS_AHEAD = 128 };

/* A task frame's claim word. Its lower half is the number of the next task to begin. Its upper half is the end: one
 * more than the number of the last task. The payload of a frame that is no batch holds one task, number 0. */
enum { GOPROC_CLAIM_SHIFT = 16 };

static inline uint32_t goproc_claim_next(uint32_t claim) {
    return claim & ((1u << GOPROC_CLAIM_SHIFT) - 1);
}

static inline uint32_t goproc_claim_end(uint32_t claim) {
    return claim >> GOPROC_CLAIM_SHIFT;
}

enum {
    GOPROC_KIND_PAD,
    GOPROC_KIND_TASK,
    GOPROC_KIND_RESULT,
    GOPROC_KIND_FAILURE,
    GOPROC_KIND_LOST,
    GOPROC_KIND_CANCELLED,
    GOPROC_KIND_TIMEOUT,
    GOPROC_KIND_EXITED,
    GOPROC_KIND_RETRIED,
    GOPROC_KIND_MEMORY,
    GOPROC_KIND_PART,
};

/* EXTENT: the payload is a goproc_extent. KEEP, of a task: the worker copies what lies in the extent, and does not free
 * the extent. */
enum { GOPROC_FLAG_EXTENT = 1, GOPROC_FLAG_KEEP = 2 };

/* The number of no job; see core/ring/layout.go. */
#define GOPROC_NO_JOB UINT64_MAX

/* The pool's page. */
typedef struct {
    uint8_t reserved[64];
    _Atomic uint32_t waiting;    /* GOPROC_WAITING_* bits: who in the parent wants to be woken, and when */
    _Atomic uint32_t doorbell;   /* a futex for the collector; it changes with each delivery and each wake */
    _Atomic uint32_t spin_ns;    /* how long to spin at most before sleeping */
    _Atomic uint32_t watch_bell; /* a futex, rung for the pool's own thread while it watches */
    _Atomic uint32_t pump;       /* a futex for the pump; it changes whenever the pump is called */
} goproc_control;

/* A worker's page; its rings follow. Each group of words has cache lines of its own. */
typedef struct {
    _Atomic uint64_t task_tail; /* written by the parent */
    _Atomic uint64_t result_head;
    _Atomic uint32_t stop;
    uint8_t reserved0[4];
    _Atomic uint64_t parts_taken; /* how many of the worker's parts the program has taken, or will not take */
    uint8_t reserved1[32];
    _Atomic uint64_t task_head; /* written by the worker */
    _Atomic uint64_t result_tail;
    uint8_t reserved2[48];
    _Atomic uint32_t sleeping; /* GOPROC_SLEEP_*, 0 when awake; whoever clears it rings the bell */
    _Atomic uint32_t bell;
    uint8_t reserved3[56];
    _Atomic uint64_t current_job; /* the task that runs */
    _Atomic uint64_t current_index;
    _Atomic uint64_t started_ns; /* when it began (CLOCK_MONOTONIC); 0 when no task runs */
    _Atomic uint64_t base_bytes; /* how much memory the worker had then; 0 when it has not said so */
} goproc_slot;

/* A frame's header. The payload follows; frames begin at multiples of eight and do not wrap. */
typedef struct {
    uint32_t size; /* of the payload; of a pad: of the pad as a whole */
    uint16_t kind;
    uint16_t flags;
    uint64_t job;
    uint64_t index;         /* of the payload's task number 0 */
    _Atomic uint32_t claim; /* of a task: the claim word; of a result: how many tasks it answers, from index on */
    uint32_t busy_us;       /* of a result: how long the task took; of a part: its number */
} goproc_frame;

/* Where a payload lies that is too large for a ring. */
typedef struct {
    uint64_t offset; /* of the extent in the pool's memory */
    uint64_t length; /* of the payload */
    uint64_t serial; /* tells uses of the same extent apart */
} goproc_extent;

/* The header of an extent; the payload follows it. Only the producer writes keep. The holder of the extent writes the
 * other fields, and the release of owner publishes them. For other processes their values are only hints. */
typedef struct {
    _Atomic uint64_t owner;   /* the serial of the use that holds the extent; 0: it is free; or GOPROC_GIVING | who */
    _Atomic uint64_t filled;  /* how many bytes have memory, counted from the header's beginning */
    _Atomic uint64_t used_ns; /* when it was taken or freed last, CLOCK_MONOTONIC */
    _Atomic uint64_t holder;  /* the serial of the worker that looks into it, 0 for none */
    _Atomic uint32_t keep;    /* whether the memory stays when the extent is freed, for the next use */
    uint8_t reserved[28];
} goproc_extent_header;

/* A bit of owner: the memory of the free extent is being given back. The other bits are the serial of the worker that
 * does so, 0 for the parent. */
#define GOPROC_GIVING (UINT64_C(1) << 63)

/* Extents begin here; each producer has a range of its own, numbered from 0 (the parent's). */
#define GOPROC_EXTENTS_START (UINT64_C(1) << 40)
#define GOPROC_EXTENT_RANGE (UINT64_C(1) << 37)
#define GOPROC_MEMORY_SIZE (UINT64_C(1) << 62)

static inline uint64_t goproc_frame_space(uint64_t size) {
    return (sizeof(goproc_frame) + size + 7) & ~(uint64_t)7;
}

_Static_assert(sizeof(goproc_frame) == 32, "core/ring/layout.go: HeaderSize");
_Static_assert(sizeof(goproc_extent) == 24, "core/ring/layout.go: ExtentSize");
_Static_assert(sizeof(goproc_extent_header) == 64, "payloads are aligned to 64 bytes");

#endif
