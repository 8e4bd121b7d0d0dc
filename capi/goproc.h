/* goproc.h - the calls between `_native` and the engine. This file is their documentation; capi/exports.go implements
 * them.
 *
 * How they are called. `_native` (capi/native) has no Go. It finds each function by its name with dlsym(3), in the
 * library of the engine that this process has loaded, and calls it through a pointer: nothing is linked to it. The type
 * of the pointer, NAME_fn, is made of the prototype. exports.go includes this file, so the C compiler compares its
 * functions with the prototypes.
 *
 * These rules hold for every call, unless its own comment says otherwise:
 *   Thread    Any thread of the program, with the GIL or without it. The engine has locks of its own, and holds them
 *             for microseconds. Not in a signal handler.
 *   Time      It returns quickly, so the GIL need not be released: it never waits for a process or another call, and
 *             never calls back.
 *   Memory    The caller owns what pointers point to. The engine keeps no pointer when the call has returned.
 *   Child     Not in a forked child: no Go thread runs there, and the call would block for ever (docs/design/fork.md).
 *             A child that needs an engine loads one of its own, and looks the functions up again.
 *   Before    goproc_mend_runtime() (native/runtime.c): the program may have closed descriptors that the Go runtime
 *             needs.
 *   Returns   0 or a count, or a negative errno. GOPROC_EPOISONED when the engine has panicked, in this call or
 *             earlier: goproc_poison() describes the panic. No Go panic reaches the caller.
 */
#ifndef GOPROC_H
#define GOPROC_H

#include <stddef.h>
#include <stdint.h>

#define GOPROC_ABI_VERSION 6

/* What a call of a poisoned engine returns. */
#define GOPROC_EPOISONED (-100000)

/* Finds the function of that name in a library that dlopen(3) has returned. The value is a pointer of the function's
 * type, or NULL. For callers that include <dlfcn.h>. */
#define GOPROC_FIND(library, name) ((name##_fn)dlsym(library, #name))

/* ---- the link: native/link.c ------------------------------------------------------------------------------------- */

/* Says which version of this file the engine was built with. Call it first. If the version is not GOPROC_ABI_VERSION,
 * no other function may be called.
 *
 * Time      It waits until the Go runtime has started, for milliseconds. Then it has the runtime open its epoll and
 *           eventfd (core/sys/netpoll.go).
 * Returns   The version. Never fails. */
int32_t goproc_abi_version(void);
typedef __typeof__(&goproc_abi_version) goproc_abi_version_fn;

/* A descriptor, and the mark of the file that it refers to. A program may close descriptors that are not its own. Then
 * the number may refer to another file. fd is the descriptor plus one; 0 for none. */
typedef struct {
    int32_t fd;
    uint32_t mark;
} goproc_listed;

/* The mark of an open file by its device and its inode (fstat(2)). It is never 0. */
static inline uint32_t goproc_mark_of(uint64_t device, uint64_t inode) {
    uint64_t mixed = (device * UINT64_C(0x9E3779B97F4A7C15) + inode) * UINT64_C(0xD6E8FEB86659FD93);
    return (uint32_t)(mixed >> 32) | 1;
}

/* Returns the register of the engine's open descriptors, and in *count the number of its elements. Two more follow
 * these. The fd of the first of the two says how many elements, counted from the beginning, have ever been used. The
 * second is not a goproc_listed but two int32_t: the numbers of the epoll and the eventfd of the Go runtime, 0 if they
 * are not known.
 *
 * Memory    The engine's, outside the Go heap. It is never freed, and goroutines change it at any time.
 * Child     A forked child must not make the call. But it may read the register, and closes the descriptors listed
 *           there.
 * Returns   The register. Never fails. */
goproc_listed *goproc_fd_register(int32_t *count);
typedef __typeof__(&goproc_fd_register) goproc_fd_register_fn;

/* Stops all that the engine runs: its pools, its servers, its reaper. The processes of the program go on. To be called
 * at the very end of the process; a second call does nothing.
 *
 * Thread    Without the GIL, or when there is no interpreter any more.
 * Time      It waits until the servers have ended, for seconds if need be.
 * Returns   0 | GOPROC_EPOISONED */
int32_t goproc_close(void);
typedef __typeof__(&goproc_close) goproc_close_fn;

/* Copies the description of the panic that poisoned the engine into text: at most capacity bytes, including the 0 at
 * the end. Leaves text alone if the engine is sound, or capacity is less than 1.
 *
 * Returns   The length of the text | 0 when the engine is sound */
int32_t goproc_poison(char *text, int32_t capacity);
typedef __typeof__(&goproc_poison) goproc_poison_fn;

/* ---- forked children: native/seats.c ----------------------------------------------------------------------------- */

/* One forked child. If an engine is loaded, it shares this memory with C (core/process/seats.go). Whoever reads or
 * writes a seat holds its lock, for no longer than a system call that does not wait. */
typedef struct {
    uint32_t lock;       /* 1: held; 0: free */
    int32_t state;       /* GOPROC_SEAT_*; C may look for a free seat without the lock */
    uint32_t generation; /* how often the seat has been taken */
    int32_t pid;
    int32_t sentinel;  /* its pidfd; or the read end of its tether, a pipe whose write end only the child has */
    uint32_t mark;     /* of the sentinel: see goproc_mark_of */
    int32_t status;    /* once it has ended: the exit code, or the negative number of a signal */
    int32_t adopted;   /* not 0: the engine has an entry for it, and C must ask the engine */
    int32_t forgotten; /* not 0: nobody will ask about it; whoever sees that it has ended gives the seat back */
} goproc_seat;

enum {
    GOPROC_SEAT_FREE = 0,
    GOPROC_SEAT_RUNNING = 1,
    GOPROC_SEAT_ENDED = 2,
    GOPROC_SEAT_TAKEN = 3,
    GOPROC_SEAT_COUNT = 1024
};

/* Only C takes seats, with the GIL held. While a process runs, its sentinel is in the reaper's epoll, if there is one,
 * with the id of the seat as data: -1 - generation * GOPROC_SEAT_COUNT - index. C writes highest, and then reads epoll;
 * Go writes epoll, and then reads highest. So at least one of them sees what the other has written. */
typedef struct {
    int32_t refused; /* not 0: take no further seats; the engine's functions say why */
    int32_t epoll;   /* the reaper's, -1 when there is none */
    int32_t highest; /* no seat from here on has ever been taken; C writes it */
    int32_t witness; /* a pipe of the reaper: as long as it still has the mark, the number epoll is right, too */
    uint32_t mark;   /* of the witness, 0 if there is none */
    int32_t unused;
    int64_t started; /* how many processes C has started; C writes it */
    goproc_seat seats[GOPROC_SEAT_COUNT];
} goproc_seats;

/* The exit code of a process whose status is lost. */
#define GOPROC_STATUS_UNKNOWN 255

/* Gives the engine the seats of the process. From now on it watches the children in them. To be called once, and never
 * with seats of the parent process.
 *
 * Thread    With the GIL, so that no seat is taken meanwhile.
 * Memory    C owns the seats. The engine keeps the pointer: they must stay where they are while the process lives.
 * Returns   0 | GOPROC_EPOISONED */
int32_t goproc_share_seats(goproc_seats *seats);
typedef __typeof__(&goproc_share_seats) goproc_share_seats_fn;

/* ---- pools: native/port.c, native/port_collect.c ----------------------------------------------------------------- */

/* Submits a task, or a batch of tasks, to a pool. Tasks that no worker can take yet are queued.
 *
 * pool      The number of the pool, which Python gets from pybind/pool.go.
 * job, index  The numbers of the job, and of the task in it. The completion of the task has the same numbers.
 * count     How many tasks: 0 or 1 for a task that is no batch; fewer than 1 << GOPROC_CLAIM_SHIFT. The tasks of a
 *           batch have the indices from index on.
 * flags     GOPROC_FLAG_EXTENT if the payload describes an extent that holds the pickled task, else 0. A batch has no
 *           extent.
 * payload   The pickled task, or the batch of count tasks: size bytes, at most GOPROC_MAX_INLINE (native/layout.h). The
 *           engine copies them. When the call fails, the caller owns the extent again.
 *
 * Returns   0          the task has been submitted
 *           1          it has been submitted, and a worker has ended: collect soon, so that the worker is replaced
 *           -EPIPE     the pool is closed, or gone
 *           -ENOMEM    the limits of the process leave no memory to queue the task
 *           -EMSGSIZE  the payload is too large
 *           -EINVAL    the batch has too many tasks, or an extent
 *           GOPROC_EPOISONED */
int32_t goproc_pool_submit(int64_t pool, uint64_t job, uint64_t index, uint32_t count, uint32_t flags,
                           const void *payload, uint64_t size);
typedef __typeof__(&goproc_pool_submit) goproc_pool_submit_fn;

/* Collects completions of a pool, and gives tasks to workers that have none.
 *
 * buffer    Is filled with frames (native/layout.h), each padded to eight bytes. The caller owns it, and no other call
 *           may use it meanwhile.
 * capacity  Of the buffer, in bytes: room for the largest frame at least, goproc_frame_space(GOPROC_MAX_INLINE). Or 0:
 *           then nothing is collected, but workers are still given tasks.
 *
 * Returns   The number of bytes used | 0 when nothing has completed | -EPIPE when the pool is gone |
 *           GOPROC_EPOISONED */
int64_t goproc_pool_collect(int64_t pool, void *buffer, uint64_t capacity);
typedef __typeof__(&goproc_pool_collect) goproc_pool_collect_fn;

/* Says how many bytes of completions goproc_pool_collect() would deliver now, if it had room for all. The number may be
 * somewhat too large.
 *
 * Returns   The number | -EPIPE when the pool is gone | GOPROC_EPOISONED */
int64_t goproc_pool_unseen(int64_t pool);
typedef __typeof__(&goproc_pool_unseen) goproc_pool_unseen_fn;

#endif
