/* port.c - the parent's end of a pool: it hands tasks to the engine and takes what has completed.
 *
 * The engine's calls are made inline on the calling Python thread. Only waiting happens here, so that it releases the
 * GIL, and that signal handlers run.
 */
#define _GNU_SOURCE
#include "payload.h"
#include "placed.h"
#include "transport.h"
#include "wake.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>

enum {
    BUFFER_SIZE = 128 << 10,
    /* A result that is kept keeps its worker from using warm memory again, and filling fresh shared memory takes longer
     * than a copy: so this is for programs that drop results as they come, or keep a few. It does not count for results
     * whose extents are given back when they are freed: copying those gains nothing. */
    MOST_PLACED = 256 << 20,
    /* A signal that arrives just before a sleep does not end it: so no sleep is longer than this. */
    SLEEP_NS = 200000000,
    /* How long what has been delivered may wait for a thread that wants it, before the pool's own thread collects it. A
     * thread that takes results one after the other is back within that; nobody notices that it takes so long. */
    PATIENCE_NS = 10000000,
};

typedef struct Port {
    PyObject_HEAD
    struct Port *next; /* in open_ports */
    int64_t number;
    int memory_fd;
    uint32_t memory_mark;
    goproc_control *control;
    goproc_pool_submit_fn submit;
    goproc_pool_collect_fn collect;
    goproc_pool_unseen_fn unseen;
    goproc_poison_fn poison;
    goproc_spinner spinner;
    goproc_arena out, in;
    uint8_t *buffer;
    int woken;                    /* by wake(): collect() returns at once */
    PyObject *posted;             /* by post(): a list of what collect() is to give to take */
    unsigned long long collected; /* how many bytes of completions have been */
    int full;                     /* whether the last look had no room for more, if there was more */
    _Atomic unsigned calls;       /* how often collect() has looked */
    _Atomic uint32_t drained;     /* what the doorbell was when nothing was left to be collected */
    _Atomic int waiters;          /* how many threads wait in collect() */
    _Atomic int roused;           /* by rouse(): watch() returns at once */
    int busy; /* how many calls may be without the GIL: only the last of them gives the memory back */
    int closed;
    unsigned fork_depth;
} Port;

static Port *open_ports;

static void enlist(Port *self) {
    self->next = open_ports;
    open_ports = self;
}

static void delist(Port *self) {
    for (Port **at = &open_ports; *at != NULL; at = &(*at)->next)
        if (*at == self) {
            *at = self->next;
            return;
        }
}

/* Runs in every forked child: else the memory of its parent's pools would be kept for as long as the child lives. */
static void abandon_inherited(void) {
    for (Port *port = open_ports; port != NULL; port = port->next) {
        goproc_arena_abandon(&port->in);
        goproc_arena_abandon(&port->out);
        goproc_close_marked(port->memory_fd, port->memory_mark);
        port->memory_fd = -1;
    }
    open_ports = NULL;
}

static PyObject *port_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"number", "memory_fd", NULL};
    long long number;
    int memory_fd;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Li:Port", names, &number, &memory_fd))
        return NULL;
    Port *self = (Port *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->number = number;
    self->memory_fd = -1;
    self->fork_depth = goproc_fork_depth;
    self->submit = (goproc_pool_submit_fn)goproc_symbol("goproc_pool_submit");
    self->collect = self->submit ? (goproc_pool_collect_fn)goproc_symbol("goproc_pool_collect") : NULL;
    self->unseen = self->collect ? (goproc_pool_unseen_fn)goproc_symbol("goproc_pool_unseen") : NULL;
    self->poison = self->unseen ? (goproc_poison_fn)goproc_symbol("goproc_poison") : NULL;
    if (self->poison == NULL)
        goto failed;
    self->posted = PyList_New(0);
    if (self->posted == NULL)
        goto failed;
    self->buffer = PyMem_Malloc(BUFFER_SIZE);
    if (self->buffer == NULL) {
        PyErr_NoMemory();
        goto failed;
    }
    void *control = mmap(NULL, GOPROC_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
    if (control == MAP_FAILED || madvise(control, GOPROC_PAGE_SIZE, MADV_DONTFORK) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        goto failed;
    }
    self->control = control;
    self->memory_fd = memory_fd;
    self->memory_mark = goproc_mark(memory_fd);
    goproc_arena_init(&self->out, memory_fd, 0);
    goproc_arena_init(&self->in, memory_fd, 0);
    goproc_arena_enlist(&self->in);
    goproc_placed_prepare();
    self->in.most_placed = MOST_PLACED;
    self->in.most_idle = GOPROC_MOST_IDLE;
    enlist(self);
    self->spinner.budget_ns = 0; /* at first: as for the workers, which are coming up */
    return (PyObject *)self;
failed:
    Py_DECREF(self);
    return NULL;
}

/* Frees what the port has, as soon as no thread uses it. */
static void port_release(Port *self) {
    self->closed = 1;
    if (self->busy > 0)
        return;
    delist(self);
    goproc_arena_delist(&self->in);
    if (self->memory_fd >= 0 && self->fork_depth == goproc_fork_depth)
        goproc_arena_forget_all(&self->in);
    goproc_arena_clear(&self->in);
    goproc_arena_clear(&self->out);
    if (self->control != NULL && self->fork_depth == goproc_fork_depth)
        munmap(self->control, GOPROC_PAGE_SIZE);
    self->control = NULL;
    goproc_close_marked(self->memory_fd, self->memory_mark);
    self->memory_fd = -1;
}

static void port_dealloc(PyObject *object) {
    Port *self = (Port *)object;
    port_release(self);
    PyMem_Free(self->buffer);
    Py_XDECREF(self->posted);
    Py_TYPE(object)->tp_free(object);
}

/* What a look costs is much for a single call: so it is taken at most once in a millisecond. */
static void mend_runtime(void) {
    static uint64_t next;
    uint64_t now = goproc_now_ns();
    if (now >= next) {
        next = now + 1000000;
        goproc_mend_runtime();
    }
}

static int check_open(Port *self) {
    mend_runtime();
    if (self->fork_depth != goproc_fork_depth) {
        PyErr_SetString(PyExc_RuntimeError,
                        "this pool belongs to the parent process: a forked child must make its own");
        return -1;
    }
    if (self->closed) {
        PyErr_SetString(PyExc_ValueError, "Pool not running");
        return -1;
    }
    return 0;
}

/* Raises what a negative result of an engine's call means. */
static PyObject *raise_result(Port *self, int64_t result) {
    if (result == GOPROC_EPOISONED) {
        char text[512];
        self->poison(text, sizeof text);
        PyObject *errors = PyImport_ImportModule("goproc.errors");
        PyObject *type = errors ? PyObject_GetAttrString(errors, "EngineError") : NULL;
        if (type != NULL)
            PyErr_SetString(type, text);
        Py_XDECREF(type);
        Py_XDECREF(errors);
    } else if (result == -EPIPE) {
        PyErr_SetString(PyExc_ValueError, "Pool not running");
    } else if (result == -ENOMEM) {
        PyErr_SetString(PyExc_MemoryError, "the limits of this process leave no memory for further tasks");
    } else {
        errno = (int)-result;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return NULL;
}

PyDoc_STRVAR(
    submit_doc,
    "submit(job, index, stream, buffers=None, count=1)\n--\n\n"
    "Hand a task to the pool; never waits. Returns whether to collect soon: a worker has ended.\n\n"
    "stream is the pickled call and buffers are the buffers that pickling left out of it. count greater than 1\n"
    "makes it a batch: that many calls, which have index and those that follow. Raises ValueError when the\n"
    "pool is closed, MemoryError when there is no memory for a large payload.");

static PyObject *port_submit(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    Port *self = (Port *)object;
    if (count < 3 || count > 5) {
        PyErr_SetString(PyExc_TypeError, "submit() takes 3 to 5 arguments");
        return NULL;
    }
    uint64_t job = PyLong_AsUnsignedLongLong(args[0]), index = PyLong_AsUnsignedLongLong(args[1]);
    uint32_t tasks = count > 4 ? (uint32_t)PyLong_AsUnsignedLong(args[4]) : 1;
    if (PyErr_Occurred() || check_open(self) < 0)
        return NULL;
    goproc_payload payload;
    self->busy++;
    int32_t result = goproc_payload_pack(&payload, &self->out, args[2], count > 3 ? args[3] : NULL);
    if (result == 0) {
        /* Packing may have let another thread close the pool: then the engine refuses the task. */
        result = self->submit(self->number, job, index, tasks, payload.flags, payload.bytes, payload.size);
        if (result < 0 && payload.flags & GOPROC_FLAG_EXTENT)
            goproc_arena_reclaim(&self->out, &payload.extent);
        goproc_payload_done(&payload);
        if (result < 0)
            raise_result(self, result);
    }
    self->busy--;
    if (self->closed)
        port_release(self);
    else
        goproc_arenas_tidy(&self->out, &self->in);
    return result < 0 ? NULL : PyBool_FromLong(result);
}

/* One completion as a tuple (job, index, kind, payload). The index of a result that answers several tasks is (first,
 * count). */
static PyObject *completion(Port *self, const goproc_frame *frame) {
    const uint8_t *bytes = (const uint8_t *)(frame + 1);
    uint64_t size = frame->size;
    PyObject *payload;
    if (frame->kind == GOPROC_KIND_RESULT || frame->kind == GOPROC_KIND_FAILURE) {
        payload = goproc_payload_unpack(&self->in, bytes, size, frame->flags);
        if (payload == NULL && PyErr_ExceptionMatches(PyExc_OSError)) {
            PyObject *type, *value, *traceback; /* it is this task's failure, not the collector's */
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
    uint32_t count = atomic_load_explicit(&frame->claim, memory_order_relaxed);
    if (count > 1)
        return Py_BuildValue("K(KI)iN", (unsigned long long)frame->job, (unsigned long long)frame->index,
                             (unsigned int)count, (int)frame->kind, payload);
    return Py_BuildValue("KKiN", (unsigned long long)frame->job, (unsigned long long)frame->index, (int)frame->kind,
                         payload);
}

static PyObject *completions(Port *self, int64_t used) {
    PyObject *list = PyList_New(0);
    for (int64_t at = 0; list != NULL && at < used;) {
        const goproc_frame *frame = (const goproc_frame *)(self->buffer + at);
        PyObject *item = completion(self, frame);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
        at += (int64_t)goproc_frame_space(frame->size);
    }
    return list;
}

/* Waits until a worker or the engine rings after the doorbell was seen. Runs without the GIL. */
static void wait_for_doorbell(Port *self, uint32_t seen, int64_t ns) {
    goproc_control *control = self->control;
    uint32_t most = atomic_load_explicit(&control->spin_ns, memory_order_relaxed);
    uint64_t start = goproc_now_ns();
    if (!GOPROC_SPIN(&self->spinner, start, &control->doorbell, seen)) {
        atomic_fetch_or(&control->waiting, GOPROC_WAITING_COLLECTOR);
        goproc_futex_wait(&control->doorbell, seen, ns);
        atomic_fetch_and(&control->waiting, ~(uint32_t)GOPROC_WAITING_COLLECTOR);
    }
    goproc_spinner_waited(&self->spinner, most, goproc_now_ns() - start);
}

PyDoc_STRVAR(
    collect_doc,
    "collect(timeout=None, take=None)\n--\n\n"
    "Wait until something has completed, at most timeout seconds; for ever when it is None.\n\n"
    "take, a method in C, is called with what is returned: no signal handler runs before that.\n"
    "Returns a list of (job, index, kind, payload), empty when the time was over: of kind RESULT or FAILURE, with\n"
    "bytes, (stream, buffers), or an exception when the memory could not be read; or of a kind that the\n"
    "engine made, with what core/ring/layout.go says of it, as bytes. The list is empty, too, after wake(), and when\n"
    "the port is closed. Signal handlers run while it waits.");

static PyObject *port_collect(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    Port *self = (Port *)object;
    double timeout = -1;
    if (count > 2) {
        PyErr_SetString(PyExc_TypeError, "collect() takes at most 2 arguments");
        return NULL;
    }
    if (count >= 1 && args[0] != Py_None) {
        timeout = PyFloat_AsDouble(args[0]);
        if (PyErr_Occurred())
            return NULL;
        timeout = timeout > 0 ? timeout : 0;
    }
    if (self->closed && self->fork_depth == goproc_fork_depth)
        return PyList_New(0); /* by a signal handler, just before this call: nothing will come any more */
    if (check_open(self) < 0)
        return NULL;
    PyObject *result = NULL;
    int forever = timeout < 0 || timeout > 1e9;
    uint64_t deadline = forever ? 0 : goproc_now_ns() + (uint64_t)(timeout * 1e9);
    for (;;) {
        goproc_arenas_tidy(&self->out, &self->in);
        uint32_t seen = atomic_load(&self->control->doorbell);
        if (PyList_GET_SIZE(self->posted) > 0 && count > 1) {
            PyObject *posted = self->posted, *others = PyList_New(0), *taken = NULL;
            if (others != NULL) {
                self->posted = others;
                taken = PyObject_CallOneArg(args[1], posted);
                Py_DECREF(posted);
            }
            if (taken == NULL)
                break;
            Py_DECREF(taken);
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
        int64_t used = self->collect(self->number, self->buffer, BUFFER_SIZE);
        atomic_fetch_add_explicit(&self->calls, 1, memory_order_relaxed);
        self->full = used > BUFFER_SIZE - (int64_t)goproc_frame_space(GOPROC_MAX_INLINE);
        if (used >= 0 && !self->full)
            atomic_store(&self->drained, seen);
        if (used != 0) {
            self->collected += used > 0 ? (unsigned long long)used : 0;
            result = used > 0 ? completions(self, used) : raise_result(self, used);
            PyObject *taken = result && count > 1 ? PyObject_CallOneArg(args[1], result) : Py_NewRef(Py_None);
            if (taken == NULL)
                Py_CLEAR(result);
            Py_XDECREF(taken);
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
        Py_BEGIN_ALLOW_THREADS;
        wait_for_doorbell(self, seen, ns);
        Py_END_ALLOW_THREADS;
        atomic_fetch_sub(&self->waiters, 1);
        self->busy--;
        if (self->closed)
            port_release(self); /* closed meanwhile by another thread, or by a signal handler of an outer call */
        int failed = PyErr_CheckSignals() < 0;
        if (!failed && self->closed && self->fork_depth == goproc_fork_depth) {
            result = PyList_New(0); /* likewise */
            break;
        }
        if (failed || check_open(self) < 0) {
            /* What ended the wait may have been a worker's call for more to do, made to this thread alone. */
            self->collect(self->number, self->buffer, 0);
            break;
        }
    }
    return result;
}

PyDoc_STRVAR(unseen_doc,
             "unseen()\n--\n\n"
             "Return how many bytes of completions wait to be collected; see also the attribute collected.");

static PyObject *port_unseen(PyObject *object, PyObject *unused) {
    (void)unused;
    Port *self = (Port *)object;
    if (check_open(self) < 0)
        return NULL;
    int64_t bytes = self->unseen(self->number);
    return bytes < 0 ? raise_result(self, bytes) : PyLong_FromLongLong(bytes);
}

/* See watch(). Returns whether there is something to collect. Runs without the GIL. */
static int watch(Port *self, uint64_t deadline) {
    goproc_control *control = self->control;
    for (;;) {
        uint32_t bell = atomic_load(&control->watch_bell);
        int64_t ns = -1;
        if (deadline) {
            uint64_t now = goproc_now_ns();
            ns = now < deadline ? (int64_t)(deadline - now) : 0;
        }
        /* Who delivers changes the doorbell, and then looks whether anybody watches; here it is the other way round. */
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

PyDoc_STRVAR(watch_doc,
             "watch(timeout=None)\n--\n\n"
             "Wait until something has completed that no thread waits for, and has not been collected soon.\n\n"
             "Returns whether there is something to collect: false after rouse(), or timeout seconds. Costs nothing\n"
             "while a thread waits in collect(). No signal handler runs: it is for a thread of the pool's own.");

static PyObject *port_watch(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    Port *self = (Port *)object;
    double timeout = -1;
    if (count > 1) {
        PyErr_SetString(PyExc_TypeError, "watch() takes at most 1 argument");
        return NULL;
    }
    if (count == 1 && args[0] != Py_None) {
        timeout = PyFloat_AsDouble(args[0]);
        if (PyErr_Occurred())
            return NULL;
        timeout = timeout > 0 ? timeout : 0;
    }
    if (check_open(self) < 0)
        return NULL;
    uint64_t deadline = timeout < 0 || timeout > 1e9 ? 0 : goproc_now_ns() + (uint64_t)(timeout * 1e9);
    int found;
    self->busy++;
    Py_BEGIN_ALLOW_THREADS;
    found = watch(self, deadline);
    Py_END_ALLOW_THREADS;
    self->busy--;
    if (self->closed)
        port_release(self);
    return PyBool_FromLong(found);
}

PyDoc_STRVAR(rouse_doc, "rouse()\n--\n\n"
                        "Have watch() return at once, the one that waits or the next one.");

static PyObject *port_rouse(PyObject *object, PyObject *unused) {
    (void)unused;
    Port *self = (Port *)object;
    if (self->control != NULL && self->fork_depth == goproc_fork_depth) {
        atomic_store(&self->roused, 1);
        atomic_fetch_add(&self->control->watch_bell, 1);
        goproc_futex_wake(&self->control->watch_bell);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(post_doc,
             "post(item)\n--\n\n"
             "Have collect() give the item to take, as one that has completed, and wake who collects or watches.\n\n"
             "It takes no lock and runs no Python code: for a weak reference, as what is called at the end.");

static PyObject *port_wake(PyObject *object, PyObject *unused);

static PyObject *port_post(PyObject *object, PyObject *item) {
    Port *self = (Port *)object;
    if (!self->closed && self->fork_depth == goproc_fork_depth) {
        if (PyList_Append(self->posted, item) < 0)
            return NULL;
        Py_DECREF(port_rouse(object, NULL));
        return port_wake(object, NULL);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(wake_doc, "wake()\n--\n\n"
                       "Have collect() return at once, the one that waits or the next one.");

static PyObject *port_wake(PyObject *object, PyObject *unused) {
    (void)unused;
    Port *self = (Port *)object;
    if (!self->closed && self->fork_depth == goproc_fork_depth) {
        self->woken = 1;
        atomic_fetch_add(&self->control->doorbell, 1);
        goproc_futex_wake(&self->control->doorbell);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(forget_doc,
             "forget(serial)\n--\n\n"
             "Give back the memory of the worker of that serial, which has ended, and whose results have been\n"
             "collected.");

static PyObject *port_forget(PyObject *object, PyObject *argument) {
    Port *self = (Port *)object;
    unsigned long long serial = PyLong_AsUnsignedLongLong(argument);
    if (PyErr_Occurred())
        return NULL;
    if (!self->closed && self->fork_depth == goproc_fork_depth) {
        goproc_arena_reclaim_from(&self->out, serial);
        goproc_arena_forget(&self->in, serial);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(close_doc, "close()\n--\n\n"
                        "Give the memory back. Objects that look into it keep theirs.");

static PyObject *port_close(PyObject *object, PyObject *unused) {
    (void)unused;
    Port *self = (Port *)object;
    port_release(self);
    Py_RETURN_NONE;
}

static PyMethodDef port_methods[] = {
    {"submit", (PyCFunction)(void (*)(void))port_submit, METH_FASTCALL, submit_doc},
    {"collect", (PyCFunction)(void (*)(void))port_collect, METH_FASTCALL, collect_doc},
    {"unseen", port_unseen, METH_NOARGS, unseen_doc},
    {"watch", (PyCFunction)(void (*)(void))port_watch, METH_FASTCALL, watch_doc},
    {"rouse", port_rouse, METH_NOARGS, rouse_doc},
    {"post", port_post, METH_O, post_doc},
    {"wake", port_wake, METH_NOARGS, wake_doc},
    {"forget", port_forget, METH_O, forget_doc},
    {"close", port_close, METH_NOARGS, close_doc},
    {NULL, NULL, 0, NULL},
};

static PyObject *port_collected(PyObject *object, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(((Port *)object)->collected);
}

static PyObject *port_full(PyObject *object, void *unused) {
    (void)unused;
    return PyBool_FromLong(((Port *)object)->full);
}

static PyGetSetDef port_attributes[] = {
    {"collected", port_collected, NULL, PyDoc_STR("How many bytes of completions have been collected."), NULL},
    {"full", port_full, NULL, PyDoc_STR("Whether the last collect() may have left something."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject PortType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc._transport.Port",
    .tp_doc = PyDoc_STR("Port(number, memory_fd)\n--\n\n"
                        "The parent's end of the engine's pool of that number. It owns the descriptor, of the pool's\n"
                        "memory. The engine must have been attached."),
    .tp_basicsize = sizeof(Port),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = port_new,
    .tp_dealloc = port_dealloc,
    .tp_methods = port_methods,
    .tp_getset = port_attributes,
};

int goproc_init_port(PyObject *module) {
    static const struct {
        const char *name;
        int value;
    } kinds[] = {
        {"RESULT", GOPROC_KIND_RESULT},       {"FAILURE", GOPROC_KIND_FAILURE}, {"LOST", GOPROC_KIND_LOST},
        {"CANCELLED", GOPROC_KIND_CANCELLED}, {"TIMEOUT", GOPROC_KIND_TIMEOUT}, {"EXITED", GOPROC_KIND_EXITED},
        {"RETRIED", GOPROC_KIND_RETRIED},
    };
    static int hooked;
    if (!hooked && goproc_on_fork_child(abandon_inherited) < 0) {
        PyErr_SetString(PyExc_RuntimeError, "goproc: too many hooks for forked children");
        return -1;
    }
    hooked = 1;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (PyModule_AddIntConstant(module, kinds[i].name, kinds[i].value) < 0)
            return -1;
    return PyModule_AddType(module, &PortType);
}
