/* fork.c - the fork itself, as os.fork() makes it.
 *
 * It is in C because the Python thread that called start() must make the system call, outside Go. Otherwise the child
 * would return into a Go runtime whose threads are gone. As os.fork() does, it refuses to fork in some situations, and
 * warns of threads. seats.c lists the children. clone/ has siblings.
 */
#include "process.h"

#include <errno.h>
#include <sched.h>
#include <unistd.h>

#if PY_VERSION_HEX >= 0x030C0000
/* From 3.12 on os.fork() warns when the process has several threads. This gives the same warning, but counts only the
 * program's Python threads, not those of the engine and of pools: the child never uses the engine. If the program turns
 * the warning into an exception, the exception is dropped up to 3.14, and raised from 3.15 on, as by os.fork(). Unlike
 * os.fork(), this raises it before the fork, so no child is lost. */
static int warn_about_threads(void) {
    PyObject *threading = PyDict_GetItemString(PyImport_GetModuleDict(), "threading");
    if (!threading)
        return 0;
    Py_INCREF(threading);
    Py_ssize_t threads = 0;
    static const char *const tables[] = {"_active", "_limbo"};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(tables); i++) {
        PyObject *table = PyObject_GetAttrString(threading, tables[i]);
        PyObject *values = table ? PyMapping_Values(table) : NULL;
        for (Py_ssize_t j = 0; values && j < PyList_GET_SIZE(values); j++)
            threads += !PyObject_HasAttrString(PyList_GET_ITEM(values, j), "_goproc"); /* a pool's own has it */
        Py_XDECREF(values);
        Py_XDECREF(table);
        if (!values)
            PyErr_Clear();
    }
    Py_DECREF(threading);
    if (threads <= 1)
        return 0;
    if (PyErr_WarnFormat(PyExc_DeprecationWarning, 1,
                         "This process (pid=%ld) is multi-threaded, use of fork() may lead to deadlocks in the child.",
                         (long)getpid()) < 0) {
        if (PY_VERSION_HEX >= 0x030F0000 || !PyErr_ExceptionMatches(PyExc_DeprecationWarning))
            return -1; /* it may also be an exception of a signal handler */
        PyErr_Clear();
    }
    return 0;
}

static int interpreter_is_ending(void) {
#if PY_VERSION_HEX >= 0x030D0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
}
#endif

int goproc_may_fork(unsigned children) {
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_RuntimeError, "fork not supported for subinterpreters");
        return -1;
    }
#if PY_VERSION_HEX >= 0x030C0000
    if (interpreter_is_ending()) {
#if PY_VERSION_HEX >= 0x030D0000
        PyErr_SetString(PyExc_PythonFinalizationError, "can't fork at interpreter shutdown");
#else
        PyErr_SetString(PyExc_RuntimeError, "can't fork at interpreter shutdown");
#endif
        return -1;
    }
    if (warn_about_threads() < 0)
        return -1;
#endif
    for (unsigned i = 0; i < children; i++)
        if (PySys_Audit("os.fork", NULL) < 0)
            return -1;
    return 0;
}

pid_t goproc_fork(pid_t (*make)(void)) {
    if (goproc_may_fork(1) < 0)
        return -1;
    goproc_pause_openmp();
    PyOS_BeforeFork();
    pid_t pid = make();
    goproc_forked_with_openmp();
    if (pid == 0) {
        /* The kernel often puts a child on its parent's processor. While another processor is idle, the parent would
         * wait for the rest of the child's time slice, a millisecond or two: first to go on, then to get the GIL back.
         * So the child yields twice. */
        sched_yield();
        PyOS_AfterFork_Child();
        sched_yield();
        return 0;
    }
    int saved_errno = errno;
    PyOS_AfterFork_Parent();
    if (pid < 0) {
        errno = saved_errno;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return pid;
}

PyDoc_STRVAR(
    fork_doc,
    "fork() -> int\n\n"
    "Fork as os.fork() does, with CPython's own handlers run around it: 0 in the child, its pid in the parent.\n\n"
    "Raises OSError if the kernel refuses, RuntimeError in a subinterpreter or (from Python 3.12 on) while the\n"
    "interpreter ends. From 3.12 on it warns, as os.fork() does, when several Python threads run.");

static PyObject *fork_fork(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    pid_t pid = goproc_fork(fork);
    return pid < 0 ? NULL : PyLong_FromLong((long)pid);
}

PyDoc_STRVAR(fork_sibling_doc, "fork_sibling() -> int\n\n"
                               "Fork this process, which must have one thread, so that the child is a child of its "
                               "parent: the child's pid, and 0 in\n"
                               "the child. Handlers of pthread_atfork() do not run, CPython's do. Raises as fork() "
                               "does, and OSError(ENOSYS) where\n"
                               "the C library cannot be told of it.");

static pid_t make_sibling(void) {
    return goproc_fork_sibling(NULL);
}

static PyObject *fork_sibling(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    pid_t pid = goproc_fork(make_sibling);
    return pid < 0 ? NULL : PyLong_FromLong((long)pid);
}

static int collecting; /* whether collect_again() is to turn garbage collection on */

void goproc_put_off_collecting(void) {
    collecting = PyGC_Disable();
}

PyDoc_STRVAR(put_off_collecting_doc,
             "put_off_collecting() -> None\n\n"
             "In a forked child: collect no garbage until collect_again(), that is, until the process's own code runs. "
             "A\ncollection would write to the pages of old objects, and so copy them.");

static PyObject *fork_put_off_collecting(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    goproc_put_off_collecting();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(collect_again_doc, "collect_again() -> None\n\n"
                                "Collect garbage again, if it was collected before put_off_collecting().");

static PyObject *fork_collect_again(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    if (collecting)
        PyGC_Enable();
    collecting = 0;
    Py_RETURN_NONE;
}

/* ---- the module's part ------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"fork", fork_fork, METH_NOARGS, fork_doc},
    {"fork_sibling", fork_sibling, METH_NOARGS, fork_sibling_doc},
    {"put_off_collecting", fork_put_off_collecting, METH_NOARGS, put_off_collecting_doc},
    {"collect_again", fork_collect_again, METH_NOARGS, collect_again_doc},
    {NULL, NULL, 0, NULL},
};

int goproc_init_fork(PyObject *module) {
    return PyModule_AddFunctions(module, methods);
}
