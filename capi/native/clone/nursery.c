/* nursery.c - one fork of the main program, from which a pool's workers are cloned.
 *
 * See README.md. The main program forks a template, which runs no Python, and waits in fork() for orders. It clones
 * itself once for each order. The clones run Python, and are children of the main program, which takes them on. Main
 * program, template and clones communicate in shared memory, and each may be killed at any instruction.
 *
 * Only one thread of the main program at a time may use a Nursery; crew.py makes sure of that.
 */
#define _GNU_SOURCE
#include "../process.h"
#include "../wake.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <structmember.h>
#include <sys/mman.h>
#include <unistd.h>

/* The values of a clone's words turn and work. turn: TOLD_TO_BEGIN lets the clone come up. work, of a clone that stands
 * by: TOLD_TO_WAIT_ON says that it is being taken on. A value of at least TOLD_LEAST is TOLD_LEAST plus the number of
 * its slot. */
enum { TOLD_NOTHING = 0, TOLD_TO_BEGIN = 1, TOLD_TO_WAIT_ON = 1, TOLD_LEAST = 2, TOLD_TO_END = UINT32_MAX };

typedef struct {
    _Atomic uint32_t pid;  /* 0 while it has not been made */
    _Atomic uint32_t turn; /* whether it may come up */
    _Atomic uint32_t work; /* if it stands by: whether it becomes a worker, and in which slot */
} Clone;

typedef struct {
    _Atomic uint32_t ordered; /* how many clones there shall be */
    _Atomic uint32_t next;    /* whose turn is next */
    Clone clones[];
} Shared;

typedef struct Nursery {
    PyObject_HEAD
    struct Nursery *next; /* in the list of those that have a template */
    Shared *shared;
    size_t size;    /* of what is shared */
    uint32_t most;  /* how many clones there may be */
    uint32_t taken; /* the clones before this number have been taken on, or ended */
    pid_t template; /* 0 when there is none */
    int lifeline;   /* of a clone: its own */
    int number;     /* of a clone; -1 in the main program */
} Nursery;

#define CHECK_NS INT64_C(5000000)       /* how often the main program looks whether the template is alive */
#define PATIENCE_NS INT64_C(3000000000) /* a template that has made no clone for this time counts as stopped */
#define TURN_NS INT64_C(500000000)      /* a clone whose turn takes longer counts as stopped, or killed */
#define IDLE_NS INT64_C(1000000000)     /* after this time a template, or a clone that stands by, is no longer needed */

static Nursery *nurseries;

/* In a forked child, also in the template: give up the nurseries, which are the parent's. */
static void abandon_inherited(void) {
    for (Nursery *self = nurseries; self; self = self->next) {
        self->template = 0;
        self->shared = NULL; /* not inherited */
    }
    nurseries = NULL;
}

static PyObject *nursery_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"most", NULL};
    unsigned most;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "I:Nursery", names, &most))
        return NULL;
    if (most < 1 || most > GOPROC_SEAT_COUNT)
        return PyErr_Format(PyExc_ValueError, "a nursery makes 1 to %d clones", GOPROC_SEAT_COUNT);
    Nursery *self = (Nursery *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->lifeline = self->number = -1;
    self->most = most;
    self->size = sizeof(Shared) + most * sizeof(Clone);
    void *shared = mmap(NULL, self->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF(self);
        return NULL;
    }
    self->shared = shared;
    return (PyObject *)self;
}

static void forget_shared(Nursery *self) {
    if (self->shared)
        munmap(self->shared, self->size);
    self->shared = NULL;
}

/* If a clone's word has the expected value, replaces it by told, and wakes the clone. Returns whether it had that
 * value. */
static int tell(_Atomic uint32_t *word, uint32_t expected, uint32_t told) {
    if (!atomic_compare_exchange_strong(word, &expected, told))
        return 0;
    goproc_futex_wake(word);
    return 1;
}

/* ---- in the template and in clones ------------------------------------------------------------------------------- */

/* What a clone does first, until it may come up. If something fails, it ends: it must not go on as its parent. */
static void begin(Nursery *self, int template_lifeline) {
    goproc_give_title_back();
    self->lifeline = goproc_open_lifeline(template_lifeline);
    if (self->lifeline < 0 || goproc_arm_lifeline(self->lifeline, SIGKILL) < 0)
        _exit(1);
    close(template_lifeline);
    Shared *shared = self->shared;
    _Atomic uint32_t *turn = &shared->clones[self->number].turn;
    uint32_t told;
    while ((told = atomic_load(turn)) == TOLD_NOTHING) {
        uint32_t next = atomic_load(&shared->next);
        if (goproc_futex_wait(turn, TOLD_NOTHING, TURN_NS) == ETIMEDOUT && next == atomic_load(&shared->next))
            tell(turn, TOLD_NOTHING, TOLD_TO_BEGIN);
    }
    if (told == TOLD_TO_END)
        _exit(0);
}

/* The template. It returns only in its clones. */
static void make_clones(Nursery *self, int lifeline) {
    if (goproc_arm_lifeline(lifeline, SIGKILL) < 0)
        _exit(1);
    char title[48];
    snprintf(title, sizeof title, "goproc: template of %ld", (long)getppid());
    goproc_take_title(title);
    Shared *shared = self->shared;
    for (uint32_t made = 0; made < self->most; made++) {
        while (atomic_load(&shared->ordered) <= made)
            if (goproc_futex_wait(&shared->ordered, made, IDLE_NS) == ETIMEDOUT)
                _exit(0);
        Clone *clone = &shared->clones[made];
        self->number = (int)made;
        pid_t pid = goproc_fork_sibling((int *)&clone->pid);
        if (pid == 0) {
            begin(self, lifeline);
            return;
        }
        if (pid < 0)
            _exit(1); /* then the main program forks the worker itself, and gets the error if it cannot either */
        goproc_futex_wake(&clone->pid);
    }
    _exit(0);
}

/* In a clone: goes on from where the main program forked the template, with the given signal mask. Signals that have
 * been sent to the clone while it waited are delivered last. Python's handlers only note a signal at first, and
 * PyOS_AfterFork_Child() would drop it. */
static void go_on(const sigset_t *mask) {
    sigset_t pending, first;
    sigpending(&pending);
    sigorset(&first, mask, &pending);
    pthread_sigmask(SIG_SETMASK, &first, NULL);
    PyOS_AfterFork_Child();
    goproc_put_off_collecting();
    pthread_sigmask(SIG_SETMASK, mask, NULL);
}

PyDoc_STRVAR(pass_on_doc, "pass_on()\n--\n\n"
                          "Let the next clone come up. A clone calls it when it has opened its channel.");

static PyObject *nursery_pass_on(PyObject *object, PyObject *Py_UNUSED(args)) {
    Nursery *self = (Nursery *)object;
    if (self->shared) {
        uint32_t next = atomic_fetch_add(&self->shared->next, 1);
        if (next < self->most)
            tell(&self->shared->clones[next].turn, TOLD_NOTHING, TOLD_TO_BEGIN);
        if (self->number >= 0)
            forget_shared(self);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stand_by_doc, "stand_by()\n--\n\n"
                           "In a clone: wait until the main program takes it on, and return the value that take() was\n"
                           "given. Signal handlers run meanwhile. A clone that is not needed ends in this call.");

static PyObject *nursery_stand_by(PyObject *object, PyObject *Py_UNUSED(args)) {
    Nursery *self = (Nursery *)object;
    if (!self->shared || self->number < 0) {
        PyErr_SetString(PyExc_ValueError, "this process is no clone, or has stood by");
        return NULL;
    }
    _Atomic uint32_t *work = &self->shared->clones[self->number].work;
    uint32_t told;
    while ((told = atomic_load(work)) < TOLD_LEAST) {
        int error;
        Py_BEGIN_ALLOW_THREADS;
        error = goproc_futex_wait(work, told, told == TOLD_NOTHING ? IDLE_NS : -1);
        Py_END_ALLOW_THREADS;
        if (error == ETIMEDOUT)
            tell(work, TOLD_NOTHING, TOLD_TO_END);
        else if (error == EINTR && PyErr_CheckSignals() < 0)
            return NULL;
    }
    if (told == TOLD_TO_END)
        _exit(0);
    forget_shared(self);
    return PyLong_FromUnsignedLong(told - TOLD_LEAST);
}

/* ---- in the main program ----------------------------------------------------------------------------------------- */

/* Kills the template and waits for its end. */
static void end_template(Nursery *self) {
    if (!self->template)
        return;
    goproc_end_child(self->template);
    Nursery **at = &nurseries;
    while (*at != self)
        at = &(*at)->next;
    *at = self->next;
    self->template = 0;
}

PyDoc_STRVAR(
    fork_doc,
    "fork(count, turns)\n--\n\n"
    "Fork the template, and order count clones. turns is how many of them may come up at once. Each other one waits\n"
    "until pass_on() is called for it.\n\n"
    "Returns -1 in the main program, and in each clone its number; None if no clones can be made in this process.\n"
    "Raises what os.fork() raises.");

static PyObject *nursery_fork(PyObject *object, PyObject *args) {
    Nursery *self = (Nursery *)object;
    unsigned count, turns;
    if (!PyArg_ParseTuple(args, "II:fork", &count, &turns))
        return NULL;
    if (!self->shared || atomic_load(&self->shared->ordered) || count < 1 || count > self->most) {
        PyErr_SetString(PyExc_ValueError, "the nursery has had its template, or has no room for the clones");
        return NULL;
    }
    int able = goproc_can_fork_sibling() && goproc_have_pidfds() ? goproc_has_seats() : 0;
    if (able < 0)
        return NULL;
    if (!able)
        Py_RETURN_NONE;
    int armed, lifeline = goproc_child_lifeline(&armed);
    if (lifeline < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (!armed) {
        close(lifeline);
        Py_RETURN_NONE;
    }
    if (goproc_may_fork(count) < 0) {
        close(lifeline);
        return NULL;
    }
    Shared *shared = self->shared;
    atomic_store(&shared->ordered, count);
    atomic_store(&shared->next, turns);
    for (uint32_t i = 0; i < turns && i < self->most; i++)
        atomic_store(&shared->clones[i].turn, TOLD_TO_BEGIN);

    PyOS_BeforeFork();
    sigset_t all, mask;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &mask); /* signals are for the main program, not for the template */
    pid_t pid = fork();
    if (pid == 0) {
        make_clones(self, lifeline);
        go_on(&mask);
        return PyLong_FromLong(self->number);
    }
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    close(lifeline);
    if (pid > 0) {
        madvise(shared, self->size, MADV_DONTFORK);
        self->template = pid;
        self->next = nurseries;
        nurseries = self;
    }
    PyOS_AfterFork_Parent();
    if (pid < 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromLong(-1);
}

PyDoc_STRVAR(order_doc, "order()\n--\n\n"
                        "Order another clone, if there is room for one. Raises what the audit event os.fork raises.");

static PyObject *nursery_order(PyObject *object, PyObject *Py_UNUSED(args)) {
    Nursery *self = (Nursery *)object;
    if (self->template && atomic_load(&self->shared->ordered) < self->most) {
        if (PySys_Audit("os.fork", NULL) < 0)
            return NULL;
        atomic_fetch_add(&self->shared->ordered, 1);
        goproc_futex_wake(&self->shared->ordered);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(take_doc, "take(record, value=None)\n--\n\n"
                       "Take on the next clone, as start() does. If it stands by, tell it the value.\n\n"
                       "Returns False if there is none: the template or the clone has ended, or no seat is left.\n"
                       "Raises OSError when there is no descriptor left: then the clone has been ended.");

static PyObject *nursery_take(PyObject *object, PyObject *args) {
    Nursery *self = (Nursery *)object;
    PyObject *record, *value = Py_None;
    if (!PyArg_ParseTuple(args, "O!|O:take", &PyList_Type, &record, &value))
        return NULL;
    unsigned long told = value == Py_None ? 0 : PyLong_AsUnsignedLong(value);
    if (PyErr_Occurred())
        return NULL;
    if (told >= TOLD_TO_END - TOLD_LEAST) {
        PyErr_SetString(PyExc_OverflowError, "the value is too large");
        return NULL;
    }
    Shared *shared = self->shared;
    if (!shared || self->number >= 0 || self->taken >= atomic_load(&shared->ordered))
        Py_RETURN_FALSE;
    Clone *clone = &shared->clones[self->taken];
    for (int64_t waited = 0; !atomic_load(&clone->pid) && self->template; waited += CHECK_NS) {
        int error;
        Py_BEGIN_ALLOW_THREADS;
        error = goproc_futex_wait(&clone->pid, 0, CHECK_NS);
        Py_END_ALLOW_THREADS;
        if (error == ETIMEDOUT && (waited >= PATIENCE_NS || goproc_child_has_ended(self->template)))
            end_template(self);
    }
    pid_t pid = (pid_t)atomic_load(&clone->pid);
    if (!pid)
        Py_RETURN_FALSE; /* there is no such clone, and none behind it */
    self->taken++;
    if (value != Py_None && !tell(&clone->work, TOLD_NOTHING, TOLD_TO_WAIT_ON)) {
        goproc_end_child(pid);
        Py_RETURN_FALSE;
    }
    int taken = goproc_take_on(pid, -1, record);
    if (taken > 0 && value != Py_None)
        tell(&clone->work, TOLD_TO_WAIT_ON, (uint32_t)told + TOLD_LEAST);
    return taken < 0 ? NULL : PyBool_FromLong(taken);
}

/* Ends the template, and the clones that nobody has taken on. */
static void retire(Nursery *self) {
    if (self->number >= 0 || !self->shared)
        return;
    end_template(self);
    for (uint32_t ordered = atomic_load(&self->shared->ordered); self->taken < ordered; self->taken++) {
        pid_t pid = (pid_t)atomic_load(&self->shared->clones[self->taken].pid);
        if (pid)
            goproc_end_child(pid);
    }
}

PyDoc_STRVAR(retire_doc, "retire()\n--\n\n"
                         "End the template, and the clones that have not been taken. The others go on.");

static PyObject *nursery_retire(PyObject *object, PyObject *Py_UNUSED(args)) {
    retire((Nursery *)object);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(close_doc, "close()\n--\n\n"
                        "retire(), and end the clones that have been taken, but whose turn has not come.");

static PyObject *nursery_close(PyObject *object, PyObject *Py_UNUSED(args)) {
    Nursery *self = (Nursery *)object;
    retire(self);
    if (self->number < 0 && self->shared)
        for (uint32_t i = 0; i < self->taken; i++)
            tell(&self->shared->clones[i].turn, TOLD_NOTHING, TOLD_TO_END);
    forget_shared(self);
    Py_RETURN_NONE;
}

static void nursery_dealloc(PyObject *object) {
    Nursery *self = (Nursery *)object;
    retire(self);
    forget_shared(self);
    Py_TYPE(object)->tp_free(object);
}

/* ---- the module's part ------------------------------------------------------------------------------------------- */

static PyMethodDef nursery_methods[] = {
    {"fork", nursery_fork, METH_VARARGS, fork_doc},
    {"order", nursery_order, METH_NOARGS, order_doc},
    {"take", nursery_take, METH_VARARGS, take_doc},
    {"retire", nursery_retire, METH_NOARGS, retire_doc},
    {"close", nursery_close, METH_NOARGS, close_doc},
    {"pass_on", nursery_pass_on, METH_NOARGS, pass_on_doc},
    {"stand_by", nursery_stand_by, METH_NOARGS, stand_by_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef nursery_members[] = {
    {"lifeline", T_INT, offsetof(Nursery, lifeline), READONLY, PyDoc_STR("A clone's descriptor of the lifeline.")},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject NurseryType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc._native.Nursery",
    .tp_doc = PyDoc_STR("Nursery(most)\n--\n\n"
                        "A template: a fork of this process, which clones itself up to most times. The clones are\n"
                        "children of this process. Only one thread at a time may use this object."),
    .tp_basicsize = sizeof(Nursery),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = nursery_new,
    .tp_dealloc = nursery_dealloc,
    .tp_methods = nursery_methods,
    .tp_members = nursery_members,
};

int goproc_init_nursery(PyObject *module) {
    if (goproc_on_fork_child(abandon_inherited) < 0)
        return -1;
    return PyModule_AddType(module, &NurseryType);
}
