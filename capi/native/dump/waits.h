/* waits.h - what the threads of this process wait for, noted where `python -m goproc dump` finds it.
 *
 *   waits.c   the notes, and the record by which dump finds all else
 *   layout.c  where things are in the structures of this Python and of goproc
 *
 * dump is another process, which reads this process's memory. So this process needs no thread, descriptor or signal for
 * it, and dump also works while this process is stopped or its GIL is held. docs/design/dump.md has the reasons.
 *
 * To be called directly before a thread sleeps, after all attempts without sleep:
 *
 *     goproc_wait *wait = goproc_waits_for(GOPROC_WAIT_QUEUE_GET, cell, 0, deadline);
 *     ... sleep ...
 *     goproc_waits_no_longer(wait);
 *
 * The two calls take less than 0.1 us together. They need no GIL, allocate nothing, and cannot fail.
 */
#ifndef GOPROC_WAITS_H
#define GOPROC_WAITS_H

#include <stdatomic.h>
#include <stdint.h>

/* What a thread waits for. object is an address. If it is in shared memory, dump recognises the same object in other
 * processes by it. python/goproc/_dump/program.py has the same numbers. */
enum {
    GOPROC_WAIT_LOCK = 1,   /* object: the cell of a lock or semaphore */
    GOPROC_WAIT_CONDITION,  /* object: its cell */
    GOPROC_WAIT_EVENT,      /* object: its cell */
    GOPROC_WAIT_JOIN,       /* number: the pid of the process that is joined */
    GOPROC_WAIT_RESULT,     /* object: the pool's control page. number: the job */
    GOPROC_WAIT_TASK,       /* a worker that has no task. object: the pool's control page */
    GOPROC_WAIT_ROOM,       /* a worker that cannot deliver its result yet. object: the pool's control page */
    GOPROC_WAIT_QUEUE_GET,  /* object: the queue's memory. number: the pid of the process that keeps it waiting, or 0 */
    GOPROC_WAIT_QUEUE_PUT,  /* the same */
    GOPROC_WAIT_QUEUE_JOIN, /* object: the same */
    GOPROC_WAIT_OTHER,      /* the text `what` says for what */
};

/* The size of the text `what`, with the zero at the end. */
enum { GOPROC_WAIT_TEXT_SIZE = 40 };

typedef struct {
    _Atomic uint32_t thread; /* its id. 0: the place is free. GOPROC_WAIT_CLAIMED: the rest is being written */
    uint32_t kind;           /* GOPROC_WAIT_* */
    uint64_t object;
    uint64_t number;
    uint64_t since_ns;       /* CLOCK_MONOTONIC */
    uint64_t deadline_ns;    /* 0: without a timeout */
    _Atomic uint32_t asleep; /* for a lock: the thread sleeps, so it does not take the lock right now */
    char what[GOPROC_WAIT_TEXT_SIZE];
} goproc_wait;

#define GOPROC_WAIT_CLAIMED UINT32_MAX

/* Notes that the calling thread waits. deadline_ns is as of goproc_now_ns(), 0 for ever. Returns the note; NULL if there
 * is no place for it, or if GOPROC_DISABLE=dump. Waits may be nested: a signal handler may wait, too. */
goproc_wait *goproc_waits_for(uint32_t kind, const void *object, uint64_t number, uint64_t deadline_ns);

/* Notes that it waits no longer. wait may be NULL. After a fork by the waiting thread, the child has no note. */
void goproc_waits_no_longer(goproc_wait *wait);

/* Notes what a helper process is for: the title that ps shows. NULL: this is no helper any more. */
void goproc_note_helper(const char *title);

/* Notes that this process is a pool's worker, and its place in the pool's memory. */
void goproc_note_worker(const void *control, const void *slot);

/* To be called in a forked child, and in a sibling, for which no handlers run. Inside fork(). */
void goproc_waits_forked(void);

#endif
