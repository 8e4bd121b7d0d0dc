/* puts.c - the methods of a queue that put, and may wait for room or a place. waits.c says how they use gates. */
#define _GNU_SOURCE
#include "../dump/waits.h"
#include "../pickling.h"
#include "ring.h"

/* Sleeps until there may be a place, or room, in the queue. */
static int nap(goproc_ring *ring, goproc_bell *bell, uint32_t seen, uint64_t deadline) {
    int error;
    Py_BEGIN_ALLOW_THREADS;
    goproc_wait *note = goproc_waits_for(GOPROC_WAIT_QUEUE_PUT, ring->header, 0, deadline);
    error = goproc_nap(bell, seen, deadline, GOPROC_NEXT_LOOK_NS);
    goproc_waits_no_longer(note);
    Py_END_ALLOW_THREADS;
    return goproc_after_wait(error);
}

/* How to put. IF_ROOM: put the item, or say that there is no room. COUNT: only count one more item in the buffer of
 * this process. WAIT: wait for room. FEED: the same for an item that has been counted in the buffer. AT_ONCE: do
 * nothing if there is no room, or if items are in the buffer. PLACE: only wait for a place. */
enum { IF_ROOM, COUNT, WAIT, PLACE, FEED, AT_ONCE };

/* The outcomes. TO_BUFFER: the item is to go into the buffer; only COUNT has changed anything. */
enum { FAILED = -1, FULL, TO_BUFFER, IS_PUT };

static int put(goproc_queue *self, const goproc_new_item *item, int how, int block, uint64_t deadline) {
    goproc_ring *ring = &self->ring;
    goproc_queue_header *header = ring->header;
    goproc_bell *armed = NULL;
    uint32_t seen = 0;
    for (;;) {
        int next = GOPROC_AGAIN, done = 0;
        if (goproc_ends_are_closed(ring, GOPROC_GETTING_END) && how != COUNT && how != PLACE) {
            if (how == IF_ROOM || how == AT_ONCE)
                return TO_BUFFER; /* the thread then fails, as in multiprocessing */
            errno = EPIPE;
            PyErr_SetFromErrno(PyExc_OSError);
            return FAILED;
        }
        if (!goproc_gate_try(&header->putting, ring->me)) {
            next = goproc_wait_for_gate(ring, &header->putting, &ring->putting, block ? deadline : 0);
            if (next == GOPROC_RAISED)
                return FAILED;
            if (next == GOPROC_TIME_IS_OVER && how != FEED)
                return FULL;
            continue;
        }
        int full = ring->maxsize && how != FEED &&
                   goproc_ring_count(ring) + goproc_unfed(ring, armed != NULL || !block) >= ring->maxsize;
        if (how == AT_ONCE && (full || ring->counted || ring->uncounted)) {
            goproc_gate_leave(&header->putting);
            return TO_BUFFER;
        } else if (full) {
            done = 0;
        } else if (how == COUNT || how == PLACE) {
            if (how == COUNT)
                goproc_unfed_add(ring);
            goproc_gate_leave(&header->putting);
            return TO_BUFFER;
        } else {
            done = goproc_ring_put(ring, item);
            if (done == 0 && (how == IF_ROOM || how == AT_ONCE)) {
                goproc_gate_leave(&header->putting);
                return TO_BUFFER;
            }
            if (done && how == FEED)
                goproc_unfed_remove(ring);
        }
        int error = errno;
        goproc_gate_leave(&header->putting);
        if (done > 0) {
            goproc_ring_wake(ring);
            return IS_PUT;
        }
        if (done < 0) {
            errno = error;
            goproc_raise_errno("pwrite", "to put a large item into a queue");
            return FAILED;
        }
        if (full && !block)
            return FULL;
        goproc_bell *bell = full ? &header->bound_bell : &header->room_bell;
        if (armed != bell) {
            armed = bell;
            seen = goproc_bell_armed(bell); /* now look again */
            continue;
        }
        armed = NULL;
        next = nap(ring, bell, seen, deadline);
        if (next == GOPROC_AGAIN)
            continue;
        if (full) /* the get may have woken nobody else */
            goproc_ring_wake_bound(ring);
        return next == GOPROC_RAISED ? FAILED : FULL;
    }
}

PyDoc_STRVAR(put_doc,
             "_put(stream, buffers, how, block, timeout)\n--\n\n"
             "Put an item. stream: its pickle, bytes or a list. buffers: its buffers, a list or None; True if\n"
             "stream is a bytes object that is the item. how: 0 to put it if there is room, 1 only to count it\n"
             "as one in the buffer, 2 to wait for room, 3 only to wait for a place. block, timeout: for a\n"
             "queue with a maxsize. Returns whether it has been put. Raises queue.Full.");

static PyObject *queue_put(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    goproc_queue *self = (goproc_queue *)object;
    if (count != 5)
        return PyErr_Format(PyExc_TypeError, "_put() takes 5 arguments (%zd given)", count);
    int how = (int)PyLong_AsLong(args[2]), block = PyObject_IsTrue(args[3]);
    uint64_t deadline = 0;
    if ((how == -1 && PyErr_Occurred()) || block < 0 || goproc_queue_check(self) < 0)
        return NULL;
    if (how < IF_ROOM || how > PLACE)
        return PyErr_Format(PyExc_ValueError, "there is no way %d to put", how);
    int is_bad = block ? goproc_read_deadline(args[4], &deadline) : 0;
    if (is_bad < 0)
        return NULL;
    goproc_item_views views;
    int outcome = FAILED;
    self->used = 1;
    if (goproc_item_begin(&views, args[0], args[1]) == 0)
        outcome = put(self, &views.item, how, block, deadline);
    goproc_item_end(&views);
    if (outcome == FULL && is_bad)
        return goproc_raise_bad_timeout();
    if (outcome == FULL)
        PyErr_SetNone(goproc_queue_names.full);
    return outcome <= FULL ? NULL : PyBool_FromLong(outcome == IS_PUT);
}

PyDoc_STRVAR(put_plain_doc,
             "_put_plain(item)\n--\n\n"
             "Put a plain object, without pickling it. Returns whether it has been put: not if it is "
             "not plain, if there\nis no room, if the queue is closed, or if the program has its own pickler.");

static PyObject *queue_put_plain(PyObject *object, PyObject *item) {
    goproc_queue *self = (goproc_queue *)object;
    PyObject *own = goproc_own_pickler(goproc_queue_names.pickler);
    if (!own)
        return NULL;
    Py_DECREF(own); /* only compared */
    uint8_t written[GOPROC_MOST_PLAIN];
    goproc_piece piece = {written, goproc_pickles_all ? 0 : goproc_plain_write(item, written, sizeof written), 1};
    if (piece.size == 0 || self->closed || own != Py_None)
        Py_RETURN_FALSE;
    if (goproc_queue_is_made(self) < 0)
        return NULL;
    self->used = 1;
    goproc_new_item plain = {.kind = GOPROC_ITEM_PLAIN, .pieces = &piece, .count = 1, .stream = 1};
    int outcome = put(self, &plain, AT_ONCE, 1, 0);
    return outcome == FAILED ? NULL : PyBool_FromLong(outcome == IS_PUT);
}

PyDoc_STRVAR(feed_doc, "_feed(stream, buffers)\n--\n\n"
                       "Put an item of the buffer; wait for room. The arguments are those of _put().");

static PyObject *queue_feed(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    goproc_queue *self = (goproc_queue *)object;
    if (count != 2)
        return PyErr_Format(PyExc_TypeError, "_feed() takes 2 arguments (%zd given)", count);
    if (goproc_queue_is_made(self) < 0)
        return NULL;
    goproc_item_views views;
    int outcome = FAILED;
    if (goproc_item_begin(&views, args[0], args[1]) == 0)
        outcome = put(self, &views.item, FEED, 1, 0);
    goproc_item_end(&views);
    if (outcome == FAILED)
        return NULL;
    Py_RETURN_NONE;
}

PyMethodDef goproc_queue_puts[] = {
    {"_put", (PyCFunction)(void (*)(void))queue_put, METH_FASTCALL, put_doc},
    {"_put_plain", queue_put_plain, METH_O, put_plain_doc},
    {"_feed", (PyCFunction)(void (*)(void))queue_feed, METH_FASTCALL, feed_doc},
    {NULL, NULL, 0, NULL},
};
