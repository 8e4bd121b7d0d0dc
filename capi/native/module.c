/* module.c - the `_native` extension module: it collects what the other files define. */
#include "native.h"
#include "queue/ring.h"
#include "sync/sync.h"

#include <errno.h>
#include <string.h>

#ifdef Py_GIL_DISABLED
#error "goproc relies on the GIL: it cannot be built for a free-threaded CPython"
#endif

void goproc_raise_errno(const char *call, const char *purpose) {
    int error = errno;
    PyObject *arguments = Py_BuildValue(
        "(iN)", error, PyUnicode_FromFormat("%s: %s (goproc needs it %s)", call, strerror(error), purpose));
    if (arguments)
        PyErr_SetObject(PyExc_OSError, arguments); /* the subclass for the errno */
    Py_XDECREF(arguments);
}

/* link.c comes first: the others register hooks with it, which it calls in forked children. */
static int add_parts(PyObject *module) {
    if (goproc_init_link(module) < 0 || goproc_init_descriptors(module) < 0 || goproc_init_fork(module) < 0 ||
        goproc_init_lifeline(module) < 0 || goproc_init_sentinel(module) < 0 || goproc_init_seats(module) < 0 ||
        goproc_init_wait(module) < 0)
        return -1;
    if (goproc_init_signals(module) < 0 || goproc_init_faults() < 0 || goproc_init_nursery(module) < 0 ||
        goproc_init_rights(module) < 0 || goproc_init_title(module) < 0 || goproc_init_stream(module) < 0)
        return -1;
    if (goproc_init_start(module) < 0 || goproc_init_pickling(module) < 0 || goproc_init_openmp(module) < 0)
        return -1;
    if (goproc_init_block(module) < 0 || goproc_init_semlock(module) < 0 || goproc_init_waiters(module) < 0 ||
        goproc_init_flag(module) < 0 || goproc_init_queue(module) < 0 || goproc_init_waits(module) < 0)
        return -1;
    if (goproc_init_channel && goproc_init_channel(module) < 0)
        return -1;
    if (goproc_init_port && goproc_init_port(module) < 0)
        return -1;
    return 0;
}

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "goproc._native",
    .m_doc = "The Go-free native half of goproc: fork, the lifeline, and both ends of a pool's channels.",
    .m_size = -1, /* the fork handler and the link to the engine belong to the process, not to an interpreter */
};

PyMODINIT_FUNC PyInit__native(void) {
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) { /* the process would not end */
        PyErr_SetString(PyExc_ImportError, "it works in the main interpreter only, not in a subinterpreter");
        return NULL;
    }
    PyObject *module = PyModule_Create(&definition);
    if (module && add_parts(module) < 0)
        Py_CLEAR(module);
    return module;
}
