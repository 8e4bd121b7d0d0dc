/* module.c - the `_transport` extension module: it collects what the other files define. */
#include "transport.h"

#ifdef Py_GIL_DISABLED
#error "goproc relies on the GIL: it cannot be built for a free-threaded CPython"
#endif

static int add_parts(PyObject *module) {
    if (goproc_init_process(module) < 0 || goproc_init_signals(module) < 0 || goproc_init_faults() < 0 ||
        goproc_init_nursery(module) < 0 || goproc_init_rights(module) < 0)
        return -1;
    if (goproc_init_start(module) < 0)
        return -1;
    if (goproc_init_channel && goproc_init_channel(module) < 0)
        return -1;
    if (goproc_init_port && goproc_init_port(module) < 0)
        return -1;
    return 0;
}

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "goproc._transport",
    .m_doc = "The Go-free native half of goproc: fork, the lifeline, and both ends of a pool's channels.",
    .m_size = -1, /* the fork handler and the link to the engine belong to the process, not to an interpreter */
};

PyMODINIT_FUNC PyInit__transport(void) {
    PyObject *module = PyModule_Create(&definition);
    if (module && add_parts(module) < 0)
        Py_CLEAR(module);
    return module;
}
