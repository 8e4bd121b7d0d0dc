/* ring.h - queues in shared memory: what the files of this folder share.
 *
 *   gate.c     one process at a time puts, and one gets
 *   ring.c     the memory, and putting items into it and taking them out. Without Python.
 *   ends.c     whether any process can still put, or get
 *   tasks.c    items in the buffers of processes, and items that have been taken and not been reported done
 *   plain.c    plain objects, which are not pickled
 *   queue.c    the Python type behind Queue, JoinableQueue and SimpleQueue
 *   puts.c     its methods that put
 *   waits.c    its methods that wait for items and tasks
 *   event.c    the descriptor that is readable while there are items
 *
 * A queue is one file without a name, which every process that has the queue maps:
 *
 *   header | ring, for items up to 16 KiB | far area, 8 MiB, for larger ones | the rest of an item above 8 MiB
 *
 * Any process may be killed at any instruction. One store completes each step: an item is in the queue when the tail
 * has been stored, and out of it when the head has been stored. Other processes do not see what was written before that
 * store, and the next process overwrites it. docs/design/queues.md has the reasons.
 */
#ifndef GOPROC_RING_H
#define GOPROC_RING_H

#include "../sync/sync.h"

#include <stdalign.h>

enum {
    GOPROC_RING_AT = 16 << 10, /* where the ring begins in the file */
    GOPROC_RING_SIZE = 256 << 10,
    GOPROC_FAR_AT = 320 << 10,
    GOPROC_FAR_SIZE = 8 << 20,
    GOPROC_FAR_UNIT = 4096,
    GOPROC_QUEUE_SIZE = GOPROC_FAR_AT + GOPROC_FAR_SIZE, /* what a process maps */
    GOPROC_MOST_INLINE = 16 << 10,                       /* a larger item goes to the far area */
    GOPROC_MOST_PLAIN = 512,                             /* bytes of a plain object */
    GOPROC_MOST_PARTS = 4096,
    GOPROC_MOST_SHARES = 64,
};

/* A futex: a number that is odd while a thread may sleep on it. Before a thread sleeps, it makes the number odd, checks
 * once more whether it has to wait, and then sleeps if the number is still the same. A waker first changes an odd
 * number to the next even one. So a thread that has checked before that change does not fall asleep after it. */
typedef _Atomic uint32_t goproc_bell;

/* Arms a bell. To be called before the last look; returns what goproc_nap() is to compare. */
static inline uint32_t goproc_bell_armed(goproc_bell *bell) {
    return atomic_fetch_or(bell, 1) | 1;
}

/* One process at a time is inside. The word is 0, or its lower half is the pid of the process inside, and its upper
 * half is the time when that process started, because pids are used again. A process that finds that the process inside
 * has ended empties the gate. */
typedef struct {
    _Atomic uint64_t inside;
    goproc_bell bell;
    uint32_t reserved;
} goproc_gate;

/* What the queue notes of one process; one store changes the word. */
typedef struct {
    _Atomic uint64_t who;  /* as in a gate */
    _Atomic uint64_t word; /* see tasks.c */
} goproc_share;

/* A position: the number of items up to it in the lower half, its offset in the ring in the upper one. So one store
 * moves both. */
static inline uint32_t goproc_count_of(uint64_t position) {
    return (uint32_t)position;
}

static inline uint32_t goproc_offset_of(uint64_t position) {
    return (uint32_t)(position >> 32);
}

static inline uint64_t goproc_position(uint32_t count, uint32_t offset) {
    return (uint64_t)offset << 32 | count;
}

static inline _Atomic uint32_t *goproc_count_word(_Atomic uint64_t *position) {
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the number of items is in the lower half of the word"
#endif
    return (_Atomic uint32_t *)position;
}

typedef struct {
    uint32_t magic;
    uint32_t maxsize; /* 0: no bound */
    uint32_t joinable;
    uint32_t space;           /* the pid namespace of the process that made it */
    _Atomic uint32_t mixed;   /* a process of another pid namespace has it: all count as running */
    _Atomic uint32_t watched; /* somebody waits for the descriptor */
    uint32_t has_ends;        /* the file has the locks of ends.c */

    /* Written by those who put. */
    alignas(64) goproc_gate putting;
    _Atomic uint64_t tail;
    _Atomic uint64_t far_put;    /* up to where the far area has been given out; its offset is this modulo its size */
    _Atomic uint64_t far_floor;  /* everything below is free */
    _Atomic uint64_t far_high;   /* up to where memory has been touched since it was last given back */
    _Atomic uint32_t unfed;      /* how many shares of unfed_by may be in use */
    _Atomic uint64_t unfed_lost; /* items of ended processes that join() has not told of: a pid, then their number */

    /* Written by those who get. */
    alignas(64) goproc_gate getting;
    _Atomic uint64_t head;
    _Atomic uint64_t far_got;
    _Atomic uint32_t done_ahead; /* tasks that were reported done before they were taken */

    alignas(64) goproc_bell item_bell;
    goproc_bell bound_bell; /* for a place in a queue with a maxsize */
    goproc_bell room_bell;
    goproc_bell join_bell;
    _Atomic uint32_t join_turn; /* how often all tasks have been reported done */

    alignas(64) goproc_share unfed_by[GOPROC_MOST_SHARES];
    goproc_share taken_by[GOPROC_MOST_SHARES];
    goproc_share taken_by_others; /* by processes that got no share */
} goproc_queue_header;

/* What is before each item in the ring. */
typedef struct {
    uint32_t room; /* bytes in the ring, with this header */
    uint32_t kind;
    uint64_t size; /* of the item, wherever it is */
} goproc_item;

/* Kinds of items. */
enum {
    GOPROC_ITEM_PICKLE,
    GOPROC_ITEM_BYTES,       /* a bytes object as it is */
    GOPROC_ITEM_PARTS,       /* a number of parts, their sizes, and the parts: a pickle and its buffers */
    GOPROC_ITEM_PLAIN,       /* a plain object, as plain.c writes it */
    GOPROC_ITEM_SKIP,        /* the next item is at the ring's beginning */
    GOPROC_ITEM_FAR = 0x100, /* a flag: the item is in the far area, at a goproc_far */
};

typedef struct {
    uint64_t start, end;
} goproc_far;

/* A queue, as this process knows it. */
typedef struct goproc_ring {
    goproc_queue_header *header; /* NULL: not made yet */
    uint8_t *memory;             /* the same address */
    int fd, event;
    uint32_t fd_mark, event_mark;
    uint32_t maxsize, joinable;
    int ends;                    /* those that are open here */
    int is_ended;                /* nobody can put any more, and the descriptor stays readable */
    unsigned generation;         /* of what follows */
    uint64_t me;                 /* as in a gate */
    uint32_t counted, uncounted; /* items in the program's buffer that count in the share, and that do not */
    goproc_sync_spinner getting, putting;
    struct goproc_ring *next;
} goproc_ring;

/* In the size of a part: it is the contents of a bytes object, and arrives as one. */
#define GOPROC_PART_OF_BYTES (UINT64_C(1) << 63)

/* A piece of an item to be put. */
typedef struct {
    const void *bytes;
    size_t size;
    int is_bytes; /* the contents of a bytes object */
} goproc_piece;

/* ---- gate.c */

/* Enters if nobody is inside. Returns whether it has. */
static inline int goproc_gate_try(goproc_gate *gate, uint64_t me) {
    uint64_t nobody = 0;
    return atomic_compare_exchange_strong(&gate->inside, &nobody, me);
}

void goproc_gate_leave(goproc_gate *gate);

/* Waits until no process is inside. Returns 0, EINTR, or ETIMEDOUT at the deadline. To be called without the GIL. */
int goproc_gate_wait(goproc_ring *ring, goproc_gate *gate, goproc_sync_spinner *spinner, uint64_t deadline);

/* Whether the process runs, as far as it can be told: GOPROC_RUNS, GOPROC_KILLED or GOPROC_LEFT. */
int goproc_ring_fate(const goproc_ring *ring, uint64_t who);

/* Wakes all threads that sleep on a bell. To be called after the change that they wait for. */
void goproc_wake_all(goproc_bell *bell);

/* Wakes one thread that sleeps on a bell. Such threads wait for items, which are numbered: an item is there if its
 * number is below count. Items below base were gone before the call. If other processes have put more items meanwhile,
 * more threads are woken. */
void goproc_wake_one(goproc_bell *bell, _Atomic uint32_t *count, uint32_t base);

/* ---- ring.c */

/* Makes a queue. Returns 0, or -1 with errno set, and *call is what failed. */
int goproc_ring_make(goproc_ring *ring, uint32_t maxsize, int joinable, const char **call);

/* Uses an existing queue, given its two descriptors, which the queue then owns. Returns 0, or -1 with errno set. */
int goproc_ring_attach(goproc_ring *ring, int fd, int event);

void goproc_ring_drop(goproc_ring *ring);

/* To be called before all else: in a new process, it notes this process in the ring, with no items in the buffer. */
void goproc_ring_refresh(goproc_ring *ring);

/* The ends of a queue. */
enum { GOPROC_PUTTING_END = 1, GOPROC_GETTING_END = 2, GOPROC_BOTH_ENDS = 3 };

/* How many items are in the ring. */
static inline uint32_t goproc_ring_count(const goproc_ring *ring) {
    uint32_t taken = goproc_count_of(atomic_load(&ring->header->head));
    return goproc_count_of(atomic_load(&ring->header->tail)) - taken;
}

/* An item to be put. */
typedef struct {
    uint32_t kind;
    goproc_piece *pieces;
    size_t count;
    size_t stream; /* how many pieces make the first part; each other piece is a part */
} goproc_new_item;

/* Puts an item. The caller is inside the gate `putting`. Returns 1, or 0 if there is no room now, or -1 with errno
 * set. */
int goproc_ring_put(goproc_ring *ring, const goproc_new_item *item);

/* Wakes one thread that waits for an item, or for a place in a queue with a maxsize. */
void goproc_ring_wake(goproc_ring *ring);
void goproc_ring_wake_bound(goproc_ring *ring);

/* An item that has been found. */
typedef struct {
    uint64_t head, next; /* the head before and after it is taken */
    uint32_t kind;       /* without the flag */
    uint64_t size;
    const uint8_t *at; /* NULL: it is in the file only */
    goproc_far far;    /* end 0: it is in the ring */
} goproc_found;

/* Finds the next item. The caller is inside the gate `getting`. Returns 1, 0 if there is none, or -1 with errno EPROTO
 * if the memory has been overwritten. */
int goproc_ring_find(const goproc_ring *ring, goproc_found *found);

/* Copies bytes of an item that has been found. Returns 0, or -1 with errno set. */
int goproc_ring_copy(const goproc_ring *ring, const goproc_found *found, uint64_t from, void *to, size_t size);

/* Takes the item that has been found out of the queue. */
void goproc_ring_take(goproc_ring *ring, const goproc_found *found);

/* Wakes the threads that wait for room. To be called outside of the gate. */
void goproc_ring_taken(goproc_ring *ring, const goproc_found *found);

/* Gives back the memory that items have used, if the queue is empty and no process puts. */
void goproc_ring_trim(goproc_ring *ring);

/* Calls visit for each queue of this process. */
void goproc_each_ring(void (*visit)(goproc_ring *ring, uint64_t data), uint64_t data);

/* ---- ends.c */

/* Opens both ends, for all processes that will have the queue. */
void goproc_ends_make(goproc_ring *ring);

/* Closes one end, or both, for this process. Returns 0, or -1 with errno set: then they stay open. */
int goproc_ends_close(goproc_ring *ring, int ends);

/* Whether no other process has the end, either. To be asked only if this process has closed it. */
int goproc_ends_are_gone(const goproc_ring *ring, int end);

/* Whether this process and all others have closed the end, or have ended. */
static inline int goproc_ends_are_closed(const goproc_ring *ring, int end) {
    return !(ring->ends & end) && goproc_ends_are_gone(ring, end);
}

/* ---- tasks.c */

/* How many items processes have in buffers of their own. If look is true, it forgets the items of processes that have
 * ended; then the caller is inside `putting`. */
uint32_t goproc_unfed(goproc_ring *ring, int look);

/* The same, outside `putting`. It forgets these items if nobody is inside. */
uint32_t goproc_unfed_here(goproc_ring *ring);

/* Returns how many such items have been forgotten in a joinable queue since the last call, and the pid of a process that
 * had some of them. */
uint32_t goproc_unfed_lost(goproc_ring *ring, uint32_t *pid);

/* Counts one item more, or less, in the buffer of this process. The caller is inside `putting`. */
void goproc_unfed_add(goproc_ring *ring);
void goproc_unfed_remove(goproc_ring *ring);

/* Notes that this process takes the item after head. The caller is inside `getting`. */
void goproc_task_taken(goproc_ring *ring, uint64_t head);

/* Reports a task done: one that has been taken, or else one that has not. Returns 0 if all have been reported. The
 * caller is inside `getting`. */
int goproc_task_done(goproc_ring *ring);

/* If all tasks have been reported done, wakes the threads that wait for that. */
void goproc_task_was_done(goproc_ring *ring);

/* How many tasks have been put and not been reported done. */
uint64_t goproc_unfinished(goproc_ring *ring);

/* Looks for a process that was killed with tasks that it had not reported done. Returns how many, which count as done
 * from now on, and its pid. */
uint32_t goproc_tasks_lost(goproc_ring *ring, uint32_t *pid);

/* Notes that a process has ended by itself: the tasks that it has not reported done are not lost. For one queue, or for
 * all. */
void goproc_ring_left(goproc_ring *ring, uint64_t pid);
void goproc_rings_left(uint32_t pid);

/* ---- plain.c */

/* Writes a plain object. Returns its size; 0, without an exception, if the object is not plain, or needs more room. */
size_t goproc_plain_write(PyObject *object, uint8_t *to, size_t room);

/* Returns the object that was written, or NULL with an exception set. Not to be called inside of a gate. */
PyObject *goproc_plain_read(const uint8_t *from, size_t size);

/* ---- event.c */

/* Makes the descriptor readable; or not readable, if there are no items, and there can still be some. */
void goproc_event_signal(const goproc_ring *ring);
void goproc_event_clear(const goproc_ring *ring);

/* Whether there will be no more items: this process has closed the putting end, and each other one has closed it or has
 * ended. Items may be left in the ring. From then on, the descriptor `event` stays readable. */
int goproc_ring_has_ended(goproc_ring *ring);

/* From now on, the descriptor `event` is readable while there are items. Returns its number, or -1 with errno set. */
int goproc_ring_watch(goproc_ring *ring);

/* For all queues: signals the descriptor if a killed process has put an item and not signalled it. */
void goproc_rings_mend(void);

/* ---- queue.c, puts.c, waits.c */

/* A queue of Python. */
typedef struct {
    PyObject_HEAD;
    goproc_ring ring;
    char closed; /* close() has been called here */
    char used;   /* this process has put something */
} goproc_queue;

/* What Python gives: a PicklerWatch, queue.Empty, queue.Full, goproc.ConsumerLostError, goproc.ProducerLostError. */
extern struct goproc_queue_names {
    PyObject *pickler, *empty, *full, *consumer_lost, *producer_lost;
} goproc_queue_names;

/* To be called first: raises RuntimeError if the queue has not been made; the second one also ValueError if it has been
 * closed. Returns -1 with an exception set. */
int goproc_queue_is_made(goproc_queue *self);
int goproc_queue_check(goproc_queue *self);

/* Whether the program has closed the queue after it has put something here: multiprocessing's thread closes the pipe
 * then. Sets OSError in that case. */
int goproc_queue_end_is_closed(goproc_queue *self);

/* What an item consists of. */
typedef struct {
    PyObject *content;  /* bytes; NULL for a plain object */
    PyObject **buffers; /* NULL, or bytearray objects; memory of PyMem_Malloc(). No list is made inside of the gate:
                           that may collect garbage, and so run code of the program. */
    Py_ssize_t count;   /* of the buffers */
    uint32_t kind;
    size_t size; /* of a plain object */
    uint8_t plain[GOPROC_MOST_PLAIN];
} goproc_payload_found;

/* Reads an item that has been found. Returns 0, or -1 with an exception set. It is not taken yet. */
int goproc_queue_read(goproc_queue *self, const goproc_found *found, goproc_payload_found *payload);

/* Returns the object, and gives the payload up. */
PyObject *goproc_queue_loads(goproc_payload_found *payload);

/* Begins an item. stream: its pickle, or a list of the pickle's pieces. buffers: NULL or None, a list, or True if the
 * stream is a bytes object that is the item. Returns -1 with an exception set. goproc_item_end() is to be called in any
 * case. */
typedef struct {
    goproc_new_item item;
    Py_buffer *views;
    size_t views_count;
    goproc_piece one;
} goproc_item_views;
int goproc_item_begin(goproc_item_views *views, PyObject *stream, PyObject *buffers);
void goproc_item_end(goproc_item_views *views);

/* What to do after a wait: try AGAIN, or return. error: 0, EINTR or ETIMEDOUT. Runs signal handlers. */
enum { GOPROC_AGAIN, GOPROC_TIME_IS_OVER, GOPROC_RAISED };
int goproc_after_wait(int error);

/* Waits until no process is inside of the gate; returns what to do. */
int goproc_wait_for_gate(goproc_ring *ring, goproc_gate *gate, goproc_sync_spinner *spinner, uint64_t deadline);

extern PyMethodDef goproc_queue_puts[], goproc_queue_waits[];

extern int goproc_pickles_all; /* GOPROC_DISABLE=plain-items */

int goproc_init_queue(PyObject *module);

#endif
