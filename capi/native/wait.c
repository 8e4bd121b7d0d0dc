/* wait.c - waiting for a descriptor, and for a child in a seat; the clock of all waits.
 *
 * The GIL is released meanwhile. After each signal Python's handlers run, and then the wait goes on for the rest of the
 * time.
 */
#include "process.h"
#include "dump/waits.h"
#include "sync/sync.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <time.h>

/* For how long the main thread sleeps at most before it looks whether signal handlers are to run. */
#define LOOK_SECONDS 0.4

/* The same number as time.monotonic() would return: Python, too, divides the nanoseconds. */
static double monotonic_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec * 1000000000LL + now.tv_nsec) / 1e9;
}

/* A GIL that is released and taken at once would be had by the same thread again: the other one needs a moment to wake
 * up. A system call takes about as long as those of multiprocessing do here. */
void goproc_offer_gil(void) {
    Py_BEGIN_ALLOW_THREADS;
    poll(NULL, 0, 0);
    Py_END_ALLOW_THREADS;
}

static int seat_has_ended(long long id) {
    goproc_seat *seat = goproc_acquire_seat(id);
    if (!seat)
        return 1; /* another thread has joined the child, or the engine has adopted it */
    int ended = goproc_look_at_seat(seat);
    goproc_unlock_seat(seat);
    return ended;
}

/* Waits until a child in a seat has ended, without its sentinel: the sentinel is lost, or may be ready too soon. Returns
 * the same as wait_until_readable. begun: when the time began. */
static int wait_for_child(long long id, pid_t pid, PyObject *timeout_arg, double begun) {
    double timeout = timeout_arg == Py_None ? -1 : PyFloat_AsDouble(timeout_arg);
    if (PyErr_Occurred())
        return -1;
    double deadline = begun + timeout;
    long pause_ns = 50000;
    int in_kernel = timeout_arg == Py_None;
    for (;;) {
        siginfo_t info;
        int ended, error = 0;
        Py_BEGIN_ALLOW_THREADS;
        if (in_kernel) {
            ended = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0;
            if (!ended)
                error = errno;
            ended = ended || error == ECHILD; /* somebody else has reaped it */
            in_kernel = error == EINTR;       /* else the call is refused */
        } else if (!(ended = seat_has_ended(id))) {
            struct timespec pause = {.tv_nsec = pause_ns};
            if (nanosleep(&pause, NULL) < 0)
                error = errno;
        }
        Py_END_ALLOW_THREADS;
        if (ended)
            return 1;
        if (error == EINTR && PyErr_CheckSignals() < 0)
            return -1;
        if (timeout_arg != Py_None && monotonic_seconds() >= deadline)
            return 0;
        if (pause_ns < 10000000)
            pause_ns += pause_ns / 2;
    }
}

/* What wait_until_readable returns if fd no longer has its mark. */
enum { LOST = 2 };

/* Waits until fd is readable: see wait_readable(). Returns 1, 0 if the timeout is over, or -1 with an exception set.
 * mark: that of fd; 0: unknown. While this thread waits, a signal handler or another thread may close all descriptors,
 * and open a file with the same number. */
static int wait_until_readable(int fd, uint32_t mark, PyObject *timeout_arg) {
    double timeout = -1, deadline = 0;
    int bounded = timeout_arg != Py_None;
    if (bounded) {
        timeout = PyFloat_AsDouble(timeout_arg);
        if (timeout == -1 && PyErr_Occurred())
            return -1;
        if (isnan(timeout) || timeout == INFINITY) {
            goproc_raise_as_select(timeout_arg);
            return -1;
        }
        if (timeout < 0)
            timeout = 0;
        if (timeout > 1e8) /* three years: beyond what timespec is sure to hold everywhere, and for ever in practice */
            bounded = 0;
        deadline = monotonic_seconds() + timeout;
    }

    /* Signal handlers run in the main thread. A signal that came just before the sleep has not ended it, nor has one that
     * the kernel gave to another thread. So the main thread looks now and then. */
    int looks = goproc_my_thread() == (uint32_t)getpid();
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    for (;;) {
        struct timespec left = {0};
        double pause = looks && !(bounded && timeout < LOOK_SECONDS) ? LOOK_SECONDS : timeout;
        if (bounded || looks) {
            left.tv_sec = (time_t)pause;
            left.tv_nsec = (long)((pause - (double)left.tv_sec) * 1e9);
        }
        int ready, error;
        Py_BEGIN_ALLOW_THREADS;
        ready = ppoll(&wanted, 1, bounded || looks ? &left : NULL, NULL);
        if (ready < 0 && (errno == ENOSYS || errno == EPERM)) { /* a sandbox refuses it */
            int most = 1 << 30, milliseconds = !(bounded || looks)   ? -1
                                               : pause < most / 1000 ? (int)(pause * 1e3 + 0.999)
                                                                     : most;
            ready = poll(&wanted, 1, milliseconds);
        }
        error = errno;
        Py_END_ALLOW_THREADS;
        if (mark && goproc_mark(fd) != mark)
            return PyErr_CheckSignals() < 0 ? -1 : LOST;
        if (ready > 0) {
            if (wanted.revents & POLLNVAL) {
                errno = EBADF;
                PyErr_SetFromErrno(PyExc_OSError);
                return -1;
            }
            return 1;
        }
        if (ready < 0 && error != EINTR) {
            errno = error;
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        if (PyErr_CheckSignals() < 0)
            return -1;
        if (bounded) {
            timeout = deadline - monotonic_seconds();
            if (timeout <= 0) {
                if (ready == 0)
                    return 0;
                timeout = 0; /* a handler took the rest of the time: look once more */
            }
        }
    }
}

/* Notes for dump that this thread waits for the end of a process. */
static goproc_wait *note_join(long pid, PyObject *timeout) {
    uint64_t deadline_ns = 0;
    if (PyFloat_Check(timeout) || PyLong_Check(timeout)) {
        double seconds = PyFloat_AsDouble(timeout);
        if (PyErr_Occurred())
            PyErr_Clear(); /* the wait itself raises it */
        else if (seconds > 0 && seconds < 1e8)
            deadline_ns = (uint64_t)((monotonic_seconds() + seconds) * 1e9);
    }
    return goproc_waits_for(GOPROC_WAIT_JOIN, NULL, (uint64_t)pid, deadline_ns);
}

PyDoc_STRVAR(
    wait_readable_doc,
    "wait_readable(fd, timeout, pid=0, mark=0) -> bool\n\n"
    "Wait until fd is readable or at its end (True), or until timeout seconds have passed (False). A timeout of None\n"
    "waits for ever, one that is not positive only looks. The GIL is released; signal handlers run while it waits,\n"
    "and what they raise ends the wait. Raises OSError(EBADF) if fd is not open. pid: the process whose sentinel fd "
    "is,\n"
    "for dump. mark: what mark(fd) returned; the wait also ends (True) when fd has been closed, or is another file's.");

static PyObject *wait_readable(PyObject *Py_UNUSED(module), PyObject *args) {
    int fd, pid = 0;
    unsigned int mark = 0;
    PyObject *timeout_arg;
    if (!PyArg_ParseTuple(args, "iO|iI:wait_readable", &fd, &timeout_arg, &pid, &mark))
        return NULL;
    goproc_wait *note = pid > 0 ? note_join(pid, timeout_arg) : NULL;
    int ready = wait_until_readable(fd, mark, timeout_arg);
    goproc_waits_no_longer(note);
    return ready < 0 ? NULL : PyBool_FromLong(ready);
}

PyDoc_STRVAR(join_doc,
             "join(id, timeout) -> int | None | NotImplemented\n\n"
             "Wait for the end of a child that start() started, as wait_readable() does, and return what exit_code() "
             "returns.\nMeanwhile the engine's reaper is not woken for it.");

static PyObject *wait_join(PyObject *Py_UNUSED(module), PyObject *args) {
    long long id;
    PyObject *timeout;
    if (!PyArg_ParseTuple(args, "LO:join", &id, &timeout))
        return NULL;
    goproc_seat *seat = goproc_acquire_seat(id);
    if (!seat)
        Py_RETURN_NOTIMPLEMENTED;
    int ended = goproc_look_at_seat(seat), status = seat->status, sentinel = seat->sentinel;
    pid_t pid = seat->pid;
    uint32_t mark = seat->mark;
    int usable = !ended && goproc_have_pidfds() && goproc_mark(sentinel) == mark;
    if (!ended)
        goproc_watch_seat(seat, EPOLL_CTL_DEL);
    goproc_unlock_seat(seat);
    if (ended)
        return PyLong_FromLong(status);

    goproc_wait *note = note_join((long)pid, timeout);
    double begun = monotonic_seconds();
    int ready = usable ? wait_until_readable(sentinel, mark, timeout) : LOST;
    if (ready == LOST)
        ready = wait_for_child(id, pid, timeout, begun);
    goproc_waits_no_longer(note);
    if (!(seat = goproc_acquire_seat(id))) {
        if (ready < 0)
            return NULL;
        Py_RETURN_NOTIMPLEMENTED;
    }
    ended = goproc_look_at_seat(seat), status = seat->status;
    if (!ended)
        goproc_watch_seat(seat, EPOLL_CTL_ADD);
    goproc_unlock_seat(seat);
    if (ready < 0)
        return NULL;
    if (!ended)
        Py_RETURN_NONE;
    return PyLong_FromLong(status);
}

/* Why goproc's modules do not call time.monotonic(): programs replace it by a clock that stands still, as freezegun and
 * tests that fake the time do, and then no timeout would ever be over. */
PyDoc_STRVAR(monotonic_doc,
             "monotonic()\n--\n\n"
             "Return what time.monotonic() returns, in seconds, also while the program has replaced that.");

static PyObject *monotonic(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return PyFloat_FromDouble(monotonic_seconds());
}

/* ---- the module's part ------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"wait_readable", wait_readable, METH_VARARGS, wait_readable_doc},
    {"join", wait_join, METH_VARARGS, join_doc},
    {"monotonic", monotonic, METH_NOARGS, monotonic_doc},
    {NULL, NULL, 0, NULL},
};

int goproc_init_wait(PyObject *module) {
    return PyModule_AddFunctions(module, methods);
}
