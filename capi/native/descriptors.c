/* descriptors.c - descriptors that this process keeps, and that the program may close and use again.
 *
 * Problem: a program may close all descriptors above 2, including those of its libraries (os.closerange; hand-written
 * daemons do it). Its own files then get the numbers. If this process goes on using a number, it reads, writes or
 * closes one of the program's files. Solution: when a descriptor is opened, a mark of the file that it refers to is
 * taken. It is compared before the number is used. Besides, descriptors that stay open for long, such as the lifeline,
 * have high numbers, which such loops often leave out. Limits: a mark is made of device and inode. Before Linux 6.9 all
 * pidfds have the same inode, so a mark cannot tell one pidfd from another. The same holds for eventfds and for epolls,
 * with every kernel.
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

/* The first number that neither select() nor a loop up to the usual soft limit reaches. With far higher numbers each
 * fork would take longer, because the kernel copies the table of descriptors up to the highest. */
enum { HIGH = 1024 };

int goproc_move_up(int fd) {
    if (fd < 0 || fd >= HIGH)
        return fd;
    goproc_mend_runtime(); /* else fd could get a number of the Go runtime's, which writes to its eventfd */
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, HIGH);
    struct rlimit limit, raised;
    if (moved < 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur <= HIGH && limit.rlim_max > 2 * HIGH) {
        raised = limit;
        raised.rlim_cur = 2 * HIGH; /* only for a moment: a descriptor stays valid when it is above the limit */
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            moved = fcntl(fd, F_DUPFD_CLOEXEC, HIGH);
            setrlimit(RLIMIT_NOFILE, &limit);
        }
    }
    if (moved < 0)
        return goproc_move_above_streams(fd); /* a low number works, too */
    close(fd);
    return moved;
}

PyDoc_STRVAR(mark_doc,
             "mark(fd) -> int\n\n"
             "A number for the file that the descriptor refers to. If it has changed, it is another file. 0 if the\n"
             "descriptor is not open.");

static PyObject *descriptors_mark(PyObject *Py_UNUSED(module), PyObject *arg) {
    long fd = PyLong_AsLong(arg);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    return PyLong_FromUnsignedLong(goproc_mark((int)fd));
}

PyDoc_STRVAR(above_streams_doc,
             "above_streams(fd, /) -> int\n\n"
             "Return the descriptor. If it has the number of a standard stream, which was closed, return a duplicate\n"
             "in its place. Else this process might print into the memory of a pool. And an interpreter that inherits\n"
             "such a number takes it for its own stream. Raises OSError.");

static PyObject *descriptors_above_streams(PyObject *Py_UNUSED(module), PyObject *arg) {
    long fd = PyLong_AsLong(arg);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    int moved = goproc_move_above_streams((int)fd);
    return moved < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(moved);
}

PyDoc_STRVAR(close_all_doc,
             "close_all($module, descriptors, /)\n--\n\n"
             "Close each descriptor of the list, and empty the list. No signal handler runs in between.");

static PyObject *descriptors_close_all(PyObject *Py_UNUSED(module), PyObject *arg) {
    if (!PyList_CheckExact(arg))
        return PyErr_Format(PyExc_TypeError, "close_all() takes a list, not %.100s", Py_TYPE(arg)->tp_name);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(arg); i++) {
        long fd = PyLong_AsLong(PyList_GET_ITEM(arg, i));
        if (fd == -1 && PyErr_Occurred())
            return NULL;
        close((int)fd);
    }
    return PyList_SetSlice(arg, 0, PyList_GET_SIZE(arg), NULL) < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(free_descriptors_doc,
             "free_descriptors($module, enough, /)\n--\n\n"
             "Return how many further descriptors the limit (RLIMIT_NOFILE) allows. Counting stops at enough.");

static PyObject *descriptors_free(PyObject *Py_UNUSED(module), PyObject *arg) {
    long enough = PyLong_AsLong(arg), found = 0;
    struct rlimit limit;
    if (enough == -1 && PyErr_Occurred())
        return NULL;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        found = enough;
    for (rlim_t fd = 0; found < enough && fd < limit.rlim_cur; fd++)
        found += fcntl((int)fd, F_GETFD) < 0;
    return PyLong_FromLong(found);
}

static PyMethodDef methods[] = {
    {"mark", descriptors_mark, METH_O, mark_doc},
    {"above_streams", descriptors_above_streams, METH_O, above_streams_doc},
    {"free_descriptors", descriptors_free, METH_O, free_descriptors_doc},
    {"close_all", descriptors_close_all, METH_O, close_all_doc},
    {NULL, NULL, 0, NULL},
};

int goproc_init_descriptors(PyObject *module) {
    return PyModule_AddFunctions(module, methods);
}
