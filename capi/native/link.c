/* link.c - the link to the engine: whether this process has one, and what a forked child gives up of its parent's
 * engine.
 *
 * python/goproc/_common/engine.py loads the engine, and attaches it here. The other files ask for the addresses of its
 * functions.
 *
 * A forked child inherits the memory and descriptors of its parent's engine, but not the threads. A pthread_atfork
 * handler closes the descriptors, and marks the engine as inherited; then it runs the hooks of the other files. Python
 * loads a fresh copy if the child needs one.
 */
#include "process.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>

static int engine_state = GOPROC_ENGINE_NONE;
static void *engine_handle;           /* from dlopen; never closed, for a Go library cannot be unloaded */
static goproc_listed *register_slots; /* the engine's open descriptors; see goproc.h */
static int32_t register_count;
static goproc_share_seats_fn share_seats;
static goproc_close_fn close_engine;
static struct rlimit saved_limit; /* RLIMIT_NOFILE before the engine was loaded */
static int limit_saved;

enum { MAX_CHILD_HOOKS = 16 };
static goproc_child_hook child_hooks[MAX_CHILD_HOOKS];
static int child_hook_count;

int goproc_engine_state(void) {
    return engine_state;
}

void *goproc_symbol(const char *name) {
    if (engine_state != GOPROC_ENGINE_LIVE) {
        PyErr_SetString(PyExc_RuntimeError, "no goproc engine is attached in this process");
        return NULL;
    }
    void *address = dlsym(engine_handle, name);
    if (!address)
        PyErr_Format(PyExc_ImportError, "the goproc engine does not export %s: build both anew", name);
    return address;
}

int goproc_on_fork_child(goproc_child_hook hook) {
    for (int i = 0; i < child_hook_count; i++)
        if (child_hooks[i] == hook)
            return 0;
    if (child_hook_count == MAX_CHILD_HOOKS) {
        PyErr_SetString(PyExc_RuntimeError, "goproc: too many hooks for forked children");
        return -1;
    }
    child_hooks[child_hook_count++] = hook;
    return 0;
}

/* Runs in every forked child, before fork() returns there. Other threads of the parent may have held any lock at the
 * moment of the fork, so nothing here may allocate or lock. */
static void in_forked_child(void) {
    if (engine_state == GOPROC_ENGINE_LIVE) {
        engine_state = GOPROC_ENGINE_INHERITED;
        goproc_know_runtime(NULL);
        for (int32_t i = 0; i < register_slots[register_count].fd; i++)
            if (register_slots[i].fd)
                goproc_close_marked(register_slots[i].fd - 1, register_slots[i].mark);
    }
    for (int i = 0; i < child_hook_count; i++)
        child_hooks[i]();
}

PyDoc_STRVAR(engine_state_doc, "engine_state() -> int\n\n"
                               "0: no engine has been attached; 1: this process has a live one; 2: one was inherited "
                               "through fork(), and is dead.");

static PyObject *link_engine_state(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    return PyLong_FromLong(engine_state);
}

PyDoc_STRVAR(save_limits_doc,
             "save_limits() -> None\n\n"
             "Remember RLIMIT_NOFILE; to be called before the engine is loaded, so that attach() can restore it.");

static PyObject *link_save_limits(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    limit_saved = getrlimit(RLIMIT_NOFILE, &saved_limit) == 0;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(hold_signals_doc, "hold_signals() -> None\n\n"
                               "Block all signals in the thread that is about to load the engine: the engine's threads "
                               "inherit that.\nattach() gives back the signals that the engine takes. See faults.c.");

static PyObject *link_hold_signals(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    goproc_hold_signals();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(release_signals_doc, "release_signals() -> None\n\n"
                                  "Unblock what hold_signals() has blocked.");

static PyObject *link_release_signals(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    goproc_release_signals();
    Py_RETURN_NONE;
}

/* Go's package os raises the soft limit of open files to the hard one when it is initialised. The limit belongs to the
 * user's program, and select() based programs rely on a low one. */
static void restore_limits(void) {
    struct rlimit now;
    if (limit_saved && getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_max == saved_limit.rlim_max &&
        now.rlim_cur != saved_limit.rlim_cur)
        setrlimit(RLIMIT_NOFILE, &saved_limit);
    limit_saved = 0;
}

int goproc_offer_seats(goproc_seats *seats) {
    return engine_state == GOPROC_ENGINE_LIVE && share_seats(seats) < 0 ? -1 : 0;
}

/* Runs at the very end of the interpreter, when no Python can run any more: exit functions of the program, and
 * destructors of objects that modules hold, may need the engine until then. An exit function of goproc's would run too
 * early: Python would run it before the exit functions that the program registered earlier, as in a program that
 * imports multiprocessing late. A forked child does not close its parent's engine. A process that ends by os._exit()
 * does not come here: the kernel closes its sockets, and its servers end with them. */
static void close_at_end(void) {
    if (engine_state == GOPROC_ENGINE_LIVE)
        close_engine();
}

PyDoc_STRVAR(attach_doc, "attach(path) -> None\n\n"
                         "Link to the engine that has been loaded from path.\n\n"
                         "Raises ImportError if it is not loaded, or was built for another version of the ABI.");

static PyObject *link_attach(PyObject *Py_UNUSED(module), PyObject *arg) {
    PyObject *path;
    if (!PyUnicode_FSConverter(arg, &path))
        return NULL;
    void *handle = dlopen(PyBytes_AS_STRING(path), RTLD_NOW | RTLD_NOLOAD);
    Py_DECREF(path);
    if (!handle)
        return PyErr_Format(PyExc_ImportError, "the goproc engine %R is not loaded", arg);

    goproc_abi_version_fn abi_version = GOPROC_FIND(handle, goproc_abi_version);
    goproc_fd_register_fn fd_register = GOPROC_FIND(handle, goproc_fd_register);
    if (!abi_version || !fd_register)
        return PyErr_Format(PyExc_ImportError, "%R is not a goproc engine", arg);
    /* A thread of the Go runtime initialises the library, and the first call waits until it has done so. Only then
     * has the limit been changed. */
    int32_t version = abi_version();
    restore_limits();
    goproc_restore_signals((void *)abi_version);
    if (version != GOPROC_ABI_VERSION)
        return PyErr_Format(PyExc_ImportError,
                            "the goproc engine %R has ABI version %d, _native has %d: build both anew", arg,
                            (int)version, GOPROC_ABI_VERSION);
    share_seats = GOPROC_FIND(handle, goproc_share_seats);
    close_engine = GOPROC_FIND(handle, goproc_close);
    if (!share_seats || !close_engine)
        return PyErr_Format(PyExc_ImportError, "%R lacks functions that _native calls: build it anew", arg);
    static int closes_at_end;
    if (!closes_at_end && Py_AtExit(close_at_end) < 0)
        return PyErr_Format(PyExc_ImportError, "too many functions are to run at the end of the interpreter");
    closes_at_end = 1;
    engine_handle = handle;
    register_slots = fd_register(&register_count);
    goproc_know_runtime((const int32_t *)&register_slots[register_count + 1]);
    engine_state = GOPROC_ENGINE_LIVE;
    goproc_hand_over_seats();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(mend_runtime_doc,
             "mend_runtime() -> None\n\n"
             "To be called before the engine is: opens the descriptors of the Go runtime anew, if the program has\n"
             "closed them.");

static PyObject *link_mend_runtime(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    goproc_mend_runtime();
    Py_RETURN_NONE;
}

extern char **environ;

PyDoc_STRVAR(environment_doc, "environment() -> list[bytes]\n\n"
                              "The variables that execv() would pass to a program now, as NAME=value.");

static PyObject *link_environment(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    PyObject *list = PyList_New(0);
    for (char **at = environ; list && at && *at; at++) {
        PyObject *variable = PyBytes_FromString(*at);
        if (!variable || PyList_Append(list, variable) < 0)
            Py_CLEAR(list);
        Py_XDECREF(variable);
    }
    return list;
}

/* ---- the module's part ------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"engine_state", link_engine_state, METH_NOARGS, engine_state_doc},
    {"save_limits", link_save_limits, METH_NOARGS, save_limits_doc},
    {"hold_signals", link_hold_signals, METH_NOARGS, hold_signals_doc},
    {"release_signals", link_release_signals, METH_NOARGS, release_signals_doc},
    {"attach", link_attach, METH_O, attach_doc},
    {"mend_runtime", link_mend_runtime, METH_NOARGS, mend_runtime_doc},
    {"environment", link_environment, METH_NOARGS, environment_doc},
    {NULL, NULL, 0, NULL},
};

int goproc_init_link(PyObject *module) {
    static int handler_installed;
    if (!handler_installed) {
        int error = pthread_atfork(NULL, NULL, in_forked_child);
        if (error) {
            errno = error;
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        handler_installed = 1;
    }
    return PyModule_AddFunctions(module, methods);
}
