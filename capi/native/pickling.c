/* pickling.c - whether the program has put a pickler in the place of multiprocessing's: see pickling.h.
 *
 * python/goproc/_common/own_pickler.py finds the pickler, and says in which places it has looked. As long as these have
 * the same contents, the answer is the same. Looking takes a few ns a place, so it can be done for each object.
 */
#include "pickling.h"

typedef struct {
    PyObject_HEAD;
    PyObject *find;   /* () -> (the pickler or None, the places or None) */
    PyObject *loads;  /* pickle.loads */
    PyObject *places; /* a tuple of tuples (dict, key, value); NULL if the program's own pickler was found last */
} watch;

static PyObject *dumps_name, *loads_name;

/* Whether all places have the contents that they had when multiprocessing's pickler was found last. Returns -1 with an
 * exception set. No code of the program runs in here: the keys are str objects. */
static int is_as_before(PyObject *places) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(places); i++) {
        PyObject *place = PyTuple_GET_ITEM(places, i);
        PyObject *found = PyDict_GetItemWithError(PyTuple_GET_ITEM(place, 0), PyTuple_GET_ITEM(place, 1));
        if (!found) {
            if (PyErr_Occurred())
                return -1;
            found = Py_None;
        }
        if (found != PyTuple_GET_ITEM(place, 2))
            return 0;
    }
    return 1;
}

static int are_places(PyObject *places) {
    if (!PyTuple_CheckExact(places))
        return 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(places); i++) {
        PyObject *place = PyTuple_GET_ITEM(places, i);
        if (!PyTuple_CheckExact(place) || PyTuple_GET_SIZE(place) != 3 || !PyDict_Check(PyTuple_GET_ITEM(place, 0)) ||
            !PyUnicode_CheckExact(PyTuple_GET_ITEM(place, 1)))
            return 0;
    }
    return 1;
}

PyObject *goproc_own_pickler(PyObject *object) {
    watch *self = (watch *)object;
    if (self->places) {
        int is_same = is_as_before(self->places);
        if (is_same)
            return is_same < 0 ? NULL : Py_NewRef(Py_None);
    }
    PyObject *pair = PyObject_CallNoArgs(self->find);
    if (!pair)
        return NULL;
    int is_pair = PyTuple_CheckExact(pair) && PyTuple_GET_SIZE(pair) == 2;
    PyObject *places = is_pair ? PyTuple_GET_ITEM(pair, 1) : NULL;
    if (!is_pair || (places != Py_None && !are_places(places))) {
        Py_DECREF(pair);
        return PyErr_Format(PyExc_TypeError, "find() has not returned a pickler and its places");
    }
    PyObject *own = Py_NewRef(PyTuple_GET_ITEM(pair, 0));
    Py_XSETREF(self->places, places == Py_None ? NULL : Py_NewRef(places));
    Py_DECREF(pair);
    return own;
}

PyObject *goproc_own_dumps(PyObject *object, PyObject *sent) {
    PyObject *own = goproc_own_pickler(object);
    if (!own || own == Py_None)
        return own;
    PyObject *pickled = PyObject_CallMethodOneArg(own, dumps_name, sent), *list = NULL;
    PyObject *view = pickled ? PyMemoryView_FromObject(pickled) : NULL; /* bytes(5) would be five zeros */
    PyObject *bytes = view ? PyBytes_FromObject(view) : NULL;
    if (bytes && (list = PyList_New(1)))
        PyList_SET_ITEM(list, 0, Py_NewRef(bytes));
    Py_XDECREF(bytes);
    Py_XDECREF(view);
    Py_XDECREF(pickled);
    Py_DECREF(own);
    return list;
}

PyObject *goproc_loads(PyObject *object, PyObject *pickled) {
    PyObject *own = goproc_own_pickler(object);
    if (!own)
        return NULL;
    PyObject *loaded = own == Py_None ? PyObject_CallOneArg(((watch *)object)->loads, pickled)
                                      : PyObject_CallMethodOneArg(own, loads_name, pickled);
    Py_DECREF(own);
    return loaded;
}

PyObject *goproc_loads_parts(PyObject *object, PyObject *stream, PyObject *buffers) {
    PyObject *names = Py_BuildValue("(s)", "buffers"), *args[] = {stream, buffers};
    PyObject *loaded = names ? PyObject_Vectorcall(((watch *)object)->loads, args, 1, names) : NULL;
    Py_XDECREF(names);
    return loaded;
}

/* ---- the type ---------------------------------------------------------------------------------------------------- */

static PyObject *watch_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"find", "loads", NULL};
    PyObject *find, *loads;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OO:PicklerWatch", names, &find, &loads))
        return NULL;
    watch *self = (watch *)type->tp_alloc(type, 0);
    if (self) {
        self->find = Py_NewRef(find);
        self->loads = Py_NewRef(loads);
    }
    return (PyObject *)self;
}

static PyObject *watch_own(PyObject *self, PyObject *Py_UNUSED(unused)) {
    return goproc_own_pickler(self);
}

static int watch_traverse(PyObject *object, visitproc visit, void *arg) {
    watch *self = (watch *)object;
    Py_VISIT(self->find);
    Py_VISIT(self->loads);
    Py_VISIT(self->places);
    return 0;
}

static int watch_clear(PyObject *object) {
    Py_CLEAR(((watch *)object)->places);
    return 0;
}

static void watch_dealloc(PyObject *object) {
    watch *self = (watch *)object;
    PyObject_GC_UnTrack(object);
    Py_XDECREF(self->find);
    Py_XDECREF(self->loads);
    Py_XDECREF(self->places);
    Py_TYPE(self)->tp_free(object);
}

static PyMethodDef watch_methods[] = {
    {"own", watch_own, METH_NOARGS,
     PyDoc_STR("own($self, /)\n--\n\nReturn the program's own pickler, None if there is none.")},
    {"loads", goproc_loads, METH_O,
     PyDoc_STR("loads($self, pickled)\n--\n\nUnpickle an object, by the program's own pickler.")},
    {NULL, NULL, 0, NULL},
};

PyTypeObject goproc_pickler_watch = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc._native.PicklerWatch",
    .tp_doc = PyDoc_STR("PicklerWatch(find, loads)\n--\n\nSays which pickler the program uses. find: returns the "
                        "program's own pickler and None, or None and the\nplaces where it has looked, tuples "
                        "(dict, key, value), None for a key that is missing. loads: pickle.loads."),
    .tp_basicsize = sizeof(watch),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = watch_new,
    .tp_traverse = watch_traverse,
    .tp_clear = watch_clear,
    .tp_dealloc = watch_dealloc,
    .tp_methods = watch_methods,
};

int goproc_init_pickling(PyObject *module) {
    dumps_name = PyUnicode_InternFromString("dumps");
    loads_name = PyUnicode_InternFromString("loads");
    return dumps_name && loads_name ? PyModule_AddType(module, &goproc_pickler_watch) : -1;
}
