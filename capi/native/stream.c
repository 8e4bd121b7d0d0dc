/* stream.c - messages over a socket, for the connections of managers: python/goproc/_common/manager_connections.py.
 *
 * The bytes are those of multiprocessing.connection: a length, and the message. So the other end may be
 * multiprocessing's own. Two things are faster here. A message is sent by one system call, with the GIL held, unless it
 * is large. A thread that waits for a message spins before it sleeps.
 */
#include "pickling.h"
#include "stream_calls.h"
#include "stream_spin.h"

#include <arpa/inet.h>
#include <endian.h>
#include <sys/uio.h>

enum {
    SMALL = 16 << 10,          /* the GIL is kept while a message of at most this many bytes is sent */
    FIRST = 1 << 20,           /* room that is made for a message before any of it has come */
    KEPT = 4096,               /* a pickler that wrote more has a large memo, which takes long to clear */
    MOST_PIECES = 64,          /* of a message, for one system call */
    LONG_LENGTH = 0x7fffffff,  /* a message that is longer has a length of 8 bytes behind the 4 */
    MOST_SPINNERS = 1,         /* threads of one process that spin at the same time */
    PAUSES_BETWEEN_LOOKS = 16, /* in a spin */
    LONG_LOOK_NS = 5000,       /* a look that took longer was interrupted */
};

/* How many threads of this process spin. More than one would take processors from the threads that have work. */
static _Atomic int spinners;

typedef struct {
    PyObject_HEAD;
    int fd; /* the owner's: it is not closed here. -1: the owner has closed it */
    spinner spinner;
    PyObject *make_pickler; /* () -> (pickler, the list to which it writes) */
    PyObject *idle;         /* such a tuple, for the next object; NULL while a thread uses it */
    PyObject *watch;        /* a PicklerWatch: the program may have its own pickler */
} stream;

static PyObject *dump_name, *clear_memo_name;

/* Raises an error, as multiprocessing's connections do, if the owner has closed the descriptor. Returns 0 or -1. */
static int check(const stream *self) {
    if (self->fd >= 0)
        return 0;
    PyErr_SetString(PyExc_OSError, "handle is closed");
    return -1;
}

/* ---- receiving --------------------------------------------------------------------------------------------------- */

/* Spins until there are bytes, and receives up to size of them. Returns the same as recv(), with EINTR if there were
 * none: then Python's signal handlers run before the thread sleeps.
 *
 * A spin in which this thread lost its processor counts as failed, even if bytes have come meanwhile: the thread may
 * have lost the processor to the process that it waits for. Then sleeping at once is faster for both. */
static ssize_t spin(stream *self, void *buffer, size_t size) {
    ssize_t got = -1;
    int over = 0, lost = 0;
    if (atomic_fetch_add(&spinners, 1) < MOST_SPINNERS) {
        uint64_t now = goproc_now_ns(), end_ns = now + goproc_sync_spin_ns();
        while (!over && !lost) {
            got = take(self->fd, buffer, size, MSG_DONTWAIT);
            over = got >= 0 || errno != EAGAIN;
            for (int i = 0; i < PAUSES_BETWEEN_LOOKS && !over; i++)
                goproc_pause();
            uint64_t before = now;
            now = goproc_now_ns();
            lost = now - before > LONG_LOOK_NS || (!over && now >= end_ns);
        }
        spun(&self->spinner, !lost);
    }
    atomic_fetch_sub(&spinners, 1);
    if (!over)
        errno = EINTR;
    return got;
}

/* Receives up to size bytes, and sleeps until there are any. Returns the same as recv().
 *
 * It sleeps in poll(): a thread that sleeps in recv() on a Unix socket is also woken when the other end has read what
 * this one sent before. Here this happens with each message. */
static ssize_t sleep_for_bytes(const stream *self, void *buffer, size_t size) {
    struct pollfd wanted = {.fd = self->fd, .events = POLLIN};
    ssize_t got = take(self->fd, buffer, size, MSG_DONTWAIT);
    if (got >= 0 || errno != EAGAIN)
        return got;
    return poll(&wanted, 1, -1) < 0 ? -1 : take(self->fd, buffer, size, 0);
}

/* Receives exactly size bytes, unless a signal interrupts. Runs without the GIL. *have counts the bytes. *sleeps:
 * whether to sleep without spinning; set after a spin. Returns 1, 0 at the end of file, or -1 with errno set. */
static int fill(stream *self, char *buffer, size_t size, size_t *have, int *sleeps) {
    while (*have < size) {
        ssize_t got;
        if (!*sleeps && may_spin(&self->spinner)) {
            *sleeps = 1;
            got = spin(self, buffer + *have, size - *have);
        } else {
            got = sleep_for_bytes(self, buffer + *have, size - *have);
        }
        if (got <= 0)
            return (int)got;
        *have += (size_t)got;
    }
    return 1;
}

/* Says what a failure of fill() was. Returns 0 if it is to be called again, after a signal. */
static int failed(int result, size_t have) {
    if (result == 0) {
        if (have == 0)
            PyErr_SetNone(PyExc_EOFError);
        else
            PyErr_SetString(PyExc_OSError, "got end of file during message");
        return -1;
    }
    if (errno == EINTR)
        return PyErr_CheckSignals();
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* Receives a message of size bytes, of which none has come yet. The buffer grows with the bytes that come: a length
 * alone takes no memory. */
static PyObject *receive_large(stream *self, uint64_t size) {
    int sleeps = 1; /* the beginning has come, so the rest is near */
    size_t have = 0, room = size < FIRST ? (size_t)size : FIRST;
    if (size > (uint64_t)PY_SSIZE_T_MAX - 100)
        return PyErr_NoMemory();
    PyObject *message = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)room);
    while (message) {
        int result, error;
        char *buffer = PyBytes_AS_STRING(message);
        Py_BEGIN_ALLOW_THREADS;
        result = fill(self, buffer, room, &have, &sleeps);
        error = errno;
        Py_END_ALLOW_THREADS;
        errno = error;
        if (result <= 0) {
            if (failed(result, have) < 0)
                Py_CLEAR(message);
            continue;
        }
        if (room == size)
            return message;
        room = size - room < room ? (size_t)size : 2 * room;
        (void)_PyBytes_Resize(&message, (Py_ssize_t)room); /* NULL if there is no memory */
    }
    return NULL;
}

/* Receives a message of at most `most` bytes. Returns None for a longer one, without receiving it. */
static PyObject *receive(stream *self, uint64_t most) {
    char small[4096];
    union {
        uint32_t length;
        char bytes[4];
    } head;
    size_t have = 0, have_of_small = 0, size = 0;
    int sleeps = 0;
    if (check(self) < 0)
        return NULL;
    for (;;) {
        int result, error;
        Py_BEGIN_ALLOW_THREADS;
        result = fill(self, head.bytes, sizeof head, &have, &sleeps);
        if (result > 0 && (size = ntohl(head.length)) <= sizeof small && size <= most)
            result = size ? fill(self, small, size, &have_of_small, &sleeps) : 1;
        error = errno;
        Py_END_ALLOW_THREADS;
        if (result > 0)
            break;
        errno = error;
        /* As with multiprocessing, the end of file between a length and its message raises EOFError. */
        if (failed(result, have == sizeof head ? have_of_small : have) < 0)
            return NULL;
    }
    if (size > most && size != UINT32_MAX)
        Py_RETURN_NONE;
    if (size <= sizeof small)
        return PyBytes_FromStringAndSize(small, (Py_ssize_t)size);
    if (size != UINT32_MAX)
        return size > LONG_LENGTH ? PyErr_Format(PyExc_OSError, "bad length of a message: %zu", size)
                                  : receive_large(self, size);
    PyObject *length = receive_large(self, sizeof(uint64_t));
    if (!length)
        return NULL;
    uint64_t long_size;
    memcpy(&long_size, PyBytes_AS_STRING(length), sizeof long_size);
    Py_DECREF(length);
    long_size = be64toh(long_size);
    if (long_size > most)
        Py_RETURN_NONE;
    return receive_large(self, long_size);
}

PyDoc_STRVAR(recv_bytes_doc,
             "recv_bytes(most=-1)\n--\n\nReceive a message. Returns None, without receiving it, if it has more bytes "
             "than\n`most`, which is not negative. Raises EOFError when the other end is closed, or OSError.");

static PyObject *stream_recv_bytes(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    Py_ssize_t most = -1;
    if (count > 1)
        return PyErr_Format(PyExc_TypeError, "recv_bytes() takes at most 1 argument (%zd given)", count);
    if (count && (most = PyLong_AsSsize_t(args[0])) == -1 && PyErr_Occurred())
        return NULL;
    return receive((stream *)object, most < 0 ? UINT64_MAX : (uint64_t)most);
}

PyDoc_STRVAR(recv_doc, "recv()\n--\n\nReceive an object. Raises EOFError when the other end is closed, or OSError.");

static PyObject *stream_recv(PyObject *object, PyObject *Py_UNUSED(unused)) {
    stream *self = (stream *)object;
    PyObject *message = receive(self, UINT64_MAX);
    if (!message)
        return NULL;
    PyObject *result = goproc_loads(self->watch, message);
    Py_DECREF(message);
    return result;
}

/* ---- sending ----------------------------------------------------------------------------------------------------- */

/* Sends all of the pieces. Returns 0, or -1 with an exception set. */
static int send_all(stream *self, struct iovec *pieces, size_t count, size_t size) {
    int wait = size > SMALL;
    while (size) {
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count < MOST_PIECES ? count : MOST_PIECES};
        ssize_t sent;
        int error;
        if (wait) {
            Py_BEGIN_ALLOW_THREADS;
            sent = sendmsg(self->fd, &message, MSG_NOSIGNAL);
            if (sent < 0 && is_refusal(errno))
                sent = writev(self->fd, pieces, (int)message.msg_iovlen);
            error = errno;
            Py_END_ALLOW_THREADS;
        } else {
            sent = sendmsg(self->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
            error = errno;
        }
        if (sent < 0) {
            errno = error;
            if ((error == EAGAIN || is_refusal(error)) && !wait)
                wait = 1; /* the socket's buffer is full, or writev() is needed */
            else if (error != EINTR || PyErr_CheckSignals() < 0) {
                if (!PyErr_Occurred())
                    PyErr_SetFromErrno(PyExc_OSError);
                return -1;
            }
            continue;
        }
        size -= (size_t)sent;
        while (count && (size_t)sent >= pieces->iov_len) {
            sent -= (ssize_t)pieces->iov_len;
            pieces++;
            count--;
        }
        if (count) {
            pieces->iov_base = (char *)pieces->iov_base + sent;
            pieces->iov_len -= (size_t)sent;
        }
    }
    return 0;
}

/* Sends a message that is a list of bytes. Returns its length, or -1 with an exception set. */
static int64_t send_pieces(stream *self, PyObject *list) {
    PyObject *pieces = PyList_AsTuple(list); /* nobody can change it meanwhile */
    if (!pieces)
        return -1;
    Py_ssize_t count = PyTuple_GET_SIZE(pieces), most = 8;
    struct iovec few[8], *vector = few;
    int64_t result = -1;
    uint64_t size = 0, long_length;
    if (count + 2 > most && !(vector = PyMem_Malloc(((size_t)count + 2) * sizeof *vector))) {
        PyErr_NoMemory();
        goto out;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *piece = PyTuple_GET_ITEM(pieces, i);
        if (!PyBytes_Check(piece)) {
            PyErr_Format(PyExc_TypeError, "a piece must be bytes, not %.100s", Py_TYPE(piece)->tp_name);
            goto out;
        }
        size_t length = (size_t)PyBytes_GET_SIZE(piece);
        vector[i + 2] = (struct iovec){PyBytes_AS_STRING(piece), length};
        size += length;
    }
    uint32_t length = htonl(size > LONG_LENGTH ? UINT32_MAX : (uint32_t)size);
    vector[0] = (struct iovec){&length, sizeof length};
    long_length = htobe64(size);
    vector[1] = (struct iovec){&long_length, size > LONG_LENGTH ? sizeof long_length : 0};
    size += sizeof length + vector[1].iov_len;
    if (check(self) == 0 && send_all(self, vector, (size_t)count + 2, (size_t)size) == 0)
        result = (int64_t)size;
out:
    if (vector != few)
        PyMem_Free(vector);
    Py_DECREF(pieces);
    return result;
}

PyDoc_STRVAR(send_bytes_doc,
             "send_bytes(pieces)\n--\n\nSend a message, a list of bytes. Blocks while the other end does not read. "
             "Raises OSError.");

static PyObject *stream_send_bytes(PyObject *object, PyObject *list) {
    if (!PyList_Check(list))
        return PyErr_Format(PyExc_TypeError, "a list is needed, not %.100s", Py_TYPE(list)->tp_name);
    if (send_pieces((stream *)object, list) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(send_doc, "send(obj)\n--\n\nSend an object, pickled. Blocks while the other end does not read. Raises "
                       "OSError.");

static PyObject *stream_send(PyObject *object, PyObject *sent) {
    stream *self = (stream *)object;
    PyObject *own = goproc_own_dumps(self->watch, sent);
    if (own != Py_None) {
        PyObject *done = own ? stream_send_bytes(object, own) : NULL;
        Py_XDECREF(own);
        return done;
    }
    Py_DECREF(own);
    /* Another thread, or the __reduce__ of what is pickled here, may send at the same time, with its own pickler. */
    PyObject *pair = self->idle;
    self->idle = NULL;
    if (!pair && !(pair = PyObject_CallNoArgs(self->make_pickler)))
        return NULL;
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2 || !PyList_Check(PyTuple_GET_ITEM(pair, 1))) {
        Py_DECREF(pair);
        return PyErr_Format(PyExc_TypeError, "make_pickler() has not returned a pickler and a list");
    }
    PyObject *pickler = PyTuple_GET_ITEM(pair, 0), *written = PyTuple_GET_ITEM(pair, 1);
    PyObject *done = check(self) < 0 ? NULL : PyObject_CallMethodOneArg(pickler, dump_name, sent);
    int64_t size = done ? send_pieces(self, written) : -1;
    Py_XDECREF(done);
    if (size < 0 || size > KEPT) {
        Py_DECREF(pair); /* the state of a pickler after an error is not known */
    } else {
        done = PyObject_CallMethodNoArgs(pickler, clear_memo_name);
        if (!done || PyList_SetSlice(written, 0, PyList_GET_SIZE(written), NULL) < 0 || self->idle) {
            Py_DECREF(pair);
            if (!done || PyErr_Occurred()) {
                Py_XDECREF(done);
                return NULL;
            }
        } else {
            self->idle = pair;
        }
        Py_DECREF(done);
    }
    if (size < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- the type ---------------------------------------------------------------------------------------------------- */

static PyObject *stream_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"fd", "make_pickler", "watch", NULL};
    int fd;
    PyObject *make_pickler, *watch;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "iOO!:Stream", names, &fd, &make_pickler, &goproc_pickler_watch,
                                     &watch))
        return NULL;
    stream *self = (stream *)type->tp_alloc(type, 0);
    if (self) {
        self->fd = fd;
        self->make_pickler = Py_NewRef(make_pickler);
        self->watch = Py_NewRef(watch);
        self->spinner.pause = LEAST_PAUSE;
    }
    return (PyObject *)self;
}

PyDoc_STRVAR(forget_doc, "forget()\n--\n\nUse the descriptor no more: its owner closes it.");

static PyObject *stream_forget(PyObject *object, PyObject *Py_UNUSED(unused)) {
    ((stream *)object)->fd = -1;
    Py_RETURN_NONE;
}

static int stream_traverse(PyObject *object, visitproc visit, void *arg) {
    stream *self = (stream *)object;
    Py_VISIT(self->make_pickler);
    Py_VISIT(self->idle);
    Py_VISIT(self->watch);
    return 0;
}

static int stream_clear(PyObject *object) {
    stream *self = (stream *)object;
    Py_CLEAR(self->idle);
    return 0;
}

static void stream_dealloc(PyObject *object) {
    stream *self = (stream *)object;
    PyObject_GC_UnTrack(object);
    Py_XDECREF(self->make_pickler);
    Py_XDECREF(self->idle);
    Py_XDECREF(self->watch);
    Py_TYPE(self)->tp_free(object);
}

/* In a forked child: the threads that spun are its parent's. */
static void forget_spinners(void) {
    atomic_store(&spinners, 0);
}

static PyMethodDef stream_methods[] = {
    {"forget", stream_forget, METH_NOARGS, forget_doc},
    {"recv", stream_recv, METH_NOARGS, recv_doc},
    {"recv_bytes", (PyCFunction)(void (*)(void))stream_recv_bytes, METH_FASTCALL, recv_bytes_doc},
    {"send", stream_send, METH_O, send_doc},
    {"send_bytes", stream_send_bytes, METH_O, send_bytes_doc},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject stream_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc._native.Stream",
    .tp_doc = PyDoc_STR("Stream(fd, make_pickler, watch)\n--\n\nMessages over a connected stream socket. It does not "
                        "own the descriptor.\nmake_pickler: returns a pickler, and the list to which it writes. "
                        "watch: a PicklerWatch."),
    .tp_basicsize = sizeof(stream),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = stream_new,
    .tp_traverse = stream_traverse,
    .tp_clear = stream_clear,
    .tp_dealloc = stream_dealloc,
    .tp_methods = stream_methods,
};

int goproc_init_stream(PyObject *module) {
    dump_name = PyUnicode_InternFromString("dump");
    clear_memo_name = PyUnicode_InternFromString("clear_memo");
    if (!dump_name || !clear_memo_name || goproc_on_fork_child(forget_spinners) < 0)
        return -1;
    return PyModule_AddType(module, &stream_type);
}
