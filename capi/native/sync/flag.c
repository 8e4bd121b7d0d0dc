/* flag.c - a flag that processes wait for: the type behind Event; and a few bytes of shared memory.
 *
 * The flag's word is twice the number of times that it was set, plus 1 while it is set. So a waiting thread notices a
 * set() even if a clear() follows at once, and set() wakes all without knowing who they are.
 */
#include "sync.h"

#include <string.h>

typedef struct {
    goproc_cell cell;
    _Atomic uint32_t word;
    _Atomic uint32_t waiting; /* how many wait; more, if one of them was killed */
} flag_cell;

typedef struct {
    PyObject_HEAD;
    goproc_home home;
    flag_cell *cell;
    goproc_sync_spinner spinner;
} flag;

static int check(flag *self) {
    if (self->cell)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "the flag has not been initialised");
    return -1;
}

static PyObject *flag_is_set(PyObject *object, PyObject *Py_UNUSED(unused)) {
    flag *self = (flag *)object;
    return check(self) < 0 ? NULL : PyBool_FromLong(atomic_load(&self->cell->word) & 1);
}

static PyObject *flag_set(PyObject *object, PyObject *Py_UNUSED(unused)) {
    flag *self = (flag *)object;
    if (check(self) < 0)
        return NULL;
    uint32_t seen = atomic_load(&self->cell->word);
    while (!(seen & 1) && !atomic_compare_exchange_weak(&self->cell->word, &seen, seen + 3))
        ;
    if (atomic_load(&self->cell->waiting))
        goproc_futex_wake(&self->cell->word);
    Py_RETURN_NONE;
}

static PyObject *flag_clear(PyObject *object, PyObject *Py_UNUSED(unused)) {
    flag *self = (flag *)object;
    if (check(self) < 0)
        return NULL;
    atomic_fetch_and(&self->cell->word, ~(uint32_t)1);
    Py_RETURN_NONE;
}

/* Returns 1 when the flag has been set since its word was seen, 0 when the time is over, -1 for EINTR. *note is the
 * note of the wait, which goes on after a signal. */
static int wait_for(flag_cell *cell, goproc_sync_spinner *spinner, uint32_t seen, uint64_t deadline,
                    goproc_wait **note) {
    int how = 1;
    if (!goproc_sync_spin(spinner, &cell->word, seen)) {
        atomic_fetch_add(&cell->waiting, 1);
        while (atomic_load(&cell->word) == seen) {
            if (!*note)
                *note = goproc_waits_for(GOPROC_WAIT_EVENT, cell, 0, deadline);
            int error = goproc_nap(&cell->word, seen, deadline, GOPROC_NEXT_LOOK_NS);
            if (error && atomic_load(&cell->word) == seen) {
                how = error == EINTR ? -1 : 0;
                break;
            }
        }
        atomic_fetch_sub(&cell->waiting, 1);
    }
    return how;
}

PyDoc_STRVAR(wait_doc, "wait(timeout=None)\n--\n\n"
                       "Wait until the flag is set (True), or timeout seconds have passed (False).");

static PyObject *flag_wait(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    flag *self = (flag *)object;
    uint64_t deadline;
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    if (count + named > 1)
        return PyErr_Format(PyExc_TypeError, "wait() takes at most 1 argument (%zd given)", count + named);
    if (named && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "timeout") != 0)
        return PyErr_Format(PyExc_TypeError, "wait() got an unexpected keyword argument %R",
                            PyTuple_GET_ITEM(names, 0));
    if (check(self) < 0)
        return NULL;
    uint32_t seen = atomic_load(&self->cell->word);
    if (seen & 1)
        Py_RETURN_TRUE;
    int is_bad = goproc_read_deadline(count + named ? args[0] : Py_None, &deadline);
    if (is_bad)
        return is_bad < 0 ? NULL : goproc_raise_bad_timeout();
    goproc_wait *note = NULL;
    int how;
    do {
        Py_BEGIN_ALLOW_THREADS;
        how = wait_for(self->cell, &self->spinner, seen, deadline, &note);
        Py_END_ALLOW_THREADS;
    } while (how < 0 && PyErr_CheckSignals() == 0);
    goproc_waits_no_longer(note);
    return how < 0 ? NULL : PyBool_FromLong(how);
}

static PyObject *settle(flag *self, goproc_home home, flag_cell *cell) {
    if (self->cell)
        goproc_cell_drop(&self->home, self->cell);
    self->home = home;
    self->cell = cell;
    goproc_sync_spinner_init(&self->spinner);
    Py_RETURN_NONE;
}

static PyObject *flag_make(PyObject *object, PyObject *anonymous) {
    goproc_home home;
    flag_cell *cell = goproc_cell_new(GOPROC_CELL_FLAG, sizeof *cell, PyObject_IsTrue(anonymous) == 1, &home);
    return cell ? settle((flag *)object, home, cell) : NULL;
}

static PyObject *flag_place(PyObject *object, PyObject *Py_UNUSED(unused)) {
    flag *self = (flag *)object;
    return check(self) < 0 ? NULL : goproc_cell_place(&self->home, self->cell);
}

static PyObject *flag_settle(PyObject *object, PyObject *place) {
    goproc_home home;
    flag_cell *cell = goproc_cell_at(place, GOPROC_CELL_FLAG, sizeof *cell, &home);
    return cell ? settle((flag *)object, home, cell) : NULL;
}

static void flag_dealloc(PyObject *object) {
    flag *self = (flag *)object;
    if (self->cell)
        goproc_cell_drop(&self->home, self->cell);
    Py_TYPE(self)->tp_free(object);
}

static PyMethodDef flag_methods[] = {
    {"is_set", flag_is_set, METH_NOARGS, PyDoc_STR("is_set()\n--\n\nReturn whether the flag is set.")},
    {"set", flag_set, METH_NOARGS, PyDoc_STR("set()\n--\n\nSet the flag, and wake all who wait for it.")},
    {"clear", flag_clear, METH_NOARGS, PyDoc_STR("clear()\n--\n\nSet the flag no longer.")},
    {"wait", (PyCFunction)(void (*)(void))flag_wait, METH_FASTCALL | METH_KEYWORDS, wait_doc},
    {"_make", flag_make, METH_O, PyDoc_STR("_make(anonymous)\n--\n\nMake the flag's memory.")},
    {"_place", flag_place, METH_NOARGS, PyDoc_STR("_place()\n--\n\nWhat another process needs for _settle().")},
    {"_settle", flag_settle, METH_O, PyDoc_STR("_settle(place)\n--\n\nUse another process's flag.")},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject flag_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc._native.Flag",
    .tp_doc = PyDoc_STR("A flag, in shared memory, that processes wait for."),
    .tp_basicsize = sizeof(flag),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = flag_dealloc,
    .tp_methods = flag_methods,
};

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD;
    goproc_home home;
    goproc_cell *cell;
    Py_ssize_t size;
} shared_bytes;

static PyObject *bytes_make(PyObject *object, PyObject *args) {
    shared_bytes *self = (shared_bytes *)object;
    Py_ssize_t size;
    int anonymous;
    if (!PyArg_ParseTuple(args, "np:_make", &size, &anonymous))
        return NULL;
    if (self->cell || size < 0 || size > 64 << 10)
        return PyErr_Format(PyExc_ValueError, "cannot make %zd bytes", size);
    self->cell = goproc_cell_new(GOPROC_CELL_BYTES, sizeof(goproc_cell) + (size_t)size, anonymous, &self->home);
    if (!self->cell)
        return NULL;
    self->size = size;
    Py_RETURN_NONE;
}

static PyObject *bytes_place(PyObject *object, PyObject *Py_UNUSED(unused)) {
    shared_bytes *self = (shared_bytes *)object;
    PyObject *place = self->cell ? goproc_cell_place(&self->home, self->cell)
                                 : PyErr_Format(PyExc_RuntimeError, "the bytes have not been initialised");
    return place ? Py_BuildValue("Nn", place, self->size) : NULL;
}

static PyObject *bytes_settle(PyObject *object, PyObject *args) {
    shared_bytes *self = (shared_bytes *)object;
    PyObject *place;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "O!n:_settle", &PyTuple_Type, &place, &size))
        return NULL;
    if (self->cell || size < 0)
        return PyErr_Format(PyExc_ValueError, "cannot use %zd bytes", size);
    self->cell = goproc_cell_at(place, GOPROC_CELL_BYTES, sizeof(goproc_cell) + (size_t)size, &self->home);
    if (!self->cell)
        return NULL;
    self->size = size;
    Py_RETURN_NONE;
}

static int bytes_buffer(PyObject *object, Py_buffer *view, int flags) {
    shared_bytes *self = (shared_bytes *)object;
    return PyBuffer_FillInfo(view, object, self->cell ? (void *)(self->cell + 1) : NULL, self->size, 0, flags);
}

static void bytes_dealloc(PyObject *object) {
    shared_bytes *self = (shared_bytes *)object;
    if (self->cell)
        goproc_cell_drop(&self->home, self->cell);
    Py_TYPE(self)->tp_free(object);
}

static PyMethodDef bytes_methods[] = {
    {"_make", bytes_make, METH_VARARGS, PyDoc_STR("_make(size, anonymous)\n--\n\nMake size bytes, all 0.")},
    {"_place", bytes_place, METH_NOARGS, PyDoc_STR("_place()\n--\n\nWhat another process needs for _settle().")},
    {"_settle", bytes_settle, METH_VARARGS, PyDoc_STR("_settle(place, size)\n--\n\nUse another process's bytes.")},
    {NULL, NULL, 0, NULL},
};

static PyBufferProcs bytes_as_buffer = {.bf_getbuffer = bytes_buffer};

static PyTypeObject bytes_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc._native.SharedBytes",
    .tp_doc = PyDoc_STR("A few bytes of shared memory, as a buffer."),
    .tp_basicsize = sizeof(shared_bytes),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = bytes_dealloc,
    .tp_as_buffer = &bytes_as_buffer,
    .tp_methods = bytes_methods,
};

int goproc_init_flag(PyObject *module) {
    if (PyModule_AddType(module, &bytes_type) < 0)
        return -1;
    return PyModule_AddType(module, &flag_type);
}
