/* signals.c - steps that a Python signal handler cannot interrupt by raising.
 *
 * Such a handler may raise after any call that the main thread makes. So it may raise between taking something and
 * noting that it has been taken. A with statement on an object whose __enter__ and __exit__ are in C leaves no such
 * gap. And while signals are held, no handler is called at all.
 */
#define _GNU_SOURCE
#include "native.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

/* --- Turn: a lock. A thread that cannot have it at once does not wait for it. The thread that has it may take it
 * again. */

static PyObject *ident_function; /* threading.get_ident, if it has been replaced so that it tells greenlets apart */

/* The calling thread, or greenlet, or 0 with an exception set. */
static unsigned long calling_thread(void) {
    if (ident_function == NULL)
        return PyThread_get_thread_ident();
    PyObject *ident = PyObject_CallNoArgs(ident_function);
    if (ident == NULL)
        return 0;
    unsigned long thread = PyLong_AsUnsignedLongMask(ident);
    Py_DECREF(ident);
    return thread;
}

typedef struct {
    PyObject_HEAD
    unsigned long owner; /* a thread, while depth > 0 */
    Py_ssize_t depth;
} Turn;

static PyObject *turn_enter(PyObject *object, PyObject *unused) {
    (void)unused;
    Turn *self = (Turn *)object;
    unsigned long thread = calling_thread();
    if (thread == 0 && PyErr_Occurred())
        return NULL;
    if (self->depth > 0 && self->owner != thread)
        return PyLong_FromLong(0);
    PyObject *depth = PyLong_FromSsize_t(self->depth + 1);
    if (depth != NULL) {
        self->owner = thread;
        self->depth++;
    }
    return depth;
}

/* If this thread has the turn now, the matching __enter__() has taken it: inner with statements have given back what
 * they took. */
static PyObject *turn_exit(PyObject *object, PyObject *unused) {
    (void)unused;
    Turn *self = (Turn *)object;
    unsigned long thread = calling_thread();
    if (thread == 0 && PyErr_Occurred())
        return NULL;
    if (self->depth > 0 && self->owner == thread)
        self->depth--;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(tell_threads_apart_by_doc,
             "tell_threads_apart_by(function) -> None\n\n"
             "Tell threads apart by what function() returns, an int. So a Turn can belong to a greenlet: greenlets\n"
             "share a thread.");

static PyObject *tell_threads_apart_by(PyObject *Py_UNUSED(module), PyObject *function) {
    Py_XSETREF(ident_function, Py_NewRef(function));
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    take_result_doc,
    "take_result(iteration, index) -> object | None\n\n"
    "Take the result at index out of iteration._ready, add 1 to iteration._taken, and return the result; None\n"
    "if another thread has taken it. This is one step, for threads and for signal handlers.");

static PyObject *take_result(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "take_result() takes 2 arguments");
        return NULL;
    }
    static PyObject *ready_name, *taken_name;
    if (!ready_name && !(ready_name = PyUnicode_InternFromString("_ready")))
        return NULL;
    if (!taken_name && !(taken_name = PyUnicode_InternFromString("_taken")))
        return NULL;
    PyObject *ready = PyObject_GetAttr(args[0], ready_name), *result = NULL;
    PyObject *old = ready ? PyObject_GetAttr(args[0], taken_name) : NULL;
    long long taken = old ? PyLong_AsLongLong(old) : -1;
    PyObject *taken_then = old && !PyErr_Occurred() ? PyLong_FromLongLong(taken + 1) : NULL;
    if (taken_then) {
        result = Py_XNewRef(PyDict_GetItemWithError(ready, args[1]));
        if (result == NULL && !PyErr_Occurred())
            result = Py_NewRef(Py_None);
        else if (result &&
                 (PyDict_DelItem(ready, args[1]) < 0 || PyObject_SetAttr(args[0], taken_name, taken_then) < 0))
            Py_CLEAR(result);
    }
    Py_XDECREF(taken_then);
    Py_XDECREF(old);
    Py_XDECREF(ready);
    return result;
}

/* --- Interrupts of a worker: a SIGINT that the terminal sends to all of its processes does not reach Python. */

static struct {
    struct sigaction pythons;
    pid_t owner; /* the process that has the pool */
    pid_t worker;
} interrupts;

static int is_for_task(const siginfo_t *info) {
    int sent = info->si_code == SI_USER || info->si_code == SI_TKILL || info->si_code == SI_QUEUE;
    if (!sent)
        return info->si_code == SI_TIMER;
    pid_t self = getpid(), sender = info->si_pid;
    return sender == self || sender == interrupts.owner ||
           (self != interrupts.worker && sender == getppid()); /* a process that a task has forked */
}

static void sort_interrupt(int signum, siginfo_t *info, void *Py_UNUSED(context)) {
    int error = errno;
    if (is_for_task(info))
        interrupts.pythons.sa_handler(signum);
    errno = error;
}

PyDoc_STRVAR(
    sort_interrupts_doc,
    "sort_interrupts(owner) -> bool\n\n"
    "Keep most SIGINTs from Python's handler, until signal.signal() sets another handler. It gets only those that\n"
    "this process sends itself, and those of the process `owner`. In a process that this one forks, it also gets\n"
    "those of the parent. Return whether that was so already.");

static PyObject *sort_interrupts(PyObject *Py_UNUSED(module), PyObject *owner) {
    long pid = PyLong_AsLong(owner);
    if (pid == -1 && PyErr_Occurred())
        return NULL;
    struct sigaction now, action = {.sa_sigaction = sort_interrupt, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    if (sigaction(SIGINT, NULL, &now) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (now.sa_flags & SA_SIGINFO) /* sort_interrupt */
        Py_RETURN_TRUE;
    if (now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN)
        Py_RETURN_FALSE;
    interrupts.pythons = now;
    interrupts.owner = (pid_t)pid;
    interrupts.worker = getpid();
    action.sa_mask = now.sa_mask;
    if (sigaction(SIGINT, &action, NULL) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_FALSE;
}

static PyMethodDef module_methods[] = {
    {"sort_interrupts", sort_interrupts, METH_O, sort_interrupts_doc},
    {"take_result", (PyCFunction)(void (*)(void))take_result, METH_FASTCALL, take_result_doc},
    {"tell_threads_apart_by", tell_threads_apart_by, METH_O, tell_threads_apart_by_doc},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef turn_methods[] = {
    {"__enter__", turn_enter, METH_NOARGS, PyDoc_STR("Take the turn; return how often this thread has it, 0 if not.")},
    {"__exit__", turn_exit, METH_VARARGS, PyDoc_STR("Give the turn back, if __enter__() has taken it.")},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject TurnType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc._native.Turn",
    .tp_doc = PyDoc_STR("Turn()\n--\n\n"
                        "A lock for with statements, for which no thread waits. The value for `as` is 0 when another\n"
                        "thread has it. No signal handler runs between taking it and the body."),
    .tp_basicsize = sizeof(Turn),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_methods = turn_methods,
};

/* --- held_signals: signals that usually have handlers are only noted, and delivered at the end. */

static const int HELD[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGALRM, SIGUSR1, SIGUSR2};
enum { HELD_COUNT = sizeof HELD / sizeof *HELD };

static struct {
    Py_ssize_t depth; /* how many with statements of the main thread hold them */
    unsigned long main_thread;
    struct sigaction saved[HELD_COUNT];
    volatile sig_atomic_t replaced[HELD_COUNT], noted[HELD_COUNT];
} held;

static void note(int signal) {
    for (int i = 0; i < HELD_COUNT; i++)
        if (HELD[i] == signal)
            held.noted[i] = 1;
}

static void note_sorted(int signum, siginfo_t *info, void *Py_UNUSED(context)) {
    if (is_for_task(info))
        note(signum);
}

static int has_siginfo_handler(const struct sigaction *action, void (*handler)(int, siginfo_t *, void *)) {
    return action->sa_flags & SA_SIGINFO && action->sa_sigaction == handler;
}

static void hold(void) {
    /* Go, which may run on this thread, needs SA_ONSTACK: its stacks are small. */
    struct sigaction noting = {.sa_handler = note, .sa_flags = SA_RESTART | SA_ONSTACK};
    struct sigaction sorting = {.sa_sigaction = note_sorted, .sa_flags = SA_RESTART | SA_ONSTACK | SA_SIGINFO};
    sigemptyset(&noting.sa_mask);
    sigemptyset(&sorting.sa_mask);
    for (int i = 0; i < HELD_COUNT; i++) {
        struct sigaction *saved = &held.saved[i];
        held.noted[i] = held.replaced[i] = 0;
        if (sigaction(HELD[i], NULL, saved) < 0)
            continue;
        int sorts = has_siginfo_handler(saved, sort_interrupt);
        if (sorts || (!(saved->sa_flags & SA_SIGINFO) && saved->sa_handler != SIG_DFL && saved->sa_handler != SIG_IGN))
            held.replaced[i] = sigaction(HELD[i], sorts ? &sorting : &noting, NULL) == 0;
    }
}

/* Restores the handlers. If a handler that ran in held_enter() or held_check() has set a new handler, the new one
 * stays. */
static void restore(void) {
    struct sigaction now;
    for (int i = 0; i < HELD_COUNT; i++)
        if (held.replaced[i] && sigaction(HELD[i], NULL, &now) == 0 &&
            (now.sa_handler == note || has_siginfo_handler(&now, note_sorted)))
            sigaction(HELD[i], &held.saved[i], NULL);
}

static void deliver(void) {
    restore();
    for (int i = 0; i < HELD_COUNT; i++)
        if (held.replaced[i] && held.noted[i])
            raise(HELD[i]);
}

/* In a forked child: drops the noted signals, which are the parent's. */
static void abandon_held(void) {
    if (held.depth > 0) {
        restore();
        held.depth = 0;
    }
}

static PyObject *held_enter(PyObject *object, PyObject *unused) {
    (void)unused;
    if (PyThread_get_thread_ident() == held.main_thread && held.depth++ == 0) {
        hold();
        /* Python may have noted a signal that came before, and would call its handler a few instructions later. */
        if (PyErr_CheckSignals() < 0) {
            held.depth = 0;
            deliver();
            return NULL;
        }
    }
    Py_INCREF(object);
    return object;
}

static PyObject *held_exit(PyObject *object, PyObject *unused) {
    (void)object;
    (void)unused;
    if (PyThread_get_thread_ident() == held.main_thread && held.depth > 0 && --held.depth == 0)
        deliver();
    Py_RETURN_NONE;
}

static PyObject *held_check(PyObject *object, PyObject *unused) {
    (void)object;
    (void)unused;
    if (PyThread_get_thread_ident() == held.main_thread && held.depth > 0) {
        deliver();
        int failed = PyErr_CheckSignals() < 0;
        hold();
        if (failed || PyErr_CheckSignals() < 0)
            return NULL; /* the signals are still held, until the end of the with statement */
    }
    Py_RETURN_NONE;
}

static PyMethodDef held_methods[] = {
    {"__enter__", held_enter, METH_NOARGS, PyDoc_STR("Hold the signals.")},
    {"__exit__", held_exit, METH_VARARGS, PyDoc_STR("Deliver what came meanwhile.")},
    {"check", held_check, METH_NOARGS,
     PyDoc_STR("check()\n--\n\nCall the handlers of the signals that have come so far; raises what they raise.")},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject HeldType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc._native.HeldSignals",
    .tp_doc =
        PyDoc_STR("In a with statement of the main thread no signal handler is called. Signals that come meanwhile\n"
                  "are delivered at its end. Other threads, which call no handlers, need not hold them."),
    .tp_basicsize = sizeof(PyObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_methods = held_methods,
};

/* In a forked child, the main thread is the one that forked. */
static void renew_main_thread(void) {
    held.main_thread = (unsigned long)PyThread_get_thread_ident();
}

static void forked(void) {
    abandon_held();
    renew_main_thread();
}

int goproc_init_signals(PyObject *module) {
    if (goproc_on_fork_child(forked) < 0)
        return -1;
    if (PyModule_AddFunctions(module, module_methods) < 0)
        return -1;
    PyObject *threading = PyImport_ImportModule("threading");
    PyObject *thread = threading ? PyObject_CallMethod(threading, "main_thread", NULL) : NULL;
    PyObject *ident = thread ? PyObject_GetAttrString(thread, "ident") : NULL;
    if (ident != NULL)
        held.main_thread = PyLong_AsUnsignedLong(ident);
    Py_XDECREF(threading);
    Py_XDECREF(thread);
    Py_XDECREF(ident);
    if (PyErr_Occurred() || PyModule_AddType(module, &TurnType) < 0 || PyType_Ready(&HeldType) < 0)
        return -1;
    PyObject *only = PyObject_New(PyObject, &HeldType);
    if (only == NULL || PyModule_AddObjectRef(module, "held_signals", only) < 0) {
        Py_XDECREF(only);
        return -1;
    }
    Py_DECREF(only);
    return 0;
}
