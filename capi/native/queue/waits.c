/* waits.c - the methods of a queue that wait for items and tasks: get, poll, join. puts.c has those that put.
 *
 * The steps inside a gate are made with the GIL held, and nobody waits for the GIL inside: another thread that computes
 * must not keep all other processes out. So a thread that finds the gate taken releases the GIL, waits until nobody is
 * inside, takes the GIL, and tries again.
 */
#define _GNU_SOURCE
#include "../dump/waits.h"
#include "../pickling.h"
#include "ring.h"

int goproc_after_wait(int error) {
    if (error == ETIMEDOUT)
        return GOPROC_TIME_IS_OVER;
    if (error == EINTR && PyErr_CheckSignals() < 0)
        return GOPROC_RAISED;
    return GOPROC_AGAIN;
}

int goproc_wait_for_gate(goproc_ring *ring, goproc_gate *gate, goproc_sync_spinner *spinner, uint64_t deadline) {
    int error;
    Py_BEGIN_ALLOW_THREADS;
    error = goproc_gate_wait(ring, gate, spinner, deadline);
    Py_END_ALLOW_THREADS;
    return goproc_after_wait(error);
}

/* ---- get --------------------------------------------------------------------------------------------------------- */

/* A wait for an item, which goes on after signals. */
typedef struct {
    int64_t look_ns;   /* for how long to sleep before the next look; 0: it has not slept yet */
    goproc_wait *note; /* the function that made the struct ends the note */
} item_wait;

/* How long to sleep before the next look: a shorter time if the caller must notice that nobody can put any more. */
static int64_t look_ns(const goproc_ring *ring, int64_t usual) {
    return ring->ends & GOPROC_PUTTING_END ? usual : 20000000;
}

/* Waits until there is an item; GOPROC_AGAIN: there was one, or signal handlers have run. */
static int wait_for_item(goproc_ring *ring, uint64_t deadline, item_wait *wait) {
    goproc_queue_header *header = ring->header;
    _Atomic uint32_t *tail = goproc_count_word(&header->tail), *head = goproc_count_word(&header->head);
    int error = 0;
    Py_BEGIN_ALLOW_THREADS;
    uint32_t seen = atomic_load(head);
    if (atomic_load(tail) == seen && (wait->look_ns || !goproc_sync_spin(&ring->getting, tail, seen))) {
        if (!wait->look_ns)
            wait->look_ns = look_ns(ring, GOPROC_FIRST_LOOK_NS);
        if (!wait->note)
            wait->note = goproc_waits_for(GOPROC_WAIT_QUEUE_GET, header, 0, deadline);
        while (!error) {
            seen = goproc_bell_armed(&header->item_bell);
            if (atomic_load(tail) != atomic_load(head))
                break;
            error = goproc_nap(&header->item_bell, seen, deadline, wait->look_ns);
        }
        if (error && atomic_load(tail) == atomic_load(head)) {
            goproc_ring_trim(ring); /* it is idle */
            wait->look_ns = look_ns(ring, GOPROC_NEXT_LOOK_NS);
        } else {
            goproc_waits_no_longer(wait->note);
            *wait = (item_wait){0};
        }
    }
    Py_END_ALLOW_THREADS;
    return goproc_after_wait(error);
}

/* To be called after a wait by a thread that takes no item: the put may have woken nobody else. */
static void pass_on(goproc_ring *ring) {
    if (goproc_ring_count(ring))
        goproc_ring_wake(ring);
}

static int take_noted(goproc_queue *self, int block, uint64_t deadline, goproc_payload_found *payload,
                      item_wait *wait) {
    goproc_ring *ring = &self->ring;
    goproc_queue_header *header = ring->header;
    for (;;) {
        int next = GOPROC_AGAIN;
        if (goproc_ring_count(ring) == 0) {
            if (goproc_ring_has_ended(ring) && goproc_ring_count(ring) == 0) {
                PyErr_SetNone(PyExc_EOFError);
                return -1;
            }
            if (goproc_gives_up(block, deadline))
                return 0;
            next = wait_for_item(ring, deadline, wait);
            if (next == GOPROC_TIME_IS_OVER && goproc_ring_count(ring))
                next = GOPROC_AGAIN;
        } else if (!goproc_gate_try(&header->getting, ring->me)) {
            next = goproc_wait_for_gate(ring, &header->getting, &ring->getting, deadline);
        } else {
            goproc_found found;
            int how = goproc_ring_find(ring, &found);
            if (how > 0 && goproc_queue_read(self, &found, payload) < 0)
                how = -2;
            if (how > 0) {
                if (ring->joinable)
                    goproc_task_taken(ring, found.head);
                goproc_ring_take(ring, &found);
            }
            goproc_gate_leave(&header->getting);
            if (how == -1)
                PyErr_SetString(PyExc_OSError, "goproc: the memory of the queue has been overwritten");
            if (how < 0)
                return -1;
            if (how > 0) {
                goproc_ring_taken(ring, &found);
                return 1;
            }
        }
        if (next != GOPROC_AGAIN) {
            pass_on(ring);
            return next == GOPROC_RAISED ? -1 : 0;
        }
    }
}

/* Returns 1 with the next item, 0 when the time is over, -1 with an exception set. */
static int take(goproc_queue *self, int block, uint64_t deadline, goproc_payload_found *payload) {
    item_wait wait = {0};
    int how = take_noted(self, block, deadline, payload, &wait);
    goproc_waits_no_longer(wait.note);
    return how;
}

/* Reads the arguments (block=True, timeout=None). *bad: the timeout, if it is NaN or infinity; or NULL. */
static int read_get_arguments(PyObject *const *args, Py_ssize_t count, PyObject *names, int *block, uint64_t *deadline,
                              PyObject **bad) {
    PyObject *given[] = {Py_True, Py_None};
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    if (count + named > 2) {
        PyErr_Format(PyExc_TypeError, "get() takes at most 2 arguments (%zd given)", count + named);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        given[i] = args[i];
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        int which = PyUnicode_CompareWithASCIIString(name, "block") == 0     ? 0
                    : PyUnicode_CompareWithASCIIString(name, "timeout") == 0 ? 1
                                                                             : -1;
        if (which < 0 || which < count) {
            PyErr_Format(PyExc_TypeError, "get() got an unexpected keyword argument %R", name);
            return -1;
        }
        given[which] = args[count + i];
    }
    *deadline = 0;
    *block = given[0] == Py_True ? 1 : PyObject_IsTrue(given[0]);
    if (*block < 0)
        return -1;
    int is_bad = *block ? goproc_read_deadline(given[1], deadline) : 0;
    *bad = is_bad > 0 ? given[1] : NULL;
    return is_bad < 0 ? -1 : 0;
}

PyDoc_STRVAR(get_doc, "_get(block=True, timeout=None)\n--\n\n"
                      "Remove and return an item. block: whether to wait for one. timeout: seconds to wait at most; "
                      "None for no\nlimit. Raises queue.Empty, and ValueError if the queue is closed. Source:\n"
                      "multiprocessing.Queue.get.");

static PyObject *queue_get(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    goproc_queue *self = (goproc_queue *)object;
    goproc_payload_found payload;
    uint64_t deadline;
    int block;
    PyObject *bad;
    if (goproc_queue_check(self) < 0 || read_get_arguments(args, count, names, &block, &deadline, &bad) < 0)
        return NULL;
    int how = take(self, block, deadline, &payload);
    if (how == 0 && bad)
        return goproc_raise_as_select(bad);
    if (how == 0)
        PyErr_SetNone(goproc_queue_names.empty);
    return how > 0 ? goproc_queue_loads(&payload) : NULL;
}

PyDoc_STRVAR(receive_doc, "_receive()\n--\n\n"
                          "Remove and return an item; wait for one. Raises OSError if this process has put something,\n"
                          "and then closed the queue.");

static PyObject *queue_receive(PyObject *object, PyObject *Py_UNUSED(unused)) {
    goproc_queue *self = (goproc_queue *)object;
    goproc_payload_found payload;
    if (goproc_queue_is_made(self) < 0 || goproc_queue_end_is_closed(self))
        return NULL;
    return take(self, 1, 0, &payload) > 0 ? goproc_queue_loads(&payload) : NULL;
}

PyDoc_STRVAR(poll_doc, "_poll(timeout=0.0)\n--\n\n"
                       "Wait until there is an item, timeout seconds at most; None for no limit. Return whether there "
                       "is one,\nor nobody can put any more.");

static PyObject *queue_poll(PyObject *object, PyObject *args) {
    goproc_queue *self = (goproc_queue *)object;
    PyObject *timeout = NULL;
    uint64_t deadline = 0;
    if (!PyArg_ParseTuple(args, "|O:_poll", &timeout) || goproc_queue_is_made(self) < 0 ||
        goproc_queue_end_is_closed(self))
        return NULL;
    int is_bad = timeout ? goproc_read_deadline(timeout, &deadline) : 0;
    if (is_bad)
        return is_bad < 0 ? NULL : goproc_raise_as_select(timeout);
    item_wait wait = {0};
    int next = GOPROC_AGAIN;
    while (next == GOPROC_AGAIN && goproc_ring_count(&self->ring) == 0 && !goproc_ring_has_ended(&self->ring))
        next = goproc_gives_up(timeout != NULL, deadline) ? GOPROC_TIME_IS_OVER
                                                          : wait_for_item(&self->ring, deadline, &wait);
    goproc_waits_no_longer(wait.note);
    pass_on(&self->ring);
    if (next == GOPROC_RAISED)
        return NULL;
    return PyBool_FromLong(goproc_ring_count(&self->ring) || goproc_ring_has_ended(&self->ring));
}

/* ---- tasks ------------------------------------------------------------------------------------------------------- */

PyDoc_STRVAR(task_done_doc,
             "_task_done()\n--\n\n"
             "Report that an item which was got has been worked on. Raises ValueError if there is none.\n"
             "Source: multiprocessing.JoinableQueue.task_done.");

static PyObject *queue_task_done(PyObject *object, PyObject *Py_UNUSED(unused)) {
    goproc_queue *self = (goproc_queue *)object;
    if (goproc_queue_is_made(self) < 0)
        return NULL;
    goproc_ring *ring = &self->ring;
    while (!goproc_gate_try(&ring->header->getting, ring->me))
        if (goproc_wait_for_gate(ring, &ring->header->getting, &ring->getting, 0) == GOPROC_RAISED)
            return NULL;
    int done = goproc_task_done(ring);
    goproc_gate_leave(&ring->header->getting);
    if (done) {
        goproc_task_was_done(ring);
        Py_RETURN_NONE;
    }
    PyErr_SetString(PyExc_ValueError, "task_done() called too many times");
    return NULL;
}

PyDoc_STRVAR(join_doc,
             "_join()\n--\n\n"
             "Wait until all items that were put have been got and reported done.\n\n"
             "Raises ConsumerLostError, once, if a process was killed before it reported its items done. Raises\n"
             "ProducerLostError, once, if a process has ended whose items were still in its buffer.\n"
             "Source: multiprocessing.JoinableQueue.join.");

static PyObject *raise_lost(PyObject *type, uint32_t pid, uint32_t items) {
    PyObject *error = PyObject_CallFunction(type, "II", pid, items);
    if (error)
        PyErr_SetObject(type, error);
    Py_XDECREF(error);
    return NULL;
}

static PyObject *queue_join(PyObject *object, PyObject *Py_UNUSED(unused)) {
    goproc_queue *self = (goproc_queue *)object;
    if (goproc_queue_is_made(self) < 0)
        return NULL;
    goproc_queue_header *header = self->ring.header;
    uint32_t turn = atomic_load(&header->join_turn);
    uint64_t look_at = goproc_now_ns() + GOPROC_FIRST_LOOK_NS;
    for (;;) {
        uint32_t seen = goproc_bell_armed(&header->join_bell);
        uint32_t pid, lost = goproc_unfed_lost(&self->ring, &pid);
        if (lost)
            return raise_lost(goproc_queue_names.producer_lost, pid, lost);
        /* If all tasks were reported done while this thread waited, it returns, even if others have put items since. */
        if (atomic_load(&header->join_turn) != turn || goproc_unfinished(&self->ring) == 0)
            Py_RETURN_NONE;
        uint64_t now = goproc_now_ns();
        if (now >= look_at) {
            goproc_unfed_here(&self->ring);
            lost = goproc_tasks_lost(&self->ring, &pid);
            look_at = now + GOPROC_NEXT_LOOK_NS;
            if (lost)
                return raise_lost(goproc_queue_names.consumer_lost, pid, lost);
            continue;
        }
        int error;
        Py_BEGIN_ALLOW_THREADS;
        goproc_wait *note = goproc_waits_for(GOPROC_WAIT_QUEUE_JOIN, header, 0, 0);
        error = goproc_nap(&header->join_bell, seen, 0, (int64_t)(look_at - now));
        goproc_waits_no_longer(note);
        Py_END_ALLOW_THREADS;
        if (goproc_after_wait(error) == GOPROC_RAISED)
            return NULL;
    }
}

PyMethodDef goproc_queue_waits[] = {
    {"_get", (PyCFunction)(void (*)(void))queue_get, METH_FASTCALL | METH_KEYWORDS, get_doc},
    {"_receive", queue_receive, METH_NOARGS, receive_doc},
    {"_poll", queue_poll, METH_VARARGS, poll_doc},
    {"_task_done", queue_task_done, METH_NOARGS, task_done_doc},
    {"_join", queue_join, METH_NOARGS, join_doc},
    {NULL, NULL, 0, NULL},
};
