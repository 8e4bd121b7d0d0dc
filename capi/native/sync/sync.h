/* sync.h - locks, semaphores, conditions and events in shared memory: what the files of this folder share.
 *
 *   block.c    blocks of shared memory, and the cells in them
 *   who.c      which process holds or waits, and whether it still runs
 *   latch.h    a latch, for a few steps on a cell
 *   locks.c    taking locks and semaphores
 *   semlock.c  the Python type behind Lock, RLock, Semaphore, BoundedSemaphore
 *   holders.c  who holds a BoundedSemaphore
 *   waiters.c  the processes and threads that wait at a Condition or are inside a Barrier
 *   flag.c     Event
 *
 * Any process may be killed at any instruction. So the word of a held lock names the holder, and waiting processes
 * check from time to time whether the holder still runs. docs/design/locks.md has the reasons.
 */
#ifndef GOPROC_SYNC_H
#define GOPROC_SYNC_H

#include "../native.h"
#include "../wake.h"
#include "../dump/waits.h"

/* ---- block.c */

/* What a cell is. */
enum {
    GOPROC_CELL_FREE,
    GOPROC_CELL_LOCK,      /* at most one holder: Lock, RLock, BoundedSemaphore(1) */
    GOPROC_CELL_SEMAPHORE, /* a number of permits, which belong to nobody */
    GOPROC_CELL_BOUNDED,   /* a number of permits, each with a holder */
    GOPROC_CELL_WAITERS,
    GOPROC_CELL_FLAG,
    GOPROC_CELL_BYTES,
};

/* The beginning of a cell. */
typedef struct {
    uint32_t kind; /* GOPROC_CELL_* */
    uint32_t size; /* bytes, this header included; a multiple of GOPROC_CELL_UNIT */
} goproc_cell;

enum { GOPROC_CELL_UNIT = 64 };

/* A Python object that owns a mapping. It is unmapped when the last cell in it is gone from this process. */
typedef struct goproc_block goproc_block;
extern PyTypeObject goproc_block_type;

/* Where a cell is. */
typedef struct {
    goproc_block *block; /* a reference; NULL: nowhere */
    unsigned made_at;    /* for goproc_cell_drop() */
    size_t size;         /* of the cell */
} goproc_home;

/* Makes a cell of size bytes, which are all 0 behind its header. anonymous: the memory is for forked children only, and
 * takes no descriptor. Returns NULL with an exception set. */
void *goproc_cell_new(uint32_t kind, size_t size, int anonymous, goproc_home *home);

/* Returns the cell that another process has described, by a tuple of block and offset, or NULL with an exception set. */
void *goproc_cell_at(PyObject *place, uint32_t kind, size_t size, goproc_home *home);

/* Returns this tuple. Raises RuntimeError for memory that is for forked children only. */
PyObject *goproc_cell_place(const goproc_home *home, const void *cell);

/* Gives the cell up. */
void goproc_cell_drop(goproc_home *home, void *cell);

/* Makes a file without a name, in memory if possible. name: for /proc. *size: its size in bytes; under a limit for files
 * it may become less, but not less than least. Returns its descriptor, or -1 with errno set, and *call is what failed. */
int goproc_shared_file(const char *name, size_t least, size_t *size, const char **call);

/* Calls visit for each cell of all blocks of this process. */
void goproc_each_cell(void (*visit)(goproc_cell *cell, void *data), void *data);

/* Grows with each fork: in a child, everything noted about the process itself is out of date. */
extern unsigned goproc_generation;

/* To be called in a sibling, for which no handlers run. */
void goproc_sync_forked(void);

/* ---- who.c */

/* A process. */
typedef struct {
    _Atomic uint32_t pid;     /* 0: nobody */
    _Atomic uint32_t started; /* when it started, from /proc, because pids are used again; 0: not known */
    _Atomic uint32_t space;   /* its pid namespace; 0: not known */
    _Atomic uint32_t thread;  /* the thread's id */
} goproc_who;

/* A holder that nobody can name: it has ended by itself, or the lock was made locked. No process has this pid. */
enum { GOPROC_SOMEBODY = 0x7fffffff };

/* The length of a process's name as locks note it, with the zero at the end. */
enum { GOPROC_NAME_SIZE = 32 };

/* This process. thread is not set. */
const goproc_who *goproc_myself(void);
const char *goproc_my_name(void);
uint32_t goproc_my_thread(void);

/* Notes the calling thread of this process in who; the pid comes last. */
void goproc_sign(goproc_who *who);

/* What has become of a process. If started or space are 0, only the pid counts. */
enum { GOPROC_RUNS, GOPROC_KILLED, GOPROC_LEFT };
int goproc_fate(uint32_t pid, uint32_t started, uint32_t space);
int goproc_fate_of(const goproc_who *who);

/* Notes that this process, or a child that has been reaped, has ended by itself: what it holds stays held, by
 * GOPROC_SOMEBODY. */
void goproc_left(uint32_t pid);

/* The same for one cell; data is a pointer to the pid, a uint32_t. */
void goproc_leave_cell(goproc_cell *cell, void *data);

/* ---- semlock.c */

/* Whether the exception that is set is AbandonedLockError. */
int goproc_is_abandoned_error(void);

/* ---- waiting */

/* How long to wait before the first look at who holds a lock, and between two looks. */
enum { GOPROC_FIRST_LOOK_NS = 50000000, GOPROC_NEXT_LOOK_NS = 400000000 };

/* How long to spin at most before sleeping. */
uint32_t goproc_sync_spin_ns(void);

/* Spinning before sleeping. A spin that succeeds saves two context switches. A spin that fails takes a processor, maybe
 * from the process that this one waits for. So after some failures more and more waits have no spin. Now and then a
 * spin is tried again, with the full time: else two processes that both sleep would not notice that both could spin. */
typedef struct {
    uint32_t budget_ns; /* for how long to spin */
    uint16_t rest;      /* how many waits without a spin are left */
    uint16_t pause;     /* how many there will be the next time */
} goproc_sync_spinner;

enum { GOPROC_LEAST_SPIN_NS = 8000, GOPROC_LEAST_PAUSE = 8, GOPROC_MOST_PAUSE = 256 };

static inline void goproc_sync_spinner_init(goproc_sync_spinner *spinner) {
    spinner->budget_ns = goproc_sync_spin_ns();
    spinner->rest = 0;
    spinner->pause = GOPROC_LEAST_PAUSE;
}

/* Spins while *word has the value seen. Returns whether the value has changed. Unlike GOPROC_SPIN it does not yield its
 * processor: on a busy machine it would get the processor back only milliseconds later, but a sleeper gets one when it
 * is woken. */
static inline int goproc_sync_spin(goproc_sync_spinner *spinner, _Atomic uint32_t *word, uint32_t seen) {
    if (spinner->budget_ns == 0) {
        if (goproc_sync_spin_ns() == 0)
            return atomic_load(word) != seen;
        if (spinner->rest) {
            spinner->rest--;
            return atomic_load(word) != seen;
        }
        spinner->budget_ns = goproc_sync_spin_ns();
    }
    uint64_t end_ns = 0;
    do {
        for (int i = 0; i < 64; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != seen) {
                spinner->budget_ns = goproc_sync_spin_ns();
                spinner->pause = GOPROC_LEAST_PAUSE;
                return 1;
            }
            goproc_pause();
        }
        if (!end_ns)
            end_ns = goproc_now_ns() + spinner->budget_ns;
    } while (goproc_now_ns() < end_ns);
    spinner->budget_ns /= 2;
    if (spinner->budget_ns < GOPROC_LEAST_SPIN_NS) {
        spinner->budget_ns = 0;
        spinner->rest = spinner->pause;
        if (spinner->pause < GOPROC_MOST_PAUSE)
            spinner->pause *= 2;
    }
    return 0;
}

/* Reads a timeout in seconds, None for ever. *deadline is a time as of goproc_now_ns(), 0 for ever. Returns -1 with an
 * exception set. Returns 1 for NaN and infinity: the deadline is over, and a caller that would wait raises an error. */
int goproc_read_deadline(PyObject *timeout, uint64_t *deadline);

/* Whether a call that has found nothing is to return at once instead of waiting, because it must not wait, or the
 * deadline is over. If so, it offers the GIL. */
int goproc_gives_up(int block, uint64_t deadline);

/* Raise multiprocessing's error for a wait with such a timeout: that of a semaphore, EINVAL; that of select(), for a
 * pipe. Both return NULL. */
PyObject *goproc_raise_bad_timeout(void);
PyObject *goproc_raise_as_select(PyObject *timeout);

/* Sleeps until *word has another value than seen, or the deadline or the time for a look has come. Returns 0; ETIMEDOUT
 * at the deadline; EINTR after a signal, and also when it is time for a look. A signal that came shortly before, while
 * this thread was spinning, has ended no sleep. So after EINTR signal handlers are to run. */
static inline int goproc_nap(_Atomic uint32_t *word, uint32_t seen, uint64_t deadline, int64_t look_ns) {
    if (deadline) {
        uint64_t now = goproc_now_ns();
        if (now >= deadline)
            return ETIMEDOUT;
        if ((int64_t)(deadline - now) < look_ns)
            look_ns = (int64_t)(deadline - now);
    }
    int error = goproc_futex_wait(word, seen, look_ns);
    return error == EINTR || error == ETIMEDOUT ? EINTR : 0;
}

static inline void goproc_futex_wake_some(_Atomic uint32_t *word, int count) {
    syscall(SYS_futex, (uint32_t *)word, FUTEX_WAKE, count, NULL, NULL, 0);
}

/* ---- the parts of the module */

int goproc_init_block(PyObject *module);
int goproc_init_semlock(PyObject *module);
int goproc_init_waiters(PyObject *module);
int goproc_init_flag(PyObject *module);

#endif
