/* descriptors.c - descriptors that this process keeps, and that the program may close and use again.
 *
 * Problem: a program may close all descriptors above 2, its libraries' as well (os.closerange; hand-written daemons do
 * it). Its own files then get the numbers, and whoever goes on using these reads, writes or closes a stranger's file.
 * Solution: a mark of what a descriptor refers to is taken when it is opened, and compared before the number is used.
 * Besides, descriptors that stay open for long, such as the lifeline, have high numbers, which such loops often leave
 * out.
 * Limits: before Linux 6.9 all pidfds have the same inode, and eventfds and epolls always have: a mark cannot tell one
 * pidfd from another.
 */
#define _GNU_SOURCE
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

uint32_t goproc_mark(int fd) {
    struct stat status;
    int saved_errno = errno;
    int failed = fstat(fd, &status) < 0;
    errno = saved_errno;
    return failed ? 0 : goproc_mark_of((uint64_t)status.st_dev, (uint64_t)status.st_ino);
}

int goproc_close_marked(int fd, uint32_t mark) {
    return fd >= 0 && goproc_mark(fd) == mark && close(fd) == 0;
}

int goproc_move_above_streams(int fd) {
    if (fd < 0 || fd > 2)
        return fd;
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    int error = errno;
    close(fd);
    errno = error;
    return moved;
}

/* The first number that neither select() nor a loop up to the usual soft limit reaches. Far higher ones would make each
 * fork dearer: the kernel copies a table that is as long. */
enum { HIGH = 1024 };

int goproc_move_up(int fd) {
    if (fd < 0 || fd >= HIGH)
        return fd;
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, HIGH);
    struct rlimit limit, raised;
    if (moved < 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur <= HIGH && limit.rlim_max > 2 * HIGH) {
        raised = limit;
        raised.rlim_cur = 2 * HIGH; /* for a moment: descriptors stay valid when they are above the limit */
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            moved = fcntl(fd, F_DUPFD_CLOEXEC, HIGH);
            setrlimit(RLIMIT_NOFILE, &limit);
        }
    }
    if (moved < 0)
        return goproc_move_above_streams(fd); /* it works there, too */
    close(fd);
    return moved;
}

PyDoc_STRVAR(mark_doc,
             "mark(fd) -> int\n\nWhat the descriptor refers to: equal numbers, the same file. 0 if it is not open.");

static PyObject *descriptors_mark(PyObject *Py_UNUSED(module), PyObject *arg) {
    long fd = PyLong_AsLong(arg);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    return PyLong_FromUnsignedLong(goproc_mark((int)fd));
}

static PyMethodDef methods[] = {
    {"mark", descriptors_mark, METH_O, mark_doc},
    {NULL, NULL, 0, NULL},
};

int goproc_init_descriptors(PyObject *module) {
    return PyModule_AddFunctions(module, methods);
}
