/* sentinel.c - sentinels, which tell that a child has ended: pidfds and tethers. Also looking at a child, and ending
 * it.
 *
 * Where the kernel has no pidfds, or a sandbox refuses them, each child has a tether: a pipe whose write end only the
 * child has. Its read end takes the place of the pidfd. A sentinel only tells when to look. Children are looked at,
 * killed and waited for by their pids: no other process can have the number before the child has been reaped.
 */
#include "process.h"
#include "sync/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The write end of this process's tether, if it has one. It is never written to. A child that this process forks closes
 * it. */
static struct {
    int write;
    uint32_t mark;
} tether;

static void let_go(void) {
    if (tether.mark) {
        goproc_close_marked(tether.write, tether.mark);
        tether.mark = 0;
    }
}

static int known_pidfds; /* 1: pidfds can be used; -1: they cannot; 0: not known yet */

/* Older kernels have no pidfds, and some sandboxes refuse them. */
int goproc_have_pidfds(void) {
    int known = known_pidfds;
    if (!known) {
        int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
        if (fd >= 0)
            close(fd);
        known = fd >= 0 || errno == EMFILE || errno == ENFILE || errno == ENOMEM ? 1 : -1;
        known_pidfds = known;
    }
    return known > 0;
}

void goproc_doubt_pidfds(void) {
    known_pidfds = 0;
}

/* If the child is gone, a pipe that is always readable takes the place of its pidfd. */
int goproc_open_pidfd(pid_t pid, int *reserve, int *reaped) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
        close(*reserve);
        *reserve = -1;
        fd = (int)syscall(SYS_pidfd_open, pid, 0);
    }
    *reaped = fd < 0 && errno == ESRCH;
    if (*reaped) {
        int ends[2];
        if ((fd = pipe2(ends, O_CLOEXEC)) == 0) {
            close(ends[1]);
            fd = ends[0];
        }
    }
    return goproc_move_above_streams(fd);
}

int goproc_make_tether(int ends[2]) {
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    ends[0] = goproc_move_above_streams(ends[0]);
    ends[1] = goproc_move_above_streams(ends[1]);
    if (ends[0] >= 0 && ends[1] >= 0)
        return 0;
    int error = errno;
    close(ends[0] < 0 ? ends[1] : ends[0]);
    errno = error;
    return -1;
}

void goproc_keep_tether(int write) {
    tether.write = write;
    tether.mark = goproc_mark(write);
}

int goproc_look_at_child(pid_t pid) {
    siginfo_t info = {.si_pid = 0};
    int failed;
    while ((failed = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0) && errno == EINTR)
        ;
    if (!failed)
        return info.si_pid != 0;
    if (errno == ECHILD)
        return -1;
    return goproc_fate((uint32_t)pid, 0, 0) != GOPROC_RUNS; /* waitid() is refused */
}

int goproc_child_has_ended(pid_t pid) {
    return goproc_look_at_child(pid) != 0;
}

void goproc_end_child(pid_t pid) {
    if (goproc_look_at_child(pid) < 0)
        return;
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

PyDoc_STRVAR(have_pidfds_doc,
             "have_pidfds() -> bool\n\n"
             "Whether pidfds can be used here. If not, each child has a tether: a pipe whose write end only the child\n"
             "has, and whose read end takes the place of the pidfd.");

static PyObject *sentinel_have_pidfds(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    return PyBool_FromLong(goproc_have_pidfds());
}

PyDoc_STRVAR(make_tether_doc, "make_tether($module, /)\n--\n\n"
                              "Return (read end, write end) of a new tether for a child; None if pidfds can be used.");

static PyObject *sentinel_make_tether(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    int ends[2];
    if (goproc_have_pidfds())
        Py_RETURN_NONE;
    if (goproc_make_tether(ends) < 0) {
        goproc_raise_errno("pipe2", "to watch a child process");
        return NULL;
    }
    return Py_BuildValue("(ii)", ends[0], ends[1]);
}

PyDoc_STRVAR(keep_tether_doc, "keep_tether(fd) -> None\n\n"
                              "Note the write end of this process's tether: children that it forks close it.");

static PyObject *sentinel_keep_tether(PyObject *Py_UNUSED(module), PyObject *arg) {
    int fd = (int)PyLong_AsLong(arg);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    goproc_keep_tether(fd);
    Py_RETURN_NONE;
}

/* ---- the module's part ------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"have_pidfds", sentinel_have_pidfds, METH_NOARGS, have_pidfds_doc},
    {"make_tether", sentinel_make_tether, METH_NOARGS, make_tether_doc},
    {"keep_tether", sentinel_keep_tether, METH_O, keep_tether_doc},
    {NULL, NULL, 0, NULL},
};

int goproc_init_sentinel(PyObject *module) {
    if (goproc_on_fork_child(let_go) < 0)
        return -1;
    return PyModule_AddFunctions(module, methods);
}
