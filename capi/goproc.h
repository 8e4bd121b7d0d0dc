/* goproc.h - the C ABI of the goproc engine. This file is its documentation; capi/exports.go implements it.
 *
 * Who calls it: capi/native (the `_native` extension), in the process that owns the engine. Never a forked
 * child: there is no Go in one (see docs/design/fork.md).
 *
 * Every call but goproc_close returns quickly and may be made with Python's GIL held: none waits, none calls back.
 * Results are 0 or a count, or a negative errno; GOPROC_EPOISONED when the engine has panicked, now or before
 * (goproc_poison says by what). No call lets a Go panic through.
 */
#ifndef GOPROC_H
#define GOPROC_H

#include <stddef.h>
#include <stdint.h>

#define GOPROC_ABI_VERSION 6

/* The ABI version the engine was built with: compare with GOPROC_ABI_VERSION before any other call. */
typedef int32_t (*goproc_abi_version_fn)(void);

/* A descriptor, and a mark of what it refers to: a program may close what is not its own, and then a number may be that
 * of another file. fd is 0 for none, else the descriptor plus one. */
typedef struct {
    int32_t fd;
    uint32_t mark;
} goproc_listed;

/* The mark of an open file by its device and its inode (fstat(2)). It is never 0. */
static inline uint32_t goproc_mark_of(uint64_t device, uint64_t inode) {
    uint64_t mixed = (device * UINT64_C(0x9E3779B97F4A7C15) + inode) * UINT64_C(0xD6E8FEB86659FD93);
    return (uint32_t)(mixed >> 32) | 1;
}

/* The register of the engine's open descriptors: an array of *count of them; and one more, whose fd says how many of
 * these, the first ones, have ever been used; and the numbers of the epoll and the eventfd of the Go runtime, 0 if they
 * are not known (core/sys/netpoll.go). It lies outside the Go heap and stays readable in a forked child, which closes
 * what is listed. */
typedef goproc_listed *(*goproc_fd_register_fn)(int32_t *count);

/* One forked child, in memory that C and the engine share (core/process/seats.go), when one is loaded. Whoever reads or
 * writes it holds the lock, which is never held for longer than a system call that does not wait; 1 is held. */
typedef struct {
    uint32_t lock;
    int32_t state;       /* GOPROC_SEAT_*; C may look for a free seat without the lock */
    uint32_t generation; /* how often the seat has been taken */
    int32_t pid;
    int32_t sentinel;  /* its pidfd; or the read end of its tether, a pipe whose write end the child alone has */
    uint32_t mark;     /* of the sentinel: see goproc_mark_of */
    int32_t status;    /* once it has ended: the exit code, or the negative number of a signal */
    int32_t adopted;   /* not 0: the engine has an entry for it, and C must ask the engine */
    int32_t forgotten; /* not 0: nobody will ask any more; whoever sees that it has ended gives the seat back */
} goproc_seat;

enum {
    GOPROC_SEAT_FREE = 0,
    GOPROC_SEAT_RUNNING = 1,
    GOPROC_SEAT_ENDED = 2,
    GOPROC_SEAT_TAKEN = 3,
    GOPROC_SEAT_COUNT = 1024
};

/* Only C takes seats, with the GIL held. While a process runs its sentinel is in the epoll, if there is one, with the
 * id of the seat as data: -1 - generation * GOPROC_SEAT_COUNT - index. C and Go write epoll and highest, and then read
 * the other's, in one order that both see. */
typedef struct {
    int32_t refused; /* not 0: take no further seats; the engine's functions say why */
    int32_t epoll;   /* the reaper's, -1 when there is none */
    int32_t highest; /* no seat from here on has ever been taken; C writes it */
    int32_t witness; /* another descriptor of the reaper: as long as it has the mark, epoll is right, too */
    uint32_t mark;   /* 0 if there is none */
    int32_t unused;
    int64_t started; /* how many processes C has started; C writes it */
    goproc_seat seats[GOPROC_SEAT_COUNT];
} goproc_seats;

/* The exit code of a process whose status nobody can learn any more. */
#define GOPROC_STATUS_UNKNOWN 255

/* Gives the engine the process's seats, once: from now on it watches the children in them. They stay where they are.
 * Returns 0, or GOPROC_EPOISONED. */
typedef int32_t (*goproc_share_seats_fn)(goproc_seats *seats);

/* Stops all that the engine runs, and waits for its servers' end, for seconds if need be. To be called once, at the
 * very end of the process, by a thread without the GIL. Returns 0, or GOPROC_EPOISONED. */
typedef int32_t (*goproc_close_fn)(void);

/* What a call of a poisoned engine returns. */
#define GOPROC_EPOISONED (-100000)

/* Hands task (job, index) to the pool, or, when count is greater than 1, that and the tasks with the following indexes:
 * a batch, whose payload holds count calls. The payload, at most GOPROC_MAX_INLINE bytes (see native/layout.h), is
 * copied before the call returns; flags says whether it is the pickled call itself or describes an extent that holds
 * it, which a batch may not do. Never waits: what no worker can take yet is queued.
 * Returns 0, or 1 when the end of a worker is to be collected, which may have to be replaced; -EPIPE when the pool is
 * closed or gone; -ENOMEM when there is no memory to queue the task; -EMSGSIZE when the payload is too large; -EINVAL
 * for an impossible batch. */
typedef int32_t (*goproc_pool_submit_fn)(int64_t pool, uint64_t job, uint64_t index, uint32_t count, uint32_t flags,
                                         const void *payload, uint64_t size);

/* Takes what has completed: fills buffer with frames (native/layout.h), each padded to eight bytes. Never waits.
 * capacity must hold the largest frame, or be 0: then nothing is taken, but workers that have run dry are given tasks,
 * as with any capacity. Returns the bytes used, 0 when nothing has completed; -EPIPE when the pool is
 * gone. */
typedef int64_t (*goproc_pool_collect_fn)(int64_t pool, void *buffer, uint64_t capacity);

/* How many bytes of completions goproc_pool_collect would deliver now, if it had room for all, or some more; -EPIPE
 * when the pool is gone. */
typedef int64_t (*goproc_pool_unseen_fn)(int64_t pool);

/* Copies what poisoned the engine into text (at most capacity bytes, always ended by 0). Returns the length, 0 when it
 * is sound. */
typedef int32_t (*goproc_poison_fn)(char *text, int32_t capacity);

#endif
