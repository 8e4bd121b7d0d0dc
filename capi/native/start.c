/* start.c - starting the engine's Go runtime in this process, and keeping it out of forked children.
 *
 * python/goproc/_common/engine.py calls this, before it imports the library. Loading the library does not start the
 * runtime (../host/host.c). The runtime ends the process when it lacks threads, descriptors or address space. So this
 * file asks the kernel for these first.
 */
#include "native.h"

#include "../host/host.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    DESCRIPTORS = 16,   /* the runtime's poller, the engine's, and those of a server and a child */
    LIBRARY = 16 << 20, /* address space for the library itself: at most that */
    MOST_SIGNALS = 65,
    LOWEST_PAGE_MASK = 4095,
};

/* The signals for which Go has put its own handler in the place of the program's. Loading the library does that. When
 * the runtime runs, faults.c gives most of them back. If it cannot be started, they are given back here. */
static struct {
    int signal;
    struct sigaction before, go;
} taken[MOST_SIGNALS];
static int taken_count;
static int in_place; /* whether Go's handlers have been installed; faults.c may have given some back since */

static int has_handler(int signal, const struct sigaction *expected) {
    struct sigaction now;
    return sigaction(signal, NULL, &now) == 0 && now.sa_sigaction == expected->sa_sigaction;
}

/* Gives the signals back to the program, or, if go is true, to Go again. A handler that the program has changed
 * meanwhile stays. */
static void set_handlers(int go) {
    for (int i = 0; i < taken_count && go != in_place; i++)
        if (has_handler(taken[i].signal, go ? &taken[i].before : &taken[i].go))
            sigaction(taken[i].signal, go ? &taken[i].go : &taken[i].before, NULL);
    in_place = go;
}

static void read_handlers(struct sigaction actions[MOST_SIGNALS]) {
    for (int signal = 1; signal < MOST_SIGNALS; signal++)
        if (sigaction(signal, NULL, &actions[signal]) < 0) /* the C library keeps this signal for itself */
            actions[signal].sa_handler = SIG_DFL;
}

/* The stack on which the forking thread handles signals may be in Go's memory, which a forked child does not have. Then
 * the child gets no such stack. */
static void in_forked_child(void) {
    if (!in_place)
        return;
    in_place = 0;
    stack_t stack;
    if (sigaltstack(NULL, &stack) == 0 && !(stack.ss_flags & SS_DISABLE) &&
        msync((void *)((uintptr_t)stack.ss_sp & ~(uintptr_t)LOWEST_PAGE_MASK), 1, MS_ASYNC) < 0 && errno == ENOMEM) {
        stack = (stack_t){.ss_flags = SS_DISABLE};
        sigaltstack(&stack, NULL);
    }
}

/* Whether DESCRIPTORS can be opened, and the runtime's system calls are allowed. If not, errno is set, and *what says
 * which call failed. */
static int has_descriptors(const char **what) {
    int opened[DESCRIPTORS], count = 0;
    const char *refusing = "epoll_create1, by which the Go runtime waits";
    int epoll = epoll_create1(EPOLL_CLOEXEC), event = -1;
    if (epoll >= 0) {
        refusing = "eventfd, by which the Go runtime is woken";
        event = eventfd(0, EFD_CLOEXEC);
    }
    int is_refused = epoll < 0 || event < 0;
    struct epoll_event ready = {.events = EPOLLIN};
    if (!is_refused) {
        refusing = "epoll_ctl, by which the Go runtime waits";
        is_refused = epoll_ctl(epoll, EPOLL_CTL_ADD, event, &ready) < 0;
    }
    if (!is_refused) {
        refusing = "epoll_pwait, by which the Go runtime waits";
        is_refused = epoll_pwait(epoll, &ready, 1, 0, NULL) < 0;
    }
    if (!is_refused) {
        refusing = "sigaltstack, for the stacks on which the Go runtime handles signals";
        is_refused = sigaltstack(NULL, &(stack_t){0}) < 0;
    }
    int refusal = errno;
    if (epoll >= 0)
        close(epoll);
    if (event >= 0)
        close(event);
    if (is_refused) { /* the runtime would end the process */
        errno = refusal;
        *what = refusing;
        return 0;
    }
    *what = "open, for the descriptors that it needs";
    while (count < DESCRIPTORS && (opened[count] = open("/", O_PATH | O_CLOEXEC)) >= 0)
        count++;
    int error = errno, enough = count == DESCRIPTORS;
    /* The runtime's descriptors lie above 1023 (core/sys/netpoll.go). So let the kernel's table of descriptors grow
     * while there are no threads of the runtime yet: with threads each growth waits for some 10 ms. */
    int high = enough ? fcntl(opened[0], F_DUPFD_CLOEXEC, 1100) : -1;
    if (high >= 0)
        close(high);
    while (count > 0)
        close(opened[--count]);
    errno = error;
    return enough;
}

static int has_room(size_t size) {
    void *at = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at != MAP_FAILED && munmap(at, size) == 0;
}

static PyObject *refused(int error, const char *what) {
    if (error == ENOMEM)
        return PyErr_Format(
            PyExc_MemoryError,
            "goproc's engine cannot be loaded: no address space for it (%s). The limits of this process "
            "(RLIMIT_AS, RLIMIT_DATA) must leave about 250 MB",
            what);
    PyObject *text = PyUnicode_FromFormat("goproc's engine cannot be loaded: %s: %s", what, strerror(error));
    PyObject *arguments = text ? Py_BuildValue("(iN)", error, text) : NULL;
    if (arguments) {
        PyErr_SetObject(PyExc_OSError, arguments); /* of the subclass that the number stands for */
        Py_DECREF(arguments);
    }
    return NULL;
}

PyDoc_STRVAR(
    start_engine_doc,
    "start_engine(path) -> None\n\n"
    "Load the engine's library and start its Go runtime, with all threads that it needs and a reserve of memory.\n\n"
    "Raises OSError or MemoryError when there are too few threads or descriptors, or too little address space; "
    "then nothing\nof it runs, and this can be tried again. If path is no such library, this does nothing: the "
    "import will refuse it.");

static PyObject *start_engine(PyObject *Py_UNUSED(module), PyObject *argument) {
    const char *what;
    if (!has_descriptors(&what))
        return refused(errno, what);
    if (!has_room(LIBRARY))
        return refused(errno, "mmap");
    PyObject *path;
    if (!PyUnicode_FSConverter(argument, &path))
        return NULL;
    struct sigaction before[MOST_SIGNALS], after[MOST_SIGNALS];
    read_handlers(before);
    void *handle = dlopen(PyBytes_AS_STRING(path), RTLD_NOW);
    Py_DECREF(path);
    goproc_host_start_fn host_start = handle ? GOPROC_FIND(handle, goproc_host_start) : NULL;
    if (!host_start)
        Py_RETURN_NONE;
    read_handlers(after);
    int loaded_now = 0;
    for (int signal = 1; signal < MOST_SIGNALS; signal++)
        loaded_now |= after[signal].sa_sigaction != before[signal].sa_sigaction;
    if (loaded_now) { /* if not, an earlier call has loaded it, here or in an ancestor, but could not start it */
        taken_count = 0;
        for (int signal = 1; signal < MOST_SIGNALS; signal++)
            if (after[signal].sa_sigaction != before[signal].sa_sigaction) {
                taken[taken_count].signal = signal;
                taken[taken_count].before = before[signal];
                taken[taken_count++].go = after[signal];
            }
        in_place = 1;
    }
    set_handlers(1);
    int32_t lacking = 0, result;
    Py_BEGIN_ALLOW_THREADS;
    result = host_start(&lacking);
    Py_END_ALLOW_THREADS;
    if (result == 0)
        Py_RETURN_NONE;
    set_handlers(0);
    return refused(-result, lacking == GOPROC_HOST_THREADS
                                ? "pthread_create, for the threads that it needs (see RLIMIT_NPROC, pids.max)"
                                : "mmap");
}

PyDoc_STRVAR(file_size_limit_doc, "file_size_limit() -> int\n\nHow many bytes a file may have that this process writes "
                                  "(RLIMIT_FSIZE), or 1 << 62.");

static PyObject *file_size_limit(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    struct rlimit limit;
    uint64_t most = UINT64_C(1) << 62;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < most)
        most = limit.rlim_cur;
    return PyLong_FromUnsignedLongLong(most);
}

static PyMethodDef methods[] = {
    {"file_size_limit", file_size_limit, METH_NOARGS, file_size_limit_doc},
    {"start_engine", start_engine, METH_O, start_engine_doc},
    {NULL, NULL, 0, NULL},
};

int goproc_init_start(PyObject *module) {
    if (PyModule_AddFunctions(module, methods) < 0)
        return -1;
    return goproc_on_fork_child(in_forked_child);
}
