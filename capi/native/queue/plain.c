/* plain.c - plain objects in a form of their own, which is written and read in a tenth of the time that pickling takes.
 *
 * Plain objects are None, booleans, integers of up to 64 bits, floats, short strings and bytes, and tuples of plain
 * objects. A list or dict of these is plain, too, but only as the whole item: inside another object, the same list
 * could be there twice, and pickle would preserve this. Objects of derived classes are not plain.
 *
 * An object is written as one byte for its kind, and the contents, in a form that depends on the kind. Numbers have
 * this machine's byte order.
 */
#include "ring.h"

enum { MOST_LENGTH = 400, DEEPEST = 4 };

typedef struct {
    uint8_t *at, *end;
} writer;

typedef struct {
    const uint8_t *at, *end;
} reader;

/* ---- writing ----------------------------------------------------------------------------------------------------- */

static int add(writer *to, const void *bytes, size_t size) {
    if ((size_t)(to->end - to->at) < size)
        return 0;
    memcpy(to->at, bytes, size);
    to->at += size;
    return 1;
}

static int add_kind(writer *to, char kind) {
    return add(to, &kind, 1);
}

static int add_head(writer *to, char kind, const void *bytes, size_t size) {
    return add_kind(to, kind) && add(to, bytes, size);
}

static int add_length(writer *to, char kind, Py_ssize_t length) {
    uint16_t number = (uint16_t)length;
    return length <= MOST_LENGTH && add_head(to, kind, &number, sizeof number);
}

static int add_object(writer *to, PyObject *object, int depth);

static int add_int(writer *to, PyObject *object) {
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(object, &overflow);
    return !overflow && add_head(to, 'i', &number, sizeof number);
}

/* Does not use the UTF-8 form: the string would keep it, and so need more memory than before. */
static int add_text(writer *to, PyObject *object) {
#if PY_VERSION_HEX < 0x030C0000
    if (!PyUnicode_IS_READY(object)) /* made by a call that Python 3.12 no longer has */
        return 0;
#endif
    Py_ssize_t length = PyUnicode_GET_LENGTH(object);
    int width = (int)PyUnicode_KIND(object);
    return length <= MOST_LENGTH && add_length(to, (char)('0' + width), length) &&
           add(to, PyUnicode_DATA(object), (size_t)length * (size_t)width);
}

static int add_tuple(writer *to, PyObject *object, int depth) {
    Py_ssize_t length = PyTuple_GET_SIZE(object);
    if (depth == DEEPEST || !add_length(to, '(', length))
        return 0;
    for (Py_ssize_t i = 0; i < length; i++)
        if (!add_object(to, PyTuple_GET_ITEM(object, i), depth + 1))
            return 0;
    return 1;
}

static int add_object(writer *to, PyObject *object, int depth) {
    if (PyLong_CheckExact(object))
        return add_int(to, object);
    if (PyUnicode_CheckExact(object))
        return add_text(to, object);
    if (PyTuple_CheckExact(object))
        return add_tuple(to, object, depth);
    if (PyFloat_CheckExact(object)) {
        double number = PyFloat_AS_DOUBLE(object);
        return add_head(to, 'f', &number, sizeof number);
    }
    if (PyBytes_CheckExact(object))
        return add_length(to, 'b', PyBytes_GET_SIZE(object)) &&
               add(to, PyBytes_AS_STRING(object), (size_t)PyBytes_GET_SIZE(object));
    if (object == Py_None || object == Py_True || object == Py_False)
        return add_kind(to, object == Py_None ? 'N' : object == Py_True ? 'T' : 'F');
    return 0;
}

static int add_list(writer *to, PyObject *object) {
    Py_ssize_t length = PyList_GET_SIZE(object);
    if (!add_length(to, '[', length))
        return 0;
    for (Py_ssize_t i = 0; i < length; i++)
        if (!add_object(to, PyList_GET_ITEM(object, i), 1))
            return 0;
    return 1;
}

static int add_dict(writer *to, PyObject *object) {
    PyObject *key, *value;
    Py_ssize_t at = 0;
    if (!add_length(to, '{', PyDict_GET_SIZE(object)))
        return 0;
    while (PyDict_Next(object, &at, &key, &value))
        if (!add_object(to, key, 1) || !add_object(to, value, 1))
            return 0;
    return 1;
}

size_t goproc_plain_write(PyObject *object, uint8_t *to, size_t room) {
    writer writes = {to, to + room};
    int is_plain = PyList_CheckExact(object)   ? add_list(&writes, object)
                   : PyDict_CheckExact(object) ? add_dict(&writes, object)
                                               : add_object(&writes, object, 0);
    return is_plain ? (size_t)(writes.at - to) : 0;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static PyObject *overwritten(void) {
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_OSError, "goproc: the memory of the queue has been overwritten");
    return NULL;
}

static const void *next(reader *from, size_t size) {
    if ((size_t)(from->end - from->at) < size)
        return NULL;
    const void *bytes = from->at;
    from->at += size;
    return bytes;
}

static PyObject *read_object(reader *from, int depth);

static PyObject *read_text(reader *from, int width, Py_ssize_t length) {
    const void *bytes = next(from, (size_t)length * (size_t)width);
    return bytes ? PyUnicode_FromKindAndData(width, bytes, length) : overwritten();
}

static PyObject *read_items(reader *from, PyObject *made, Py_ssize_t length, int depth) {
    for (Py_ssize_t i = 0; made && i < length; i++) {
        PyObject *item = read_object(from, depth);
        if (!item)
            Py_CLEAR(made);
        else if (PyTuple_CheckExact(made))
            PyTuple_SET_ITEM(made, i, item);
        else
            PyList_SET_ITEM(made, i, item);
    }
    return made;
}

static PyObject *read_dict(reader *from, Py_ssize_t length) {
    PyObject *made = PyDict_New();
    for (Py_ssize_t i = 0; made && i < length; i++) {
        PyObject *key = read_object(from, 1), *value = key ? read_object(from, 1) : NULL;
        if (!value || PyDict_SetItem(made, key, value) < 0)
            Py_CLEAR(made);
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return made;
}

static PyObject *read_with_length(reader *from, int kind, int depth) {
    uint16_t length;
    const void *bytes = next(from, sizeof length);
    if (!bytes)
        return overwritten();
    memcpy(&length, bytes, sizeof length);
    switch (kind) {
    case '1':
    case '2':
    case '4':
        return read_text(from, kind - '0', length);
    case 'b':
        bytes = next(from, length);
        return bytes ? PyBytes_FromStringAndSize(bytes, length) : overwritten();
    case '(':
        return depth <= DEEPEST && length <= from->end - from->at
                   ? read_items(from, PyTuple_New(length), length, depth + 1)
                   : overwritten();
    case '[':
        return depth == 0 && length <= from->end - from->at ? read_items(from, PyList_New(length), length, 1)
                                                            : overwritten();
    case '{':
        return depth == 0 ? read_dict(from, length) : overwritten();
    default:
        return overwritten();
    }
}

static PyObject *read_object(reader *from, int depth) {
    const uint8_t *kind = next(from, 1);
    const void *bytes;
    long long whole;
    double real;
    switch (kind ? *kind : 0) {
    case 'i':
        if (!(bytes = next(from, sizeof whole)))
            return overwritten();
        memcpy(&whole, bytes, sizeof whole);
        return PyLong_FromLongLong(whole);
    case 'f':
        if (!(bytes = next(from, sizeof real)))
            return overwritten();
        memcpy(&real, bytes, sizeof real);
        return PyFloat_FromDouble(real);
    case 'N':
        return Py_NewRef(Py_None);
    case 'T':
        return Py_NewRef(Py_True);
    case 'F':
        return Py_NewRef(Py_False);
    default:
        return read_with_length(from, kind ? *kind : 0, depth);
    }
}

PyObject *goproc_plain_read(const uint8_t *from, size_t size) {
    reader reads = {from, from + size};
    return read_object(&reads, 0);
}
