/* channel.h - a worker's end of a pool: it takes tasks from its ring and delivers results.
 *
 *   channel.c       the object; taking tasks; sleeping, and waking the parent
 *   channel_send.c  delivering results, and parts of a task
 */
#ifndef GOPROC_CHANNEL_H
#define GOPROC_CHANNEL_H

#include "native.h"
#include "payload/payload.h"
#include "wake.h"

typedef struct goproc_channel {
    PyObject_HEAD
    int memory_fd;
    uint32_t memory_mark;
    goproc_control *control;
    goproc_slot *slot;
    uint8_t *tasks, *results;
    uint64_t task_head, result_tail;
    goproc_frame *frame; /* the frame of the task that runs; NULL when none runs, or the frame has no other task left */
    uint64_t after;      /* the position behind the frame */
    uint32_t begun;      /* how many tasks have been begun and not answered */
    uint64_t parts;      /* how many parts of tasks have been sent */
    uint64_t parts_taken;                  /* how many of them had been taken at the last look */
    uint64_t parts_bytes;                  /* how many bytes in extents belong to the others */
    uint64_t bytes_of[GOPROC_PARTS_AHEAD]; /* each part's bytes there, by its number modulo the length */
    goproc_spinner spinner;
    goproc_arena out, in;
    unsigned fork_depth; /* of the process that owns it */
} goproc_channel;

/* Returns 0 in the process that owns the channel; else -1 with an exception set. */
int goproc_channel_check(goproc_channel *self);

/* Wakes the collector, or, if none sleeps, the pool's own thread and the pump, as far as they have asked for that.
 *
 * delivered: there is a result that the parent may not have seen. dry: this worker has no task left. full: this
 * worker may soon have to wait for room for a result. */
void goproc_channel_poke(goproc_channel *self, int delivered, int dry, int full);

/* Sleeps for the given reason until the parent rings the bell. Returns 0, or -1 when a signal handler raised.
 *
 * The worker first writes that it sleeps, and then calls the parent: the parent wakes only workers that sleep. */
int goproc_channel_sleep(goproc_channel *self, uint32_t reason, uint64_t seen);

/* Begins the next task of the frame. Returns its number, or -1 when none is left. */
int64_t goproc_channel_begin(goproc_channel *self);

/* If no task of the frame is left, removes it from the ring, and forgets it. */
void goproc_channel_leave(goproc_channel *self);

/* Raises the error that ends this worker: this worker, or another one, has overwritten the memory. Returns NULL. */
void *goproc_channel_nonsense(const char *where);

/* The methods of channel_send.c, and their texts. */
PyObject *goproc_channel_send(PyObject *object, PyObject *const *args, Py_ssize_t count);
PyObject *goproc_channel_send_part(PyObject *object, PyObject *const *args, Py_ssize_t count);
extern const char goproc_channel_send_doc[], goproc_channel_send_part_doc[];

#endif
