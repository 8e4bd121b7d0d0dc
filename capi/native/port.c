/* port.c - the parent's end of a pool: the object, and handing tasks to the engine; see port.h. */
#define _GNU_SOURCE
#include "port.h"

#include "payload/placed.h"

#include <string.h>
#include <sys/mman.h>

/* How many bytes of results may lie in their extents instead of being copied out. While the program keeps such a
 * result, its worker cannot use the memory of the extent again, and must fill fresh memory, which takes longer than
 * a copy. So placing pays for programs that drop results as they come, or keep a few. The limit does not hold for
 * results whose extents are given back anyway when they are freed: copying them gains nothing. */
enum { MOST_PLACED = 256 << 20 };

static goproc_port *open_ports;

static void enlist(goproc_port *self) {
    self->next = open_ports;
    open_ports = self;
}

static void delist(goproc_port *self) {
    for (goproc_port **at = &open_ports; *at != NULL; at = &(*at)->next)
        if (*at == self) {
            *at = self->next;
            return;
        }
}

/* Runs in every forked child. Otherwise the child would keep the memory of its parent's pools as long as it lives. */
static void abandon_inherited(void) {
    for (goproc_port *port = open_ports; port != NULL; port = port->next) {
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
    goproc_port *self = (goproc_port *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->number = number;
    self->memory_fd = -1;
    self->fork_depth = goproc_fork_depth;
    self->submit = GOPROC_SYMBOL(goproc_pool_submit);
    self->collect = self->submit ? GOPROC_SYMBOL(goproc_pool_collect) : NULL;
    self->unseen = self->collect ? GOPROC_SYMBOL(goproc_pool_unseen) : NULL;
    self->poison = self->unseen ? GOPROC_SYMBOL(goproc_poison) : NULL;
    if (self->poison == NULL)
        goto failed;
    self->posted = PyList_New(0);
    if (self->posted == NULL)
        goto failed;
    self->buffer = PyMem_Malloc(GOPROC_PORT_BUFFER);
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
    self->spinner.budget_ns = 0; /* at first no spin: the workers are coming up, and need the processors */
    return (PyObject *)self;
failed:
    Py_DECREF(self);
    return NULL;
}

void goproc_port_release(goproc_port *self) {
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
    goproc_port *self = (goproc_port *)object;
    goproc_port_release(self);
    PyMem_Free(self->buffer);
    Py_XDECREF(self->posted);
    Py_XDECREF(self->untaken);
    Py_TYPE(object)->tp_free(object);
}

/* goproc_mend_runtime() takes long, compared with a single call. So it is called at most once in a millisecond. */
static void mend_runtime(void) {
    static uint64_t next;
    uint64_t now = goproc_now_ns();
    if (now >= next) {
        next = now + 1000000;
        goproc_mend_runtime();
    }
}

int goproc_port_check(goproc_port *self) {
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

PyObject *goproc_port_raise(goproc_port *self, int64_t result) {
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
    "stream is the pickled task, and buffers are the buffers that pickling left out of it. If count is greater\n"
    "than 1, stream is a batch of that many tasks, with the indices from index on. Raises ValueError when the\n"
    "pool is closed, MemoryError when there is no memory for a large payload.");

static PyObject *port_submit(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    goproc_port *self = (goproc_port *)object;
    if (count < 3 || count > 5) {
        PyErr_SetString(PyExc_TypeError, "submit() takes 3 to 5 arguments");
        return NULL;
    }
    uint64_t job = PyLong_AsUnsignedLongLong(args[0]), index = PyLong_AsUnsignedLongLong(args[1]);
    uint32_t tasks = count > 4 ? (uint32_t)PyLong_AsUnsignedLong(args[4]) : 1;
    if (PyErr_Occurred() || goproc_port_check(self) < 0)
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
            goproc_port_raise(self, result);
    }
    self->busy--;
    if (self->closed)
        goproc_port_release(self);
    else
        goproc_arenas_tidy(&self->out, &self->in);
    return result < 0 ? NULL : PyBool_FromLong(result);
}

PyDoc_STRVAR(forget_doc, "forget(serial)\n--\n\n"
                         "Give back the memory of the worker of that serial. It has ended, and its results have been\n"
                         "collected.");

static PyObject *port_forget(PyObject *object, PyObject *argument) {
    goproc_port *self = (goproc_port *)object;
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
                        "Give the memory back, except what objects of the program still look into.");

static PyObject *port_close(PyObject *object, PyObject *unused) {
    (void)unused;
    goproc_port *self = (goproc_port *)object;
    goproc_port_release(self);
    Py_RETURN_NONE;
}

/* ---- the module's part ------------------------------------------------------------------------------------------- */

/* Results and iterators refer to their pool's port. A program that pickles one gets multiprocessing's error. */
static PyObject *port_reduce(PyObject *Py_UNUSED(object), PyObject *Py_UNUSED(unused)) {
    PyErr_SetString(PyExc_NotImplementedError, "pool objects cannot be passed between processes or pickled");
    return NULL;
}

static PyMethodDef port_methods[] = {
    {"submit", (PyCFunction)(void (*)(void))port_submit, METH_FASTCALL, submit_doc},
    {"collect", (PyCFunction)(void (*)(void))goproc_port_collect, METH_FASTCALL, goproc_port_collect_doc},
    {"unseen", goproc_port_unseen, METH_NOARGS, goproc_port_unseen_doc},
    {"watch", (PyCFunction)(void (*)(void))goproc_port_watch, METH_FASTCALL, goproc_port_watch_doc},
    {"rouse", goproc_port_rouse, METH_NOARGS, goproc_port_rouse_doc},
    {"post", goproc_port_post, METH_O, goproc_port_post_doc},
    {"wake", goproc_port_wake, METH_NOARGS, goproc_port_wake_doc},
    {"forget", port_forget, METH_O, forget_doc},
    {"close", port_close, METH_NOARGS, close_doc},
    {"__reduce__", port_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyObject *port_collected(PyObject *object, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(((goproc_port *)object)->collected);
}

static PyObject *port_full(PyObject *object, void *unused) {
    (void)unused;
    return PyBool_FromLong(((goproc_port *)object)->full);
}

static PyGetSetDef port_attributes[] = {
    {"collected", port_collected, NULL, PyDoc_STR("How many bytes of completions have been collected."), NULL},
    {"full", port_full, NULL, PyDoc_STR("Whether the last collect() may have left something."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject PortType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc._native.Port",
    .tp_doc = PyDoc_STR("Port(number, memory_fd)\n--\n\n"
                        "The parent's end of the engine's pool of that number. It owns memory_fd, the descriptor of\n"
                        "the pool's memory. The engine must have been attached."),
    .tp_basicsize = sizeof(goproc_port),
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
        {"RETRIED", GOPROC_KIND_RETRIED},     {"MEMORY", GOPROC_KIND_MEMORY},   {"PART", GOPROC_KIND_PART},
    };
    if (goproc_on_fork_child(abandon_inherited) < 0)
        return -1;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (PyModule_AddIntConstant(module, kinds[i].name, kinds[i].value) < 0)
            return -1;
    return PyModule_AddType(module, &PortType);
}
