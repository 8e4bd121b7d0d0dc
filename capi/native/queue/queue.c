/* queue.c - the Python type behind Queue, JoinableQueue and SimpleQueue; puts.c and waits.c have more methods.
 *
 * goproc/queues.py has the public classes.
 */
#include "../pickling.h"
#include "ring.h"

#include <structmember.h>

struct goproc_queue_names goproc_queue_names;

int goproc_queue_is_made(goproc_queue *self) {
    if (!self->ring.header) {
        PyErr_SetString(PyExc_RuntimeError, "the queue has not been initialised");
        return -1;
    }
    goproc_ring_refresh(&self->ring);
    return 0;
}

int goproc_queue_check(goproc_queue *self) {
    if (self->closed) {
        PyErr_Format(PyExc_ValueError, "Queue %R is closed", self);
        return -1;
    }
    return goproc_queue_is_made(self);
}

int goproc_queue_end_is_closed(goproc_queue *self) {
    if (!self->closed || !self->used)
        return 0;
    PyErr_SetString(PyExc_OSError, "handle is closed");
    return 1;
}

/* ---- items ------------------------------------------------------------------------------------------------------- */

int goproc_item_begin(goproc_item_views *views, PyObject *stream, PyObject *buffers) {
    memset(views, 0, sizeof *views);
    goproc_new_item *item = &views->item;
    item->kind = buffers == Py_True ? GOPROC_ITEM_BYTES : GOPROC_ITEM_PICKLE;
    if (PyBytes_CheckExact(stream) && (!buffers || buffers == Py_None || buffers == Py_True)) {
        views->one = (goproc_piece){PyBytes_AS_STRING(stream), (size_t)PyBytes_GET_SIZE(stream), 1};
        item->pieces = &views->one;
        item->count = item->stream = 1;
        return 0;
    }
    Py_ssize_t pieces = PyList_CheckExact(stream) ? PyList_GET_SIZE(stream) : 1;
    Py_ssize_t extra = buffers && PyList_CheckExact(buffers) ? PyList_GET_SIZE(buffers) : 0;
    if (extra >= GOPROC_MOST_PARTS) {
        PyErr_Format(PyExc_ValueError, "an item has %zd buffers, more than %d", extra, GOPROC_MOST_PARTS - 1);
        return -1;
    }
    item->pieces = PyMem_Calloc((size_t)(pieces + extra), sizeof *item->pieces);
    views->views = PyMem_Calloc((size_t)(pieces + extra), sizeof *views->views);
    if (!item->pieces || !views->views) {
        PyErr_NoMemory();
        return -1;
    }
    if (extra)
        item->kind = GOPROC_ITEM_PARTS;
    for (Py_ssize_t i = 0; i < pieces + extra; i++) {
        PyObject *piece = i >= pieces                 ? PyList_GET_ITEM(buffers, i - pieces)
                          : PyList_CheckExact(stream) ? PyList_GET_ITEM(stream, i)
                                                      : stream;
        Py_buffer *view = &views->views[i];
        if (PyObject_GetBuffer(piece, view, i < pieces ? PyBUF_SIMPLE : PyBUF_ANY_CONTIGUOUS) < 0)
            return -1;
        views->views_count++;
        item->pieces[i] = (goproc_piece){view->buf, (size_t)view->len, PyBytes_CheckExact(view->obj)};
    }
    item->count = (size_t)(pieces + extra);
    item->stream = (size_t)pieces;
    return 0;
}

void goproc_item_end(goproc_item_views *views) {
    while (views->views_count)
        PyBuffer_Release(&views->views[--views->views_count]);
    PyMem_Free(views->views);
    if (views->item.pieces != &views->one)
        PyMem_Free(views->item.pieces);
}

static int failed(void) {
    if (errno == EPROTO)
        PyErr_SetString(PyExc_OSError, "goproc: the memory of the queue has been overwritten");
    else
        goproc_raise_errno("pread",
                           "to get a large item of a queue: the program has closed the descriptor of its memory");
    return -1;
}

static PyObject *copied(goproc_queue *self, const goproc_found *found, uint64_t from, uint64_t size, int as_bytes) {
    if (size > found->size) {
        errno = EPROTO;
        failed();
        return NULL;
    }
    PyObject *copy = as_bytes ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size)
                              : PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (!copy)
        return NULL;
    void *to = as_bytes ? PyBytes_AS_STRING(copy) : PyByteArray_AS_STRING(copy);
    if (goproc_ring_copy(&self->ring, found, from, to, (size_t)size) < 0) {
        Py_DECREF(copy);
        failed();
        return NULL;
    }
    return copy;
}

static int read_parts(goproc_queue *self, const goproc_found *found, goproc_payload_found *payload) {
    uint64_t number, sizes[GOPROC_MOST_PARTS];
    if (goproc_ring_copy(&self->ring, found, 0, &number, sizeof number) < 0)
        return failed();
    if (number == 0 || number > GOPROC_MOST_PARTS) {
        errno = EPROTO;
        return failed();
    }
    if (goproc_ring_copy(&self->ring, found, sizeof number, sizes, sizeof *sizes * (size_t)number) < 0)
        return failed();
    uint64_t at = sizeof number * (number + 1);
    payload->content = copied(self, found, at, sizes[0], 1);
    if (!payload->content)
        return -1;
    payload->buffers = PyMem_Malloc(sizeof *payload->buffers * (size_t)number);
    if (!payload->buffers) {
        PyErr_NoMemory();
        return -1;
    }
    at += sizes[0];
    for (uint64_t i = 1; i < number; i++) {
        uint64_t size = sizes[i] & ~GOPROC_PART_OF_BYTES;
        payload->buffers[payload->count] = copied(self, found, at, size, size != sizes[i]);
        at += size;
        if (!payload->buffers[payload->count])
            return -1;
        payload->count++;
    }
    return 0;
}

static void drop_payload(goproc_payload_found *payload) {
    Py_CLEAR(payload->content);
    while (payload->count)
        Py_DECREF(payload->buffers[--payload->count]);
    PyMem_Free(payload->buffers);
    payload->buffers = NULL;
}

int goproc_queue_read(goproc_queue *self, const goproc_found *found, goproc_payload_found *payload) {
    payload->kind = found->kind;
    payload->content = NULL;
    payload->buffers = NULL;
    payload->count = 0;
    payload->size = (size_t)found->size;
    if (found->kind == GOPROC_ITEM_PLAIN) {
        if (found->size <= GOPROC_MOST_PLAIN)
            return goproc_ring_copy(&self->ring, found, 0, payload->plain, payload->size) < 0 ? failed() : 0;
        errno = EPROTO;
        return failed();
    }
    if (found->kind == GOPROC_ITEM_PARTS) {
        if (read_parts(self, found, payload) == 0)
            return 0;
        drop_payload(payload);
        return -1;
    }
    payload->content = copied(self, found, 0, found->size, 1);
    return payload->content ? 0 : -1;
}

static PyObject *loads_parts(goproc_payload_found *payload) {
    PyObject *buffers = PyList_New(payload->count);
    if (!buffers)
        return NULL;
    for (Py_ssize_t i = 0; i < payload->count; i++)
        PyList_SET_ITEM(buffers, i, Py_NewRef(payload->buffers[i]));
    PyObject *object = goproc_loads_parts(goproc_queue_names.pickler, payload->content, buffers);
    Py_DECREF(buffers);
    return object;
}

PyObject *goproc_queue_loads(goproc_payload_found *payload) {
    if (payload->kind == GOPROC_ITEM_PLAIN)
        return goproc_plain_read(payload->plain, payload->size);
    if (payload->kind == GOPROC_ITEM_BYTES)
        return payload->content;
    PyObject *object =
        payload->buffers ? loads_parts(payload) : goproc_loads(goproc_queue_names.pickler, payload->content);
    drop_payload(payload);
    return object;
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

PyDoc_STRVAR(make_doc, "_make(maxsize, joinable)\n--\n\nMake the queue's memory. maxsize: 0 for no bound.");

static PyObject *queue_make(PyObject *object, PyObject *args) {
    goproc_queue *self = (goproc_queue *)object;
    unsigned maxsize;
    int joinable;
    const char *call;
    if (!PyArg_ParseTuple(args, "Ip:_make", &maxsize, &joinable))
        return NULL;
    if (self->ring.header)
        return PyErr_Format(PyExc_RuntimeError, "the queue has been made already");
    if (goproc_ring_make(&self->ring, maxsize, joinable, &call) < 0) {
        goproc_raise_errno(call, "for a queue");
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(files_doc, "_files()\n--\n\n"
                        "The two descriptors that another process needs for _attach(). Raises OSError if the program\n"
                        "has closed one of them by its number.");

static PyObject *queue_files(PyObject *object, PyObject *Py_UNUSED(unused)) {
    goproc_ring *ring = &((goproc_queue *)object)->ring;
    if (goproc_queue_is_made((goproc_queue *)object) < 0)
        return NULL;
    if (goproc_mark(ring->fd) != ring->fd_mark || goproc_mark(ring->event) != ring->event_mark) {
        errno = EBADF;
        goproc_raise_errno("fstat", "to send a queue to a process: the program has closed a descriptor of it");
        return NULL;
    }
    return Py_BuildValue("ii", ring->fd, ring->event);
}

PyDoc_STRVAR(attach_doc, "_attach(fd, event)\n--\n\n"
                         "Use the queue that another process has made, and take the descriptors over.");

static PyObject *queue_attach(PyObject *object, PyObject *args) {
    goproc_queue *self = (goproc_queue *)object;
    int fd, event;
    if (!PyArg_ParseTuple(args, "ii:_attach", &fd, &event))
        return NULL;
    if (self->ring.header)
        return PyErr_Format(PyExc_RuntimeError, "the queue has been made already");
    if (goproc_ring_attach(&self->ring, fd, event) < 0) {
        goproc_raise_errno("mmap", "to use a queue of another process");
        return NULL;
    }
    Py_RETURN_NONE;
}

static void queue_dealloc(PyObject *object) {
    goproc_ring_drop(&((goproc_queue *)object)->ring);
    Py_TYPE(object)->tp_free(object);
}

/* ---- methods ----------------------------------------------------------------------------------------------------- */

static PyObject *queue_empty(PyObject *object, PyObject *Py_UNUSED(unused)) {
    goproc_queue *self = (goproc_queue *)object;
    if (goproc_queue_is_made(self) < 0)
        return NULL;
    if (goproc_queue_end_is_closed(self))
        return NULL;
    int empty = goproc_ring_count(&self->ring) == 0 && !goproc_ring_has_ended(&self->ring);
    if (empty)
        goproc_offer_gil();
    return PyBool_FromLong(empty);
}

static uint64_t size_of(goproc_queue *self) {
    return (uint64_t)goproc_ring_count(&self->ring) + goproc_unfed_here(&self->ring);
}

static PyObject *queue_size(PyObject *object, PyObject *Py_UNUSED(unused)) {
    goproc_queue *self = (goproc_queue *)object;
    return goproc_queue_is_made(self) == 0 ? PyLong_FromUnsignedLongLong(size_of(self)) : NULL;
}

static PyObject *queue_full(PyObject *object, PyObject *Py_UNUSED(unused)) {
    goproc_queue *self = (goproc_queue *)object;
    if (goproc_queue_is_made(self) < 0)
        return NULL;
    return PyBool_FromLong(self->ring.maxsize && size_of(self) >= self->ring.maxsize);
}

static PyObject *queue_unfinished(PyObject *object, PyObject *Py_UNUSED(unused)) {
    goproc_queue *self = (goproc_queue *)object;
    return goproc_queue_is_made(self) == 0 ? PyLong_FromUnsignedLongLong(goproc_unfinished(&self->ring)) : NULL;
}

PyDoc_STRVAR(watch_doc, "_watch()\n--\n\n"
                        "Return a descriptor that is readable while there are items. The queue closes it.");

static PyObject *queue_watch(PyObject *object, PyObject *Py_UNUSED(unused)) {
    if (goproc_queue_is_made((goproc_queue *)object) < 0)
        return NULL;
    int event = goproc_ring_watch(&((goproc_queue *)object)->ring);
    if (event < 0) {
        goproc_raise_errno("fstat", "to wait for a queue: the program has closed its descriptor");
        return NULL;
    }
    return PyLong_FromLong(event);
}

PyDoc_STRVAR(close_ends_doc,
             "_close_ends(ends)\n--\n\n"
             "Close ends of the queue for this process: 1 for putting, 2 for getting, 3 for both. put()\n"
             "and get() still work here. Raises OSError if that is not possible; they stay open then.");

static PyObject *queue_ends(PyObject *object, PyObject *Py_UNUSED(unused)) {
    return PyLong_FromLong(((goproc_queue *)object)->ring.ends);
}

static PyObject *queue_close_ends(PyObject *object, PyObject *argument) {
    long ends = PyLong_AsLong(argument);
    if ((ends == -1 && PyErr_Occurred()) || goproc_queue_is_made((goproc_queue *)object) < 0)
        return NULL;
    if (goproc_ends_close(&((goproc_queue *)object)->ring, (int)ends) < 0) {
        goproc_raise_errno("open, fcntl or mmap", "to close an end of a queue");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *queue_has_ended(PyObject *object, PyObject *Py_UNUSED(unused)) {
    if (goproc_queue_is_made((goproc_queue *)object) < 0)
        return NULL;
    return PyBool_FromLong(goproc_ring_has_ended(&((goproc_queue *)object)->ring));
}

static PyMethodDef queue_methods[] = {
    {"_empty", queue_empty, METH_NOARGS, PyDoc_STR("_empty()\n--\n\nReturn whether there is no item to be had now.")},
    {"_full", queue_full, METH_NOARGS, PyDoc_STR("_full()\n--\n\nReturn whether there are maxsize items.")},
    {"_qsize", queue_size, METH_NOARGS,
     PyDoc_STR("_qsize()\n--\n\nReturn the number of items, those in the buffers of processes included.")},
    {"_unfinished", queue_unfinished, METH_NOARGS,
     PyDoc_STR("_unfinished()\n--\n\nReturn how many items have been put and not been reported done.")},
    {"_watch", queue_watch, METH_NOARGS, watch_doc},
    {"_close_ends", queue_close_ends, METH_O, close_ends_doc},
    {"_ends", queue_ends, METH_NOARGS,
     PyDoc_STR("_ends()\n--\n\nReturn the ends that this process has not closed, as _close_ends() takes them.")},
    {"_has_ended", queue_has_ended, METH_NOARGS,
     PyDoc_STR("_has_ended()\n--\n\nReturn whether all processes have closed the putting end, or have ended.")},
    {"_make", queue_make, METH_VARARGS, make_doc},
    {"_files", queue_files, METH_NOARGS, files_doc},
    {"_attach", queue_attach, METH_VARARGS, attach_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"_closed", T_BOOL, offsetof(goproc_queue, closed), 0, PyDoc_STR("Whether close() has been called here.")},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject queue_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc._native.Queue",
    .tp_doc = PyDoc_STR("A queue in shared memory. goproc.queues has the public classes."),
    .tp_basicsize = sizeof(goproc_queue),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = queue_dealloc,
    .tp_methods = queue_methods,
    .tp_members = members,
};

/* ---- the module's part ------------------------------------------------------------------------------------------- */

PyDoc_STRVAR(set_queue_names_doc, "set_queue_names(pickler, empty, full, consumer_lost, producer_lost) -> None\n\n"
                                  "What queues ask and raise: a PicklerWatch, queue.Empty, queue.Full,\n"
                                  "goproc.ConsumerLostError(pid, tasks), goproc.ProducerLostError(pid, items).");

static PyObject *set_queue_names(PyObject *Py_UNUSED(module), PyObject *args) {
    struct goproc_queue_names names;
    if (!PyArg_ParseTuple(args, "O!OOOO:set_queue_names", &goproc_pickler_watch, &names.pickler, &names.empty,
                          &names.full, &names.consumer_lost, &names.producer_lost))
        return NULL;
    Py_XSETREF(goproc_queue_names.pickler, Py_NewRef(names.pickler));
    Py_XSETREF(goproc_queue_names.empty, Py_NewRef(names.empty));
    Py_XSETREF(goproc_queue_names.full, Py_NewRef(names.full));
    Py_XSETREF(goproc_queue_names.consumer_lost, Py_NewRef(names.consumer_lost));
    Py_XSETREF(goproc_queue_names.producer_lost, Py_NewRef(names.producer_lost));
    Py_RETURN_NONE;
}

PyDoc_STRVAR(mend_queues_doc,
             "mend_queues() -> None\n\n"
             "A child was killed: signal the descriptors of queues that have items, since it may have\n"
             "been killed before it signalled them.");

static PyObject *mend_queues(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    goproc_rings_mend();
    Py_RETURN_NONE;
}

int goproc_pickles_all;

static PyObject *pickle_all_items(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    goproc_pickles_all = 1;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"set_queue_names", set_queue_names, METH_VARARGS, set_queue_names_doc},
    {"mend_queues", mend_queues, METH_NOARGS, mend_queues_doc},
    {"pickle_all_items", pickle_all_items, METH_NOARGS,
     PyDoc_STR("pickle_all_items() -> None\n\nPickle plain objects, too, when they are put into a queue.")},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef all_methods[sizeof queue_methods / sizeof *queue_methods + 16];

int goproc_init_queue(PyObject *module) {
    size_t count = 0;
    for (const PyMethodDef *method = queue_methods; method->ml_name; method++)
        all_methods[count++] = *method;
    for (const PyMethodDef *method = goproc_queue_puts; method->ml_name; method++)
        all_methods[count++] = *method;
    for (const PyMethodDef *method = goproc_queue_waits; method->ml_name; method++)
        all_methods[count++] = *method;
    queue_type.tp_methods = all_methods;
    if (PyModule_AddType(module, &queue_type) < 0)
        return -1;
    return PyModule_AddFunctions(module, methods);
}
