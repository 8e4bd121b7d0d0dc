/* channel_send.c - a worker's end of a pool: delivering results, and parts of a task that goes on; see channel.h. */
#define _GNU_SOURCE
#include "channel.h"

#include <string.h>

/* BYTES_AHEAD is a second limit besides GOPROC_PARTS_AHEAD: the parts that the program has not taken may have this many
 * bytes in extents. Two parts are always allowed, of any size: one that the program takes, and one that is being made
 * meanwhile. */
enum { BYTES_AHEAD = 8 << 20, LEAST_AHEAD = 2 };

/* Waits until the result ring has room for space contiguous bytes. Returns where they begin, or NULL with an
 * exception. */
static goproc_frame *reserve(goproc_channel *self, uint64_t space) {
    goproc_slot *slot = self->slot;
    uint64_t at = self->result_tail % GOPROC_RING_SIZE;
    uint64_t pad = at + space > GOPROC_RING_SIZE ? GOPROC_RING_SIZE - at : 0;
    for (;;) {
        uint64_t head = atomic_load_explicit(&slot->result_head, memory_order_acquire);
        if (self->result_tail - head > GOPROC_RING_SIZE)
            return goproc_channel_nonsense("results");
        if (self->result_tail + pad + space - head <= GOPROC_RING_SIZE)
            break;
        if (goproc_channel_sleep(self, GOPROC_SLEEP_ROOM, head) < 0)
            return NULL;
    }
    if (pad > 0) { /* a pad may be shorter than a header: only its first eight bytes are read */
        goproc_frame *frame = (goproc_frame *)(self->results + at);
        frame->size = (uint32_t)pad;
        frame->kind = GOPROC_KIND_PAD;
        self->result_tail += pad;
    }
    return (goproc_frame *)(self->results + self->result_tail % GOPROC_RING_SIZE);
}

/* Reads how many parts the program has taken. Returns 0, or -1 with an exception. */
static int read_taken(goproc_channel *self) {
    uint64_t taken = atomic_load(&self->slot->parts_taken);
    if (taken < self->parts_taken || taken > self->parts) {
        goproc_channel_nonsense("parts");
        return -1;
    }
    for (; self->parts_taken < taken; self->parts_taken++)
        self->parts_bytes -= self->bytes_of[self->parts_taken % GOPROC_PARTS_AHEAD];
    return 0;
}

/* Whether this worker must wait before it sends a part of that many bytes in an extent. */
static int is_ahead(const goproc_channel *self, uint64_t bytes) {
    uint64_t ahead = self->parts - self->parts_taken;
    return ahead >= GOPROC_PARTS_AHEAD ||
           (bytes > 0 && ahead >= LEAST_AHEAD && self->parts_bytes + bytes > BYTES_AHEAD);
}

/* Waits until the program has taken enough parts, so that another one with that many bytes in an extent may be sent.
 * This time does not count for the task's limit: meanwhile the slot says that no task runs, and afterwards the task's
 * start is moved. Returns 0, or -1 with an exception. */
static int wait_until_taken(goproc_channel *self, uint64_t bytes) {
    goproc_slot *slot = self->slot;
    if (!is_ahead(self, bytes))
        return 0;
    if (read_taken(self) < 0)
        return -1;
    if (!is_ahead(self, bytes))
        return 0;
    uint32_t most = atomic_load_explicit(&self->control->spin_ns, memory_order_relaxed);
    uint64_t start = goproc_now_ns(), started = atomic_load_explicit(&slot->started_ns, memory_order_relaxed);
    int result = 0;
    atomic_store_explicit(&slot->started_ns, 0, memory_order_relaxed);
    while (result == 0 && is_ahead(self, bytes)) {
        uint64_t seen = self->parts_taken;
        if (!GOPROC_SPIN(&self->spinner, start, &slot->parts_taken, seen))
            result = goproc_channel_sleep(self, GOPROC_SLEEP_TAKEN, seen);
        if (result == 0)
            result = read_taken(self);
    }
    uint64_t waited = goproc_now_ns() - start;
    goproc_spinner_waited(&self->spinner, most, waited);
    atomic_store_explicit(&slot->started_ns, started + waited, memory_order_release);
    return result;
}

/* Gives up a payload for which there was no room. Returns NULL. */
static PyObject *not_sent(goproc_channel *self, goproc_payload *payload) {
    if (payload->flags & GOPROC_FLAG_EXTENT)
        goproc_arena_reclaim(&self->out, &payload->extent);
    goproc_payload_done(payload);
    return NULL;
}

const char goproc_channel_send_part_doc[] = PyDoc_STR(
    "send_part(stream, buffers=None)\n--\n\n"
    "Deliver a part of the task that runs: a value that it has yielded. The task goes on.\n\n"
    "stream is the pickled value; buffers are the buffers that pickling left out of it. Waits while the\n"
    "program has not taken enough of the parts that were sent before. Raises RuntimeError when no task runs.");

PyObject *goproc_channel_send_part(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    goproc_channel *self = (goproc_channel *)object;
    if (count < 1 || count > 2) {
        PyErr_SetString(PyExc_TypeError, "send_part() takes 1 or 2 arguments");
        return NULL;
    }
    if (goproc_channel_check(self) < 0)
        return NULL;
    goproc_slot *slot = self->slot;
    if (self->begun != 1) {
        PyErr_SetString(PyExc_RuntimeError, "send_part(): this worker does not run a single task");
        return NULL;
    }
    goproc_payload payload;
    if (goproc_payload_pack(&payload, &self->out, args[0], count > 1 ? args[1] : NULL) < 0)
        return NULL;
    uint64_t bytes = payload.flags & GOPROC_FLAG_EXTENT ? payload.extent.length : 0;
    goproc_frame *frame = wait_until_taken(self, bytes) < 0 ? NULL : reserve(self, goproc_frame_space(payload.size));
    if (frame == NULL)
        return not_sent(self, &payload);
    frame->size = (uint32_t)payload.size;
    frame->kind = GOPROC_KIND_PART;
    frame->flags = (uint16_t)payload.flags;
    frame->job = atomic_load_explicit(&slot->current_job, memory_order_relaxed);
    frame->index = atomic_load_explicit(&slot->current_index, memory_order_relaxed);
    atomic_store_explicit(&frame->claim, 1, memory_order_relaxed);
    frame->busy_us = (uint32_t)self->parts;
    memcpy(frame + 1, payload.bytes, payload.size);
    goproc_payload_done(&payload);
    self->bytes_of[self->parts % GOPROC_PARTS_AHEAD] = bytes;
    self->parts_bytes += bytes;
    self->parts++;
    self->result_tail += goproc_frame_space(frame->size);
    atomic_store(&slot->result_tail, self->result_tail);
    atomic_fetch_add(&self->control->doorbell, 1);
    goproc_channel_poke(self, 1, 0, self->result_tail - atomic_load(&slot->result_head) > GOPROC_RING_SIZE / 2);
    goproc_arenas_tidy(&self->out, &self->in);
    Py_RETURN_NONE;
}

const char goproc_channel_send_doc[] =
    PyDoc_STR("send(failed, stream, buffers=None, last=False)\n--\n\n"
              "Deliver the result of all tasks that have been begun, mostly one, and begin the next task of the\n"
              "batch.\n\n"
              "stream is the pickled result, or, when failed is true, the pickled exception; buffers are the\n"
              "buffers that pickling left out of it. Waits while the pool has no room for it. Returns the\n"
              "number of the next task in the batch, or -1 when there is none: then recv() comes next. When last\n"
              "is true, no task is begun: this worker is about to end. If this worker has not begun any task yet,\n"
              "the exception says why it cannot begin: it is the failure of no task.");

PyObject *goproc_channel_send(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    goproc_channel *self = (goproc_channel *)object;
    if (count < 2 || count > 4) {
        PyErr_SetString(PyExc_TypeError, "send() takes 2 to 4 arguments");
        return NULL;
    }
    int failed = PyObject_IsTrue(args[0]), last = count > 3 ? PyObject_IsTrue(args[3]) : 0;
    if (failed < 0 || last < 0 || goproc_channel_check(self) < 0)
        return NULL;
    goproc_payload payload;
    if (goproc_payload_pack(&payload, &self->out, args[1], count > 2 ? args[2] : NULL) < 0)
        return NULL;
    goproc_frame *frame = reserve(self, goproc_frame_space(payload.size));
    if (frame == NULL)
        return not_sent(self, &payload);
    goproc_slot *slot = self->slot;
    uint64_t started = atomic_load_explicit(&slot->started_ns, memory_order_relaxed);
    uint64_t busy_us = (goproc_now_ns() - started) / 1000;
    frame->size = (uint32_t)payload.size;
    frame->kind = failed ? GOPROC_KIND_FAILURE : GOPROC_KIND_RESULT;
    frame->flags = (uint16_t)payload.flags;
    frame->job = started ? atomic_load_explicit(&slot->current_job, memory_order_relaxed) : GOPROC_NO_JOB;
    frame->index = atomic_load_explicit(&slot->current_index, memory_order_relaxed);
    atomic_store_explicit(&frame->claim, self->begun ? self->begun : 1, memory_order_relaxed);
    self->begun = 0;
    frame->busy_us = busy_us < 1 ? 1 : busy_us > UINT32_MAX ? UINT32_MAX : (uint32_t)busy_us;
    memcpy(frame + 1, payload.bytes, payload.size);
    goproc_payload_done(&payload);
    atomic_store_explicit(&slot->started_ns, 0, memory_order_relaxed);
    self->result_tail += goproc_frame_space(frame->size);
    atomic_store(&slot->result_tail, self->result_tail);
    atomic_fetch_add(&self->control->doorbell, 1);
    int64_t next = -1;
    if (self->frame != NULL && !last) {
        next = goproc_channel_begin(self);
        goproc_channel_leave(self);
    }
    int dry = next < 0 && atomic_load(&slot->task_tail) == self->task_head;
    int full = self->result_tail - atomic_load(&slot->result_head) > GOPROC_RING_SIZE / 2;
    goproc_channel_poke(self, 1, dry, full);
    goproc_arenas_tidy(&self->out, &self->in);
    return PyLong_FromLongLong(next);
}
