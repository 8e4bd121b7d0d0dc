/* port_collect.c - the parent's end of a pool: collecting completions, and waiting for them; see port.h.
 *
 * A thread that wants a result becomes the collector, for all threads. While there is no collector, the pool's own
 * thread watches. This thread costs nothing as long as others collect.
 */
#define _GNU_SOURCE
#include "port.h"
#include "dump/waits.h"
#include "sync/sync.h"

#include <string.h>

enum {
    /* The longest sleep. A signal that arrives just before a sleep does not end it, so its handler waits for the
     * sleep's end. */
    SLEEP_NS = 200000000,
    /* How long a result waits for a thread that wants it, before the pool's own thread collects it. A thread that takes
     * results one after the other comes back within that time. If none comes, the delay does not matter. */
    PATIENCE_NS = 10000000,
};

/* One completion as a tuple (job, index, kind, payload). The index of a result that answers several tasks is (first,
 * count), that of a part (index, number of the part). */
static PyObject *completion(goproc_port *self, const goproc_frame *frame) {
    const uint8_t *bytes = (const uint8_t *)(frame + 1);
    uint64_t size = frame->size;
    PyObject *payload;
    int part = frame->kind == GOPROC_KIND_PART;
    if (part || frame->kind == GOPROC_KIND_RESULT || frame->kind == GOPROC_KIND_FAILURE) {
        payload = goproc_payload_unpack(&self->in, bytes, size, frame->flags);
        int is_large = frame->flags & GOPROC_FLAG_EXTENT; /* its memory has been given back: it cannot be read again */
        if (payload == NULL &&
            (PyErr_ExceptionMatches(PyExc_OSError) || (is_large && PyErr_ExceptionMatches(PyExc_MemoryError)))) {
            PyObject *type, *value, *traceback; /* the error becomes this task's outcome; the collector goes on */
            PyErr_Fetch(&type, &value, &traceback);
            PyErr_NormalizeException(&type, &value, &traceback);
            Py_XDECREF(type);
            Py_XDECREF(traceback);
            payload = value;
        }
    } else {
        if (frame->flags & GOPROC_FLAG_EXTENT && size >= sizeof(goproc_extent)) {
            goproc_extent extent;
            memcpy(&extent, bytes, sizeof extent);
            goproc_arena_reclaim(&self->out, &extent);
            bytes += sizeof extent;
            size -= sizeof extent;
        }
        payload = PyBytes_FromStringAndSize((const char *)bytes, (Py_ssize_t)size);
    }
    if (payload == NULL)
        return NULL;
    uint32_t count = part ? frame->busy_us : atomic_load_explicit(&frame->claim, memory_order_relaxed);
    if (part || count > 1)
        return Py_BuildValue("K(KI)iN", (unsigned long long)frame->job, (unsigned long long)frame->index,
                             (unsigned int)count, (int)frame->kind, payload);
    return Py_BuildValue("KKiN", (unsigned long long)frame->job, (unsigned long long)frame->index, (int)frame->kind,
                         payload);
}

static int64_t frame_end(const goproc_port *self, int64_t at) {
    return at + (int64_t)goproc_frame_space(((const goproc_frame *)(self->buffer + at))->size);
}

/* Returns a list of the completions in the buffer. If memory is too short for all, the last ones stay in the buffer,
 * for the next call. Returns NULL, with MemoryError set, if memory is too short for the first one. */
static PyObject *completions(goproc_port *self) {
    Py_ssize_t count = 0, made = 0;
    for (int64_t at = self->left_at; at < self->left_end; at = frame_end(self, at))
        count++;
    PyObject *list = PyList_New(count); /* whole, so that no completion is lost because the list cannot grow */
    if (list == NULL) {
        PyErr_Clear();
        count = 1;
        list = PyList_New(count);
    }
    for (; list != NULL && made < count; made++) {
        PyObject *item = completion(self, (const goproc_frame *)(self->buffer + self->left_at));
        if (item == NULL)
            break;
        PyList_SET_ITEM(list, made, item);
        self->left_at = frame_end(self, self->left_at);
    }
    if (list == NULL || made == 0) {
        Py_XDECREF(list);
        return NULL;
    }
    PyErr_Clear();
    Py_SET_SIZE(list, made);
    return list;
}

/* Calls take with the list. If take raises, the list is kept for the next call. Returns 0, or -1 with an exception set.
 * Steals the list. */
static int hand_over(goproc_port *self, PyObject *take, PyObject *list) {
    PyObject *taken = PyObject_CallOneArg(take, list);
    if (taken == NULL && self->untaken == NULL)
        self->untaken = Py_NewRef(list);
    Py_DECREF(list);
    Py_XDECREF(taken);
    return taken == NULL ? -1 : 0;
}

/* Whether something that was collected has not been handed over yet. */
static int has_left(const goproc_port *self) {
    return self->left_at < self->left_end || self->untaken != NULL;
}

/* What collect() is called for. */
typedef struct {
    uint64_t job; /* GOPROC_NO_JOB: for any */
    uint64_t deadline;
    goproc_wait *note; /* NULL: it has not slept yet */
} purpose;

/* Returns the job that waiter, the third argument of collect(), waits for. */
static uint64_t job_of(PyObject *waiter) {
    PyObject *number = PyObject_GetAttrString(waiter, "_job");
    uint64_t job = number && PyLong_Check(number) ? PyLong_AsUnsignedLongLong(number) : GOPROC_NO_JOB;
    Py_XDECREF(number);
    if (PyErr_Occurred())
        PyErr_Clear(); /* it waits for something else */
    return job;
}

/* Notes for dump what the thread waits for. A wait for one job may take many calls of collect(): others' results come
 * meanwhile. */
static void note(goproc_port *self, purpose *why) {
    uint32_t thread = goproc_my_thread();
    why->note = goproc_waits_for(GOPROC_WAIT_RESULT, self->control, why->job, why->deadline);
    if (!why->note)
        return;
    if (self->note_thread == thread && self->note_job == why->job)
        why->note->since_ns = self->note_since;
    self->note_thread = thread;
    self->note_job = why->job;
    self->note_since = why->note->since_ns;
}

/* Waits until the doorbell, which had the value seen, has been rung, at most ns nanoseconds. Runs without the GIL. */
static void wait_for_doorbell(goproc_port *self, uint32_t seen, int64_t ns, purpose *why) {
    goproc_control *control = self->control;
    uint32_t most = atomic_load_explicit(&control->spin_ns, memory_order_relaxed);
    uint64_t start = goproc_now_ns();
    if (!GOPROC_SPIN(&self->spinner, start, &control->doorbell, seen)) {
        /* A worker that delivers changes the doorbell, and then reads whether the collector waits. The collector first
         * writes that it waits, and then reads the doorbell. So no delivery is missed. */
        atomic_fetch_or(&control->waiting, GOPROC_WAITING_COLLECTOR);
        if (atomic_load(&control->doorbell) == seen) {
            if (!why->note)
                note(self, why);
            goproc_futex_wait(&control->doorbell, seen, ns);
        }
        atomic_fetch_and(&control->waiting, ~(uint32_t)GOPROC_WAITING_COLLECTOR);
    }
    goproc_spinner_waited(&self->spinner, most, goproc_now_ns() - start);
}

/* Reads a timeout in seconds. If it is None, *seconds stays as it is. Returns 0, or -1 with an exception set. */
static int read_timeout(PyObject *argument, double *seconds) {
    if (argument == Py_None)
        return 0;
    double given = PyFloat_AsDouble(argument);
    if (PyErr_Occurred())
        return -1;
    *seconds = given > 0 ? given : 0;
    return 0;
}

const char goproc_port_collect_doc[] = PyDoc_STR(
    "collect(timeout=None, take=None, waiter=None)\n--\n\n"
    "Wait until something has completed, at most timeout seconds; for ever when it is None.\n\n"
    "Returns a list of (job, index, kind, payload). It is empty when the time was over, after wake(), and when the\n"
    "port is closed. If kind is RESULT, FAILURE or PART, payload is bytes, or (stream, buffers), or an exception when "
    "the\n"
    "memory could not be read. Otherwise the engine has made the completion, and payload is what core/ring/layout.go\n"
    "says of the kind, as bytes. take, a method in C, is called with the list before any signal handler can run.\n"
    "Signal handlers run while collect() waits. waiter: the result that the thread waits for, for dump.");

PyObject *goproc_port_collect(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    goproc_port *self = (goproc_port *)object;
    double timeout = -1;
    if (count > 3) {
        PyErr_SetString(PyExc_TypeError, "collect() takes at most 3 arguments");
        return NULL;
    }
    if (count >= 1 && read_timeout(args[0], &timeout) < 0)
        return NULL;
    if (self->closed && self->fork_depth == goproc_fork_depth)
        return PyList_New(0); /* a signal handler has closed it just before this call: nothing will come any more */
    if (goproc_port_check(self) < 0)
        return NULL;
    PyObject *result = NULL;
    int forever = timeout < 0 || timeout > 1e9;
    uint64_t deadline = forever ? 0 : goproc_now_ns() + (uint64_t)(timeout * 1e9);
    purpose why = {.job = GOPROC_NO_JOB, .deadline = deadline};
    if (count > 2 && timeout != 0)
        why.job = job_of(args[2]);
    /* Before Python 3.12 the garbage collector runs when an object is made, and an object's __del__ may call collect()
     * in the middle of the steps below. */
    int has_gc = PyGC_Disable();
    for (;;) {
        goproc_arenas_tidy(&self->out, &self->in);
        uint32_t seen = atomic_load(&self->control->doorbell);
        int has_untaken = self->untaken != NULL;
        if ((has_untaken || PyList_GET_SIZE(self->posted) > 0) && count > 1) {
            PyObject *some = has_untaken ? self->untaken : self->posted, *others = NULL;
            if (has_untaken)
                self->untaken = NULL;
            else if ((others = PyList_New(0)) == NULL)
                break;
            else
                self->posted = others;
            if (hand_over(self, args[1], some) < 0)
                break;
            if (timeout != 0) {
                result = PyList_New(0);
                break;
            }
        }
        if (self->woken) {
            self->woken = 0;
            if (timeout != 0) {
                result = PyList_New(0);
                break;
            }
        }
        int64_t used = self->left_end - self->left_at;
        if (used == 0) {
            used = self->collect(self->number, self->buffer, GOPROC_PORT_BUFFER);
            atomic_fetch_add_explicit(&self->calls, 1, memory_order_relaxed);
            self->full = used > GOPROC_PORT_BUFFER - (int64_t)goproc_frame_space(GOPROC_MAX_INLINE);
            if (used >= 0 && !self->full)
                atomic_store(&self->drained, seen);
            if (used > 0) {
                self->collected += (unsigned long long)used;
                self->left_at = 0;
                self->left_end = used;
            }
        }
        if (used != 0) {
            result = used > 0 ? completions(self) : goproc_port_raise(self, used);
            if (result != NULL && count > 1 && hand_over(self, args[1], Py_NewRef(result)) < 0)
                Py_CLEAR(result);
            break;
        }
        int64_t ns = SLEEP_NS;
        if (!forever) {
            uint64_t now = goproc_now_ns();
            if (now >= deadline) {
                result = PyList_New(0);
                break;
            }
            if (deadline - now < SLEEP_NS)
                ns = (int64_t)(deadline - now);
        }
        self->busy++;
        atomic_fetch_add(&self->waiters, 1);
        if (has_gc)
            PyGC_Enable();
        Py_BEGIN_ALLOW_THREADS;
        wait_for_doorbell(self, seen, ns, &why);
        Py_END_ALLOW_THREADS;
        atomic_fetch_sub(&self->waiters, 1);
        self->busy--;
        if (self->closed)
            goproc_port_release(self); /* closed meanwhile by another thread, or by a signal handler of an outer call */
        int failed = PyErr_CheckSignals() < 0;
        has_gc = PyGC_Disable();
        if (!failed && self->closed && self->fork_depth == goproc_fork_depth) {
            result = PyList_New(0); /* closed meanwhile: nothing will come any more */
            break;
        }
        if (failed || goproc_port_check(self) < 0) {
            /* A worker that has no task left may have ended the wait, and may have called nobody else. So move tasks
             * on. */
            self->collect(self->number, self->buffer, 0);
            break;
        }
    }
    if (has_left(self) && !self->closed) {
        self->full = 1;
        atomic_store(&self->drained, atomic_load(&self->control->doorbell) - 1); /* watch() returns at once */
    }
    goproc_waits_no_longer(why.note);
    if (has_gc)
        PyGC_Enable();
    return result;
}

const char goproc_port_unseen_doc[] =
    PyDoc_STR("unseen()\n--\n\n"
              "Return how many bytes of completions wait to be collected; see also the attribute collected.");

PyObject *goproc_port_unseen(PyObject *object, PyObject *unused) {
    (void)unused;
    goproc_port *self = (goproc_port *)object;
    if (goproc_port_check(self) < 0)
        return NULL;
    int64_t bytes = self->unseen(self->number);
    return bytes < 0 ? goproc_port_raise(self, bytes) : PyLong_FromLongLong(bytes);
}

/* The wait of watch(). Returns whether there is something to collect. Runs without the GIL. */
static int watch(goproc_port *self, uint64_t deadline) {
    goproc_control *control = self->control;
    for (;;) {
        uint32_t bell = atomic_load(&control->watch_bell);
        int64_t ns = -1;
        if (deadline) {
            uint64_t now = goproc_now_ns();
            ns = now < deadline ? (int64_t)(deadline - now) : 0;
        }
        /* A worker that delivers changes the doorbell, and then reads whether anybody watches. This thread first writes
         * that it watches, and then reads the doorbell. So no delivery is missed. */
        atomic_fetch_or(&control->waiting, GOPROC_WAITING_WATCH);
        if (!atomic_load(&self->roused) && atomic_load(&control->doorbell) == atomic_load(&self->drained) && ns != 0)
            goproc_futex_wait(&control->watch_bell, bell, ns);
        atomic_fetch_and(&control->waiting, ~(uint32_t)GOPROC_WAITING_WATCH);
        bell = atomic_load(&control->watch_bell);
        unsigned calls = atomic_load(&self->calls);
        if (!atomic_load(&self->roused) && ns != 0)
            goproc_futex_wait(&control->watch_bell, bell, ns < 0 || ns > PATIENCE_NS ? PATIENCE_NS : ns);
        if (atomic_exchange(&self->roused, 0) || ns == 0)
            return 0;
        if (calls == atomic_load(&self->calls) && !atomic_load(&self->waiters) &&
            atomic_load(&control->doorbell) != atomic_load(&self->drained))
            return 1;
    }
}

const char goproc_port_watch_doc[] =
    PyDoc_STR("watch(timeout=None)\n--\n\n"
              "Wait until there is a completion for which no thread waits, and that none has collected in 10 ms.\n\n"
              "Returns True then, and False after rouse(), or after timeout seconds. Costs nothing while a thread\n"
              "waits in collect(). It is for the pool's own thread, so no signal handler runs meanwhile.");

PyObject *goproc_port_watch(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    goproc_port *self = (goproc_port *)object;
    double timeout = -1;
    if (count > 1) {
        PyErr_SetString(PyExc_TypeError, "watch() takes at most 1 argument");
        return NULL;
    }
    if (count == 1 && read_timeout(args[0], &timeout) < 0)
        return NULL;
    if (goproc_port_check(self) < 0)
        return NULL;
    uint64_t deadline = timeout < 0 || timeout > 1e9 ? 0 : goproc_now_ns() + (uint64_t)(timeout * 1e9);
    int found;
    self->busy++;
    Py_BEGIN_ALLOW_THREADS;
    found = watch(self, deadline);
    Py_END_ALLOW_THREADS;
    self->busy--;
    if (self->closed)
        goproc_port_release(self);
    return PyBool_FromLong(found);
}

const char goproc_port_rouse_doc[] = PyDoc_STR("rouse()\n--\n\n"
                                               "Have the watch() that waits, or else the next one, return at once.");

PyObject *goproc_port_rouse(PyObject *object, PyObject *unused) {
    (void)unused;
    goproc_port *self = (goproc_port *)object;
    if (self->control != NULL && self->fork_depth == goproc_fork_depth) {
        atomic_store(&self->roused, 1);
        atomic_fetch_add(&self->control->watch_bell, 1);
        goproc_futex_wake(&self->control->watch_bell);
    }
    Py_RETURN_NONE;
}

const char goproc_port_wake_doc[] = PyDoc_STR("wake()\n--\n\n"
                                              "Have the collect() that waits, or else the next one, return at once.");

PyObject *goproc_port_wake(PyObject *object, PyObject *unused) {
    (void)unused;
    goproc_port *self = (goproc_port *)object;
    if (!self->closed && self->fork_depth == goproc_fork_depth) {
        self->woken = 1;
        atomic_fetch_add(&self->control->doorbell, 1);
        goproc_futex_wake(&self->control->doorbell);
    }
    Py_RETURN_NONE;
}

const char goproc_port_post_doc[] =
    PyDoc_STR("post(item)\n--\n\n"
              "Have collect() give the item to take, as if it were a completion, and wake the thread that collects or\n"
              "watches.\n\n"
              "It takes no lock and runs no Python code, so it can be the callback of a weak reference.");

PyObject *goproc_port_post(PyObject *object, PyObject *item) {
    goproc_port *self = (goproc_port *)object;
    if (!self->closed && self->fork_depth == goproc_fork_depth) {
        if (PyList_Append(self->posted, item) < 0)
            return NULL;
        Py_DECREF(goproc_port_rouse(object, NULL));
        return goproc_port_wake(object, NULL);
    }
    Py_RETURN_NONE;
}
