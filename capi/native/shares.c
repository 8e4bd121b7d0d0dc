/* shares.c - when a pool's worker looks at the shared objects that it keeps; and where a buffer lies.
 *
 * A worker keeps the shared objects that it has received (python/goproc/_common/sharing.py) until their owner closes
 * the handle. The owner notes this in the shared memory, but does not wake the worker. So the worker looks from time to
 * time.
 */
#include "shares.h"

#include "payload/payload.h"
#include "wake.h"

/* The function that looks; NULL if this process keeps no shared objects. Needs the GIL. */
static PyObject *look;
static int64_t looked_ns;

/* goproc_fork_depth of the process that has a worker's channel; -1 if there is no channel. */
static int64_t channel_depth = -1;

void goproc_looks_of_this_process(void) {
    channel_depth = goproc_fork_depth;
}

void goproc_looks_no_longer(void) {
    channel_depth = -1;
}

bool goproc_looks(void) {
    return look != NULL;
}

void goproc_look(void) {
    looked_ns = (int64_t)goproc_now_ns();
    PyObject *function = Py_NewRef(look);
    PyObject *left = PyObject_CallNoArgs(function);
    int any = left == NULL ? -1 : PyObject_IsTrue(left);
    if (any < 0)
        PyErr_WriteUnraisable(function);
    Py_XDECREF(left);
    Py_DECREF(function);
    if (any <= 0)
        Py_CLEAR(look);
}

void goproc_look_in_time(void) {
    if (look != NULL && (int64_t)goproc_now_ns() - looked_ns > GOPROC_LOOK_NS)
        goproc_look();
}

PyDoc_STRVAR(watch_shares_doc,
             "watch_shares(look, /)\n--\n\n"
             "In a pool's worker: call look() twice a second, until it returns false. Returns whether this is one.");

static PyObject *watch_shares(PyObject *module, PyObject *function) {
    (void)module;
    if (channel_depth != (int64_t)goproc_fork_depth)
        Py_RETURN_FALSE;
    if (look == NULL)
        looked_ns = (int64_t)goproc_now_ns();
    Py_XSETREF(look, Py_NewRef(function));
    Py_RETURN_TRUE;
}

PyDoc_STRVAR(address_doc, "address(buffer, /)\n--\n\n"
                          "Return where the memory of a contiguous buffer begins.");

static PyObject *address(PyObject *module, PyObject *buffer) {
    (void)module;
    Py_buffer view;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    PyObject *number = PyLong_FromVoidPtr(view.buf);
    PyBuffer_Release(&view);
    return number;
}

static PyMethodDef shares_functions[] = {
    {"address", address, METH_O, address_doc},
    {"watch_shares", watch_shares, METH_O, watch_shares_doc},
    {NULL, NULL, 0, NULL},
};

int goproc_init_shares(PyObject *module) {
    return PyModule_AddFunctions(module, shares_functions);
}
