/* holders.h - the cells of locks and semaphores. */
#ifndef GOPROC_HOLDERS_H
#define GOPROC_HOLDERS_H

#include "sync.h"

/* The cell of a lock or a semaphore. */
typedef struct {
    goproc_cell cell;
    /* A lock: 0, or the holder's pid. A semaphore: the permits that are left. Bounded: a count of the releases. */
    _Atomic uint32_t word;
    _Atomic uint32_t waiting; /* how many wait; more, if one of them was killed */
    uint32_t most;            /* the greatest value */
    _Atomic uint32_t latch;   /* of a bounded semaphore */
    _Atomic uint32_t signals; /* of a bounded semaphore: somebody who held none has released it; see holders.c */
    uint32_t reserved;
    _Atomic uint64_t since_ns; /* when the lock was taken, by CLOCK_MONOTONIC_COARSE */
    goproc_who holder;         /* of a lock: valid only if its pid is the word's */
    char name[GOPROC_NAME_SIZE];
} goproc_lock_cell;

/* How many processes can hold permits of a bounded semaphore, each noted by itself. */
enum { GOPROC_MOST_HOLDERS = 64 };

/* A process that holds permits of a bounded semaphore. */
typedef struct {
    goproc_who who;
    _Atomic uint32_t permits; /* 0: the place is free */
    uint32_t reserved;
    _Atomic uint64_t since_ns;
    char name[GOPROC_NAME_SIZE];
} goproc_holder;

typedef struct {
    goproc_lock_cell lock;
    _Atomic uint32_t unnamed; /* permits whose holders are not known */
    uint32_t reserved[15];
    goproc_holder holders[GOPROC_MOST_HOLDERS];
} goproc_bounded_cell;

/* What happens when a holder was killed: the next process gets an error, or takes the lock, or goes on waiting. */
enum { GOPROC_RAISE, GOPROC_TAKE, GOPROC_KEEP };

/* A lock or a semaphore, as this process knows it. The kind is not read from the cell: another process may have
 * overwritten it. */
typedef struct {
    goproc_lock_cell *cell; /* NULL: not made yet */
    uint32_t kind;          /* GOPROC_CELL_LOCK, _SEMAPHORE or _BOUNDED */
    int abandoned;          /* GOPROC_RAISE, _TAKE or _KEEP */
} goproc_lock;

/* What is reported of a process that was killed. */
typedef struct {
    uint32_t pid;
    char name[GOPROC_NAME_SIZE];
} goproc_lost;

/* ---- locks.c */

enum { GOPROC_TAKEN, GOPROC_BUSY, GOPROC_ABANDONED, GOPROC_INTERRUPTED };

/* Takes the lock or a permit if that is possible at once. Returns whether it has. */
int goproc_lock_take(const goproc_lock *lock);

/* Looks whether the holder was killed. Returns BUSY if not, or if that does not count, or if another process was
 * faster. Otherwise it returns TAKEN, or ABANDONED: then the lock is free, and lost tells who was killed. */
int goproc_lock_look(const goproc_lock *lock, goproc_lost *lost);

/* A thread's wait for a lock, which goes on after a signal. */
typedef struct {
    uint64_t deadline; /* 0: none */
    uint64_t look_at;  /* when to look next: a timer's signals may come more often than looks */
    goproc_wait *note; /* NULL: the thread does not sleep. After INTERRUPTED, it goes on, or the caller ends it. */
} goproc_lock_waiting;

/* Waits until the lock or a permit has been taken (TAKEN), the deadline has come (BUSY), or a signal has (INTERRUPTED);
 * otherwise as goproc_lock_look(). To be called without the GIL. */
int goproc_lock_wait(const goproc_lock *lock, goproc_sync_spinner *spinner, goproc_lock_waiting *waiting,
                     goproc_lost *lost);

/* Gives the lock or a permit back. Returns 0 if it was not taken. */
int goproc_lock_give(const goproc_lock *lock);

/* Returns the value; of a lock 0 or 1. */
uint32_t goproc_lock_value(const goproc_lock *lock);

/* ---- holders.c */

/* The present time, for the column "since". */
uint64_t goproc_coarse_ns(void);

/* Returns how many permits are left. */
uint32_t goproc_bounded_value(goproc_bounded_cell *cell);

/* Takes a permit, if there is one. Returns whether it has. */
int goproc_bounded_take(goproc_bounded_cell *cell);

/* Gives a permit back. Returns 0 if none was held. */
int goproc_bounded_give(goproc_bounded_cell *cell);

/* Looks whether a holder was killed, and gives one of its permits back. Returns whether there was one; then lost tells
 * which. */
int goproc_bounded_look(goproc_bounded_cell *cell, goproc_lost *lost);

/* A process has ended by itself: its permits stay taken. */
void goproc_bounded_left(goproc_bounded_cell *cell, uint32_t pid);

#endif
