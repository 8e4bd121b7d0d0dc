/* Payloads and the memory of what is unpickled from them; see payload.h. */
#include "payload.h"

#include "transport.h"

#include <errno.h>
#include <string.h>

enum { ALIGNMENT = 64, MAX_PARTS = 1 << 20, LARGE_COPY = 64 << 10 };

volatile unsigned goproc_fork_depth;

/* The arenas into which objects may look when the process forks. */
static struct {
    goproc_arena **items;
    size_t count, capacity;
} enlisted;

void goproc_arena_enlist(goproc_arena *arena) {
    if (enlisted.count == enlisted.capacity) {
        size_t capacity = enlisted.capacity ? 2 * enlisted.capacity : 16;
        goproc_arena **grown = PyMem_RawRealloc(enlisted.items, capacity * sizeof *grown);
        if (grown == NULL)
            Py_FatalError("goproc: out of memory");
        enlisted.items = grown;
        enlisted.capacity = capacity;
    }
    enlisted.items[enlisted.count++] = arena;
}

void goproc_arena_delist(goproc_arena *arena) {
    for (size_t i = 0; i < enlisted.count; i++) {
        if (enlisted.items[i] == arena) {
            enlisted.items[i] = enlisted.items[--enlisted.count];
            return;
        }
    }
}

/* An object that owns one use of an extent and exports its payload as a buffer. */
typedef struct {
    PyObject_HEAD
    goproc_mapping *mapping;
    uint64_t serial;
    Py_ssize_t length;
} Extent;

static int extent_getbuffer(PyObject *self, Py_buffer *view, int flags) {
    Extent *extent = (Extent *)self;
    return PyBuffer_FillInfo(view, self, goproc_extent_payload(extent->mapping->header), extent->length, 0, flags);
}

static void extent_dealloc(PyObject *self) {
    Extent *extent = (Extent *)self;
    goproc_mapping_release(extent->mapping, extent->serial);
    Py_TYPE(self)->tp_free(self);
}

static PyBufferProcs extent_buffer = {.bf_getbuffer = extent_getbuffer};

static PyTypeObject ExtentType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc._transport.Extent",
    .tp_doc = PyDoc_STR("Memory shared with the process that filled it, private to this one from then on."),
    .tp_basicsize = sizeof(Extent),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = extent_dealloc,
    .tp_as_buffer = &extent_buffer,
};

static uint64_t aligned(uint64_t size) {
    return (size + ALIGNMENT - 1) & ~(uint64_t)(ALIGNMENT - 1);
}

/* Copies the parts into an extent. */
static int pack_extent(goproc_payload *payload, goproc_arena *arena, Py_buffer *parts, Py_ssize_t count) {
    uint64_t table = aligned(sizeof(uint64_t) * (uint64_t)(count + 1));
    uint64_t total = table;
    for (Py_ssize_t i = 0; i < count; i++)
        total += aligned((uint64_t)parts[i].len);
    uint8_t *to = goproc_arena_allocate(arena, total, &payload->extent);
    if (to == NULL) {
        if (errno == ENOMEM)
            PyErr_Format(PyExc_MemoryError, "no shared memory for a payload of %llu bytes", (unsigned long long)total);
        else
            PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    uint64_t *sizes = (uint64_t *)to;
    *sizes++ = (uint64_t)count;
    for (Py_ssize_t i = 0; i < count; i++)
        sizes[i] = (uint64_t)parts[i].len;
    PyThreadState *released = total >= LARGE_COPY ? PyEval_SaveThread() : NULL;
    uint64_t at = table;
    for (Py_ssize_t i = 0; i < count; i++) {
        memcpy(to + at, parts[i].buf, (size_t)parts[i].len);
        at += aligned((uint64_t)parts[i].len);
    }
    if (released != NULL)
        PyEval_RestoreThread(released);
    payload->bytes = &payload->extent;
    payload->size = sizeof payload->extent;
    payload->flags = GOPROC_FLAG_EXTENT;
    return 0;
}

int goproc_payload_pack(goproc_payload *payload, goproc_arena *arena, PyObject *stream, PyObject *buffers) {
    memset(payload, 0, sizeof *payload);
    if (PyObject_GetBuffer(stream, &payload->stream, PyBUF_SIMPLE) < 0)
        return -1;
    Py_ssize_t extra = buffers == NULL || buffers == Py_None ? 0 : PySequence_Size(buffers);
    if (extra < 0 || extra >= MAX_PARTS) {
        if (extra >= 0)
            PyErr_Format(PyExc_ValueError, "a payload has %zd buffers, more than %d", extra, MAX_PARTS - 1);
        goproc_payload_done(payload);
        return -1;
    }
    if (extra == 0 && payload->stream.len <= GOPROC_MAX_INLINE) {
        payload->bytes = payload->stream.buf;
        payload->size = (uint64_t)payload->stream.len;
        return 0;
    }
    int result = -1;
    Py_ssize_t got = 1;
    Py_buffer *parts = PyMem_Calloc((size_t)extra + 1, sizeof *parts);
    if (parts == NULL) {
        PyErr_NoMemory();
        goproc_payload_done(payload);
        return -1;
    }
    parts[0] = payload->stream;
    for (; got <= extra; got++) {
        PyObject *item = PySequence_GetItem(buffers, got - 1);
        int failed = item == NULL || PyObject_GetBuffer(item, &parts[got], PyBUF_ANY_CONTIGUOUS) < 0;
        Py_XDECREF(item);
        if (failed)
            break;
    }
    if (got > extra)
        result = pack_extent(payload, arena, parts, extra + 1);
    while (--got >= 1)
        PyBuffer_Release(&parts[got]);
    PyMem_Free(parts);
    if (result < 0)
        goproc_payload_done(payload);
    return result;
}

void goproc_payload_done(goproc_payload *payload) {
    PyBuffer_Release(&payload->stream);
}

/* memoryview(owner)[at:at + size] */
static PyObject *part(PyObject *whole, uint64_t at, uint64_t size) {
    return PySequence_GetSlice(whole, (Py_ssize_t)at, (Py_ssize_t)(at + size));
}

static PyObject *broken(void) {
    PyErr_SetString(PyExc_OSError, "goproc: the other process delivered an impossible payload");
    return NULL;
}

static PyObject *unpack_extent(goproc_arena *arena, const goproc_extent *description, uint32_t flags) {
    goproc_mapping *mapping =
        flags & GOPROC_FLAG_KEEP ? goproc_arena_copy(arena, description) : goproc_arena_map(arena, description);
    if (mapping == NULL)
        return errno == EPROTO ? broken() : PyErr_SetFromErrno(PyExc_OSError);
    Extent *extent = PyObject_New(Extent, &ExtentType);
    if (extent == NULL)
        return NULL;
    mapping->viewed = true;
    extent->mapping = mapping;
    extent->serial = description->serial;
    extent->length = (Py_ssize_t)description->length;
    PyObject *whole = PyMemoryView_FromObject((PyObject *)extent);
    Py_DECREF(extent);
    if (whole == NULL)
        return NULL;

    PyObject *result = NULL, *stream = NULL, *buffers = NULL;
    const uint64_t *sizes = goproc_extent_payload(mapping->header);
    uint64_t count = description->length >= sizeof *sizes ? sizes[0] : 0;
    uint64_t at = aligned(sizeof *sizes * (count + 1));
    if (count < 1 || count > MAX_PARTS || at > description->length) {
        broken();
        goto done;
    }
    buffers = PyTuple_New((Py_ssize_t)count - 1);
    if (buffers == NULL)
        goto done;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t size = sizes[i + 1];
        if (size > description->length - at || aligned(size) > description->length - at) {
            broken();
            goto done;
        }
        PyObject *view = part(whole, at, size);
        if (view == NULL)
            goto done;
        if (i == 0)
            stream = view;
        else
            PyTuple_SET_ITEM(buffers, (Py_ssize_t)i - 1, view);
        at += aligned(size);
    }
    result = PyTuple_Pack(2, stream, buffers);
done:
    Py_XDECREF(stream);
    Py_XDECREF(buffers);
    Py_DECREF(whole);
    return result;
}

PyObject *goproc_payload_unpack(goproc_arena *arena, const void *bytes, uint64_t size, uint32_t flags) {
    if (!(flags & GOPROC_FLAG_EXTENT))
        return PyBytes_FromStringAndSize(bytes, (Py_ssize_t)size);
    goproc_extent description;
    if (size != sizeof description)
        return broken();
    memcpy(&description, bytes, sizeof description);
    return unpack_extent(arena, &description, flags);
}

/* before_fork(): called by os.register_at_fork, so with the GIL held. */
static PyObject *before_fork(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    for (size_t i = 0; i < enlisted.count; i++)
        goproc_arena_before_fork(enlisted.items[i]);
    Py_RETURN_NONE;
}

static void forked(void) {
    goproc_fork_depth++;
}

static PyMethodDef fork_methods[] = {
    {"_before_fork", before_fork, METH_NOARGS,
     PyDoc_STR("Make what this process shares private to both sides of a fork.")},
    {NULL, NULL, 0, NULL},
};

int goproc_init_payload(PyObject *module) {
    if (PyType_Ready(&ExtentType) < 0 || PyModule_AddFunctions(module, fork_methods) < 0)
        return -1;
    if (goproc_on_fork_child(forked) < 0) {
        PyErr_SetString(PyExc_RuntimeError, "goproc: too many hooks for forked children");
        return -1;
    }
    PyObject *os = PyImport_ImportModule("os");
    PyObject *hook = os ? PyObject_GetAttrString(os, "register_at_fork") : NULL;
    PyObject *before = PyObject_GetAttrString(module, "_before_fork");
    PyObject *arguments = PyTuple_New(0);
    PyObject *keywords = before ? Py_BuildValue("{sO}", "before", before) : NULL;
    PyObject *done = hook && arguments && keywords ? PyObject_Call(hook, arguments, keywords) : NULL;
    Py_XDECREF(os);
    Py_XDECREF(hook);
    Py_XDECREF(before);
    Py_XDECREF(arguments);
    Py_XDECREF(keywords);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}
