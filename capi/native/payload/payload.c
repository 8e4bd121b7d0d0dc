/* Payloads and the memory of what is unpickled from them; see payload.h. */
#define _GNU_SOURCE
#include "payload.h"

#include "placed.h"
#include "../native.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGNMENT = 64, MAX_PARTS = 1 << 20, LARGE_COPY = 64 << 10, HUGE_PAGE = 2 << 20 };

#define OF_BYTES (UINT64_C(1) << 63) /* in a part's size: it is the contents of a bytes object */

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
    Py_ssize_t length;
} Extent;

static int extent_getbuffer(PyObject *self, Py_buffer *view, int flags) {
    Extent *extent = (Extent *)self;
    return PyBuffer_FillInfo(view, self, goproc_extent_payload(extent->mapping->header), extent->length, 0, flags);
}

static void extent_dealloc(PyObject *self) {
    Extent *extent = (Extent *)self;
    goproc_mapping_release(extent->mapping);
    Py_TYPE(self)->tp_free(self);
}

static PyBufferProcs extent_buffer = {.bf_getbuffer = extent_getbuffer};

static PyTypeObject ExtentType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc._native.Extent",
    .tp_doc = PyDoc_STR("Memory shared with the process that filled it, private to this one from then on."),
    .tp_basicsize = sizeof(Extent),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = extent_dealloc,
    .tp_as_buffer = &extent_buffer,
};

/* An object that exports the memory of a buffer as if it were writable. If pickling sees that a buffer is read-only,
 * the unpickled object is read-only, too. Nobody writes to the memory through this object. */
typedef struct {
    PyObject_HEAD
    Py_buffer source;
} Writable;

static PyObject *writable_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"buffer", NULL};
    PyObject *buffer;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Writable", names, &buffer))
        return NULL;
    Writable *self = (Writable *)type->tp_alloc(type, 0);
    if (self != NULL && PyObject_GetBuffer(buffer, &self->source, PyBUF_ANY_CONTIGUOUS) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int writable_getbuffer(PyObject *self, Py_buffer *view, int flags) {
    Writable *writable = (Writable *)self;
    return PyBuffer_FillInfo(view, self, writable->source.buf, writable->source.len, 0, flags);
}

static void writable_dealloc(PyObject *self) {
    PyBuffer_Release(&((Writable *)self)->source);
    Py_TYPE(self)->tp_free(self);
}

static PyBufferProcs writable_buffer = {.bf_getbuffer = writable_getbuffer};

static PyTypeObject WritableType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc._native.Writable",
    .tp_doc = PyDoc_STR("Writable(buffer)\n--\n\n"
                        "The memory of a contiguous buffer as bytes that look writable, for pickling. It must not be\n"
                        "written to when the buffer is read-only."),
    .tp_basicsize = sizeof(Writable),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = writable_new,
    .tp_dealloc = writable_dealloc,
    .tp_as_buffer = &writable_buffer,
};

static uint64_t aligned(uint64_t size) {
    return (size + ALIGNMENT - 1) & ~(uint64_t)(ALIGNMENT - 1);
}

/* Whether the part with this entry in the table of sizes may become placed bytes. */
static bool is_placeable(uint64_t written) {
    return written & OF_BYTES && (written & ~OF_BYTES) >= GOPROC_PLACED_LEAST;
}

/* Where a part with this entry in the table of sizes begins, when the parts before it end at end. Both are counted
 * from the payload's beginning. */
static uint64_t part_begin(uint64_t end, uint64_t written) {
    if (!is_placeable(written))
        return aligned(end);
    uint64_t least = sizeof(goproc_extent_header) + end + GOPROC_PLACED_ROOM;
    if (least <= GOPROC_PAGE_SIZE) /* the receiver makes the page before it private, which the first page cannot be */
        least = GOPROC_PAGE_SIZE + 1;
    return (least + GOPROC_PAGE_SIZE - 1) / GOPROC_PAGE_SIZE * GOPROC_PAGE_SIZE - sizeof(goproc_extent_header);
}

/* How much room a part takes. The contents of a bytes object are followed by a 0. */
static uint64_t part_room(uint64_t written) {
    return written & OF_BYTES ? (written & ~OF_BYTES) + 1 : written;
}

/* The entry of a buffer in the table of sizes. */
static uint64_t part_written(const Py_buffer *buffer) {
    return (uint64_t)buffer->len | (PyBytes_CheckExact(buffer->obj) ? OF_BYTES : 0);
}

/* What is copied into an extent: the pieces of the stream, then the buffers. */
typedef struct {
    Py_buffer *items;
    Py_ssize_t pieces, count;
} parts;

static void parts_release(parts *parts) {
    while (parts->count > 0)
        PyBuffer_Release(&parts->items[--parts->count]);
    PyMem_Free(parts->items);
}

/* Appends the buffers of all items of a sequence. */
static int parts_extend(parts *parts, PyObject *sequence, Py_ssize_t length, int flags) {
    for (Py_ssize_t i = 0; i < length; i++) {
        PyObject *item = PySequence_GetItem(sequence, i);
        int failed = item == NULL || PyObject_GetBuffer(item, &parts->items[parts->count], flags) < 0;
        Py_XDECREF(item);
        if (failed)
            return -1;
        parts->count++;
    }
    return 0;
}

/* Copies the parts into an extent. */
static int pack_extent(goproc_payload *payload, goproc_arena *arena, const parts *parts) {
    Py_ssize_t count = 1 + parts->count - parts->pieces;
    uint64_t table = aligned(sizeof(uint64_t) * (uint64_t)(count + 1));
    uint64_t stream = 0;
    for (Py_ssize_t i = 0; i < parts->pieces; i++)
        stream += (uint64_t)parts->items[i].len;
    uint64_t total = table + stream;
    for (Py_ssize_t i = parts->pieces; i < parts->count; i++) {
        uint64_t written = part_written(&parts->items[i]);
        total = part_begin(total, written) + part_room(written);
    }
    goproc_mapping *mapping = goproc_arena_allocate(arena, total, &payload->extent);
    if (mapping == NULL) {
        if (errno == ENOMEM)
            PyErr_Format(PyExc_MemoryError, "no shared memory for a payload of %llu bytes", (unsigned long long)total);
        else
            PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    PyThreadState *released = total >= LARGE_COPY ? PyEval_SaveThread() : NULL;
    uint64_t *sizes = goproc_extent_payload(mapping->header);
    *sizes++ = (uint64_t)count;
    *sizes++ = stream;
    uint64_t end = table;
    for (Py_ssize_t i = 0; i < parts->count; i++) {
        const Py_buffer *part = &parts->items[i];
        uint64_t at = end, written = (uint64_t)part->len;
        if (i >= parts->pieces) {
            *sizes++ = written = part_written(part);
            at = part_begin(end, written);
        }
        goproc_mapping_fill(mapping, at, part->buf, (size_t)part->len);
        end = at + part_room(written);
    }
    goproc_mapping_filled(mapping, total);
    if (released != NULL)
        PyEval_RestoreThread(released);
    goproc_mapping_ready(mapping);
    payload->bytes = &payload->extent;
    payload->size = sizeof payload->extent;
    payload->flags = GOPROC_FLAG_EXTENT;
    return 0;
}

int goproc_payload_pack(goproc_payload *payload, goproc_arena *arena, PyObject *stream, PyObject *buffers) {
    memset(payload, 0, sizeof *payload);
    int whole = !PyList_CheckExact(stream);
    Py_ssize_t pieces = whole ? 1 : PyList_GET_SIZE(stream);
    Py_ssize_t extra = buffers == NULL || buffers == Py_None ? 0 : PySequence_Size(buffers);
    if (extra < 0)
        return -1;
    if (pieces >= MAX_PARTS || extra >= MAX_PARTS) {
        PyErr_Format(PyExc_ValueError, "a payload has %zd buffers, more than %d", Py_MAX(pieces, extra), MAX_PARTS - 1);
        return -1;
    }
    if (whole && extra == 0) {
        if (PyObject_GetBuffer(stream, &payload->stream, PyBUF_SIMPLE) < 0)
            return -1;
        if (payload->stream.len <= GOPROC_MAX_INLINE) {
            payload->bytes = payload->stream.buf;
            payload->size = (uint64_t)payload->stream.len;
            return 0;
        }
        PyBuffer_Release(&payload->stream);
    }
    parts parts = {.items = PyMem_Calloc((size_t)(pieces + extra), sizeof *parts.items), .pieces = pieces};
    if (parts.items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int result;
    if (whole)
        result = PyObject_GetBuffer(stream, &parts.items[0], PyBUF_SIMPLE) < 0 ? -1 : (parts.count = 1, 0);
    else
        result = parts_extend(&parts, stream, pieces, PyBUF_SIMPLE);
    if (result == 0 && extra > 0)
        result = parts_extend(&parts, buffers, extra, PyBUF_ANY_CONTIGUOUS);
    if (result == 0)
        result = pack_extent(payload, arena, &parts);
    parts_release(&parts);
    return result;
}

void goproc_payload_done(goproc_payload *payload) {
    PyBuffer_Release(&payload->stream);
}

/* memoryview(owner)[at:at + size] */
static PyObject *part(PyObject *whole, uint64_t at, uint64_t size) {
    return PySequence_GetSlice(whole, (Py_ssize_t)at, (Py_ssize_t)(at + size));
}

/* A bytes object with a copy of the contents. For a large one, the memory is fresh, and is touched here for the
 * first time: with huge pages that takes a fraction of the time. */
static PyObject *bytes_copied(const uint8_t *from, uint64_t size) {
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (bytes == NULL)
        return NULL;
    char *to = PyBytes_AS_STRING(bytes);
    if (size < LARGE_COPY) {
        memcpy(to, from, (size_t)size);
        return bytes;
    }
    Py_BEGIN_ALLOW_THREADS;
    uintptr_t begin = ((uintptr_t)to + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1);
    uintptr_t end = ((uintptr_t)to + (uintptr_t)size) & ~(uintptr_t)(HUGE_PAGE - 1);
    if (begin < end)
        (void)madvise((void *)begin, end - begin, MADV_HUGEPAGE); /* without huge pages, it is only slower */
    memcpy(to, from, (size_t)size);
    Py_END_ALLOW_THREADS;
    return bytes;
}

/* A bytes object with contents that lie in the extent: placed bytes, or a copy. */
static PyObject *bytes_of(const goproc_arena *arena, const Extent *extent, uint64_t at, uint64_t written) {
    uint64_t size = written & ~OF_BYTES;
    uint8_t *contents = (uint8_t *)goproc_extent_payload(extent->mapping->header) + at;
    uint64_t room = arena->most_placed - goproc_placed_total();
    if (goproc_placed_total() > arena->most_placed)
        room = 0;
    if (!atomic_load(&extent->mapping->header->keep))
        room = UINT64_MAX; /* its memory is not used again in any case */
    /* An object keeps the whole extent. So the parent does not place one that is less than half of its payload. */
    if (is_placeable(written) && (arena->most_placed == UINT64_MAX || size >= (uint64_t)extent->length / 2) &&
        size <= room) {
        PyObject *bytes = goproc_bytes_placed(extent->mapping, contents, size);
        if (bytes != NULL)
            return bytes;
    }
    return bytes_copied(contents, size);
}

static PyObject *broken(void) {
    PyErr_SetString(PyExc_OSError, "goproc: the other process delivered an impossible payload");
    return NULL;
}

static PyObject *unpack_extent(goproc_arena *arena, const goproc_extent *description, uint32_t flags) {
    goproc_mapping *mapping =
        flags & GOPROC_FLAG_KEEP ? goproc_arena_copy(arena, description) : goproc_arena_map(arena, description);
    if (mapping == NULL)
        return errno == EPROTO ? broken() : errno == ENOMEM ? PyErr_NoMemory() : PyErr_SetFromErrno(PyExc_OSError);
    Extent *extent = PyObject_New(Extent, &ExtentType);
    if (extent == NULL) {
        goproc_mapping_release(mapping);
        return NULL;
    }
    extent->mapping = mapping;
    extent->length = (Py_ssize_t)description->length;
    PyObject *whole = PyMemoryView_FromObject((PyObject *)extent);
    Py_DECREF(extent);
    if (whole == NULL)
        return NULL;

    PyObject *result = NULL, *stream = NULL, *buffers = NULL;
    const uint64_t *sizes = goproc_extent_payload(mapping->header);
    uint64_t count = description->length >= sizeof *sizes ? sizes[0] : 0;
    uint64_t end = aligned(sizeof *sizes * (count + 1));
    if (count < 1 || count > MAX_PARTS || end > description->length) {
        broken();
        goto done;
    }
    buffers = PyTuple_New((Py_ssize_t)count - 1);
    if (buffers == NULL)
        goto done;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t written = *(const volatile uint64_t *)&sizes[i + 1]; /* once: what is checked is what is used */
        uint64_t at = i == 0 ? end : part_begin(end, written);
        if (at > description->length || part_room(written) > description->length - at) {
            broken();
            goto done;
        }
        PyObject *view = written & OF_BYTES ? bytes_of(arena, extent, at, written) : part(whole, at, written);
        if (view == NULL)
            goto done;
        if (i == 0)
            stream = view;
        else
            PyTuple_SET_ITEM(buffers, (Py_ssize_t)i - 1, view);
        end = at + part_room(written);
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
    goproc_arena_survivors_before_fork();
    Py_RETURN_NONE;
}

static void forked(void) {
    goproc_arena_survivors_abandon();
    goproc_fork_depth++;
}

static PyObject *copy_bytes(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    goproc_placed_disable();
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"_before_fork", before_fork, METH_NOARGS,
     PyDoc_STR("Make what this process shares private to both sides of a fork.")},
    {"copy_bytes", copy_bytes, METH_NOARGS,
     PyDoc_STR("Have bytes that arrive copied, in this process from now on. To be called before there is a pool.")},
    {NULL, NULL, 0, NULL},
};

int goproc_init_payload(PyObject *module) {
    if (PyType_Ready(&ExtentType) < 0 || PyModule_AddType(module, &WritableType) < 0 ||
        PyModule_AddFunctions(module, methods) < 0)
        return -1;
    if (goproc_on_fork_child(forked) < 0)
        return -1;
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
