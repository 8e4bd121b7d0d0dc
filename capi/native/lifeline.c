/* lifeline.c - the lifeline: how a child learns that its parent is gone.
 *
 * It is a pipe that nothing is ever written to. Only the parent has the write end: executed programs do not inherit it,
 * and forked children close it. So the kernel closes the write end exactly when the parent is gone, however it has
 * ended. The children have the read end, which is at end of file from then on. A daemon, or a pool's worker, is killed
 * at that moment: by the kernel, or, where that is not possible, by a thread (watch.c).
 */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/* The lifeline that this process has made for its children. */
static struct {
    int read, write;
    uint32_t mark; /* of both ends: 0 if there is no lifeline */
} lifeline;

/* In a forked child: closes the lifeline, which is its parent's. */
static void let_go(void) {
    if (lifeline.mark) {
        goproc_close_marked(lifeline.read, lifeline.mark);
        goproc_close_marked(lifeline.write, lifeline.mark);
        lifeline.mark = 0;
    }
}

/* The program has closed the read end: opens it again, by way of the write end. Otherwise a second lifeline would be
 * needed, and children forked later would keep the first one's write end open. Returns whether it succeeded: not
 * without /proc, or if this process has changed its user. */
static int reopen_read_end(void) {
    char path[32];
    if (goproc_mark(lifeline.write) != lifeline.mark)
        return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", lifeline.write);
    int fd = goproc_move_up(open(path, O_RDONLY | O_CLOEXEC)); /* it has a writer: this does not wait */
    if (fd < 0)
        return 0;
    lifeline.read = fd;
    return 1;
}

int goproc_make_lifeline(void) {
    int ends[2];
    if (lifeline.mark) {
        int has_read_end = goproc_mark(lifeline.read) == lifeline.mark;
        if (has_read_end ? goproc_mark(lifeline.write) == lifeline.mark : reopen_read_end())
            return 0;
        /* The old write end stays open, if the program has not closed it: children that have its read end live on. */
        goproc_close_marked(lifeline.read, lifeline.mark);
        lifeline.mark = 0;
    }
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    ends[0] = goproc_move_up(ends[0]);
    ends[1] = goproc_move_up(ends[1]);
    if (ends[0] < 0 || ends[1] < 0) {
        int error = errno;
        close(ends[0] < 0 ? ends[1] : ends[0]);
        errno = error;
        return -1;
    }
    lifeline.read = ends[0];
    lifeline.write = ends[1];
    lifeline.mark = goproc_mark(ends[0]);
    return 0;
}

int goproc_watched_lifeline(void) {
    return fcntl(lifeline.read, F_DUPFD_CLOEXEC, 3);
}

PyDoc_STRVAR(
    duplicate_lifeline_doc,
    "duplicate_lifeline() -> int\n\n"
    "A new descriptor of the read end of this process's lifeline: a pipe that is at end of file when this process "
    "is\ngone. The caller closes it. Raises OSError.");

static PyObject *lifeline_duplicate(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    int fd = goproc_make_lifeline() < 0 ? -1 : goproc_watched_lifeline();
    if (fd < 0) {
        goproc_raise_errno("pipe2", "for the lifeline of a child process");
        return NULL;
    }
    return PyLong_FromLong(fd);
}

/* The kernel keeps the owner of the signal (F_SETOWN) in the open file description. All children of a process would
 * share one description, so each opens its own. */
int goproc_open_lifeline(int fd) {
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return goproc_move_above_streams(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
}

int goproc_arm_lifeline(int own, int signum) {
    /* The order matters. If the parent dies before O_ASYNC is set, poll() below sees it; if it dies later, the
     * kernel sends the signal. */
    int flags = fcntl(own, F_GETFL);
    if (flags < 0 || fcntl(own, F_SETOWN, getpid()) < 0 || fcntl(own, F_SETSIG, signum) < 0 ||
        fcntl(own, F_SETFL, flags | O_ASYNC) < 0)
        return -1;
    struct pollfd hangup = {.fd = own, .events = POLLIN};
    if (poll(&hangup, 1, 0) == 1)
        kill(getpid(), signum);
    return 0;
}

/* Where neither the kernel nor a thread can kill it, the process lives on, as multiprocessing's daemons do. */
void goproc_end_with_parent(int own, int armable) {
    if (!armable || goproc_arm_lifeline(own, SIGKILL) < 0)
        (void)goproc_watch_lifeline(own, 0);
}

int goproc_child_lifeline(int *armed) {
    int own = goproc_open_lifeline(lifeline.read);
    /* There may be no /proc. Or this process may have changed its user since it made the lifeline, which belongs to
     * the old user. Then a duplicate must do. */
    if (own < 0 && errno != EMFILE && errno != ENFILE) {
        *armed = 0;
        return goproc_watched_lifeline();
    }
    *armed = own >= 0 && fcntl(own, F_SETSIG, SIGKILL) == 0;
    return own;
}

PyDoc_STRVAR(
    open_lifeline_doc,
    "open_lifeline(inherited, daemon) -> int\n\n"
    "Return this process's own descriptor of its parent's lifeline, and close the inherited one. It becomes readable\n"
    "when the parent is gone. A daemon is then killed, whatever it is doing; if the parent is gone already, by this\n"
    "call. Raises OSError.");

static PyObject *lifeline_open(PyObject *Py_UNUSED(module), PyObject *args) {
    int fd, daemon;
    if (!PyArg_ParseTuple(args, "ip:open_lifeline", &fd, &daemon))
        return NULL;
    int own = goproc_open_lifeline(fd), armable = own >= 0;
    if (!armable)
        own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    int error = errno;
    (void)close(fd);
    if (own < 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    if (daemon)
        goproc_end_with_parent(own, armable);
    return PyLong_FromLong(own);
}

PyDoc_STRVAR(
    end_after_parent_doc,
    "end_after_parent(lifeline, seconds)\n--\n\n"
    "Have this process killed so many seconds after its parent is gone, unless it has ended by then. lifeline: its\n"
    "descriptor of its parent's lifeline, which stays open. Raises OSError.");

static PyObject *lifeline_end_after_parent(PyObject *Py_UNUSED(module), PyObject *args) {
    int fd;
    double seconds;
    if (!PyArg_ParseTuple(args, "id:end_after_parent", &fd, &seconds))
        return NULL;
    if (!(seconds >= 0 && seconds <= 3600))
        return PyErr_Format(PyExc_ValueError, "seconds must be between 0 and 3600");
    if ((errno = goproc_watch_lifeline(fd, (unsigned)(seconds * 1000)))) {
        goproc_raise_errno("pthread_create", "to end a manager's server with the process that has started it");
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- the module's part ------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"duplicate_lifeline", lifeline_duplicate, METH_NOARGS, duplicate_lifeline_doc},
    {"open_lifeline", lifeline_open, METH_VARARGS, open_lifeline_doc},
    {"end_after_parent", lifeline_end_after_parent, METH_VARARGS, end_after_parent_doc},
    {NULL, NULL, 0, NULL},
};

int goproc_init_lifeline(PyObject *module) {
    if (goproc_on_fork_child(let_go) < 0)
        return -1;
    return PyModule_AddFunctions(module, methods);
}
