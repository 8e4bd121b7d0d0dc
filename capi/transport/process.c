/* process.c - starting and watching processes, as far as that needs C.
 *
 * fork() is here because the system call must be made on the Python thread that called start(), outside Go: the child
 * would otherwise return into a Go runtime whose threads are gone. Forked children are listed here, too, in seats, so
 * that starting, joining and ending them needs no engine; one that is loaded later watches over them.
 *
 * A forked child inherits the memory and descriptors of its parent's engine and seats, but not the threads. A
 * pthread_atfork handler closes the descriptors, gives the seats up, and marks the engine as inherited; Python then
 * loads a fresh copy if the child needs one (python/goproc/engine.py).
 */
#include "transport.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- the link to the engine -------------------------------------------------------------------------------------- */

static int engine_state = GOPROC_ENGINE_NONE;
static void *engine_handle;           /* from dlopen; never closed, for a Go library cannot be unloaded */
static goproc_listed *register_slots; /* the engine's open descriptors; see goproc.h */
static int32_t register_count;
static goproc_share_seats_fn share_seats;
static goproc_close_fn close_engine;
static struct rlimit saved_limit; /* RLIMIT_NOFILE before the engine was loaded */
static int limit_saved;

static goproc_seats *seats; /* NULL until this process forks its first child */
static int some_forgotten;  /* whether a process that ran had been given up when that was last looked at */

/* A pipe that nothing is ever written to. Only this process has the write end: executed programs do not inherit it, and
 * forked children close it. So the read end, which children have, comes to its end exactly when this process is
 * gone. */
static struct {
    int read, write;
    uint32_t mark; /* of both: 0 if there is none */
} lifeline;

/* In a child that is watched by its tether: the write end. It is never written to, and closed in what this process
 * forks. */
static struct {
    int write;
    uint32_t mark;
} tether;

enum { MAX_CHILD_HOOKS = 8 };
static goproc_child_hook child_hooks[MAX_CHILD_HOOKS];
static int child_hook_count;

int goproc_engine_state(void) {
    return engine_state;
}

void *goproc_symbol(const char *name) {
    if (engine_state != GOPROC_ENGINE_LIVE) {
        PyErr_SetString(PyExc_RuntimeError, "no goproc engine is attached in this process");
        return NULL;
    }
    void *address = dlsym(engine_handle, name);
    if (!address)
        PyErr_Format(PyExc_ImportError, "the goproc engine does not export %s: build both anew", name);
    return address;
}

void goproc_raise_errno(const char *call, const char *purpose) {
    int error = errno;
    PyObject *arguments = Py_BuildValue(
        "(iN)", error, PyUnicode_FromFormat("%s: %s (goproc needs it %s)", call, strerror(error), purpose));
    if (arguments)
        PyErr_SetObject(PyExc_OSError, arguments); /* the subclass for the errno */
    Py_XDECREF(arguments);
}

int goproc_on_fork_child(goproc_child_hook hook) {
    if (child_hook_count == MAX_CHILD_HOOKS)
        return -1;
    child_hooks[child_hook_count++] = hook;
    return 0;
}

static int occupied(const goproc_seat *seat) {
    int32_t state = __atomic_load_n(&seat->state, __ATOMIC_ACQUIRE);
    return state == GOPROC_SEAT_RUNNING || state == GOPROC_SEAT_ENDED;
}

/* Runs in every forked child, before fork() returns there. Other threads of the parent may have held any lock at the
 * moment of the fork, so nothing here may allocate or lock. */
static void in_forked_child(void) {
    if (engine_state == GOPROC_ENGINE_LIVE) {
        engine_state = GOPROC_ENGINE_INHERITED;
        goproc_know_runtime(NULL);
        for (int32_t i = 0; i < register_slots[register_count].fd; i++)
            if (register_slots[i].fd)
                goproc_close_marked(register_slots[i].fd - 1, register_slots[i].mark);
    }
    if (seats) {
        for (int32_t i = 0; i < seats->highest; i++)
            if (occupied(&seats->seats[i]))
                goproc_close_marked(seats->seats[i].sentinel, seats->seats[i].mark);
        munmap(seats, sizeof *seats);
        seats = NULL;
        some_forgotten = 0;
    }
    if (lifeline.mark) {
        goproc_close_marked(lifeline.read, lifeline.mark);
        goproc_close_marked(lifeline.write, lifeline.mark);
        lifeline.mark = 0;
    }
    if (tether.mark) {
        goproc_close_marked(tether.write, tether.mark);
        tether.mark = 0;
    }
    for (int i = 0; i < child_hook_count; i++)
        child_hooks[i]();
}

PyDoc_STRVAR(engine_state_doc, "engine_state() -> int\n\n"
                               "0: no engine has been attached; 1: this process has a live one; 2: one was inherited "
                               "through fork(), and is dead.");

static PyObject *process_engine_state(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    return PyLong_FromLong(engine_state);
}

PyDoc_STRVAR(save_limits_doc,
             "save_limits() -> None\n\n"
             "Remember RLIMIT_NOFILE; to be called before the engine is loaded, so that attach() can restore it.");

static PyObject *process_save_limits(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    limit_saved = getrlimit(RLIMIT_NOFILE, &saved_limit) == 0;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(hold_signals_doc, "hold_signals() -> None\n\n"
                               "Block all signals in the thread that is about to load the engine, for the engine's "
                               "threads.\nattach() gives back those that the engine takes. See faults.c.");

static PyObject *process_hold_signals(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    goproc_hold_signals();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(release_signals_doc, "release_signals() -> None\n\n"
                                  "Unblock what hold_signals() has blocked.");

static PyObject *process_release_signals(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    goproc_release_signals();
    Py_RETURN_NONE;
}

/* Go's package os raises the soft limit of open files to the hard one when it is initialised. The limit belongs to the
 * user's program, and select() based programs rely on a low one. */
static void restore_limits(void) {
    struct rlimit now;
    if (limit_saved && getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_max == saved_limit.rlim_max &&
        now.rlim_cur != saved_limit.rlim_cur)
        setrlimit(RLIMIT_NOFILE, &saved_limit);
    limit_saved = 0;
}

/* Has the engine watch over the seats, if there are both. */
static void hand_over_seats(void) {
    if (seats && engine_state == GOPROC_ENGINE_LIVE && share_seats(seats) < 0)
        __atomic_store_n(&seats->refused, 1, __ATOMIC_RELEASE);
}

/* At the very end of the interpreter, when no Python can run any more: exit functions, and the destructors of what
 * modules hold, may need the engine. An exit function of its own could not be the last one: Python runs those that have
 * been registered earlier, as in a program that imports multiprocessing late, after it. A forked child's engine is not
 * its own, and os._exit() leaves it to the kernel, which closes the sockets that its servers live by. */
static void close_at_end(void) {
    if (engine_state == GOPROC_ENGINE_LIVE)
        close_engine();
}

PyDoc_STRVAR(attach_doc, "attach(path) -> None\n\n"
                         "Link to the engine that has been loaded from path.\n\n"
                         "Raises ImportError if it is not loaded, or was built for another version of the ABI.");

static PyObject *process_attach(PyObject *Py_UNUSED(module), PyObject *arg) {
    PyObject *path;
    if (!PyUnicode_FSConverter(arg, &path))
        return NULL;
    void *handle = dlopen(PyBytes_AS_STRING(path), RTLD_NOW | RTLD_NOLOAD);
    Py_DECREF(path);
    if (!handle)
        return PyErr_Format(PyExc_ImportError, "the goproc engine %R is not loaded", arg);

    goproc_abi_version_fn abi_version = (goproc_abi_version_fn)dlsym(handle, "goproc_abi_version");
    goproc_fd_register_fn fd_register = (goproc_fd_register_fn)dlsym(handle, "goproc_fd_register");
    if (!abi_version || !fd_register)
        return PyErr_Format(PyExc_ImportError, "%R is not a goproc engine", arg);
    /* A Go library is initialised by a thread of its own; the first call waits for it. Only then has the limit been
     * changed. */
    int32_t version = abi_version();
    restore_limits();
    goproc_restore_signals((void *)abi_version);
    if (version != GOPROC_ABI_VERSION)
        return PyErr_Format(PyExc_ImportError,
                            "the goproc engine %R has ABI version %d, _transport has %d: build both anew", arg,
                            (int)version, GOPROC_ABI_VERSION);
    share_seats = (goproc_share_seats_fn)dlsym(handle, "goproc_share_seats");
    close_engine = (goproc_close_fn)dlsym(handle, "goproc_close");
    if (!share_seats || !close_engine)
        return PyErr_Format(PyExc_ImportError, "%R lacks functions that _transport calls: build it anew", arg);
    static int closes_at_end;
    if (!closes_at_end && Py_AtExit(close_at_end) < 0)
        return PyErr_Format(PyExc_ImportError, "too many functions are to run at the end of the interpreter");
    closes_at_end = 1;
    engine_handle = handle;
    register_slots = fd_register(&register_count);
    goproc_know_runtime((const int32_t *)&register_slots[register_count + 1]);
    engine_state = GOPROC_ENGINE_LIVE;
    hand_over_seats();
    Py_RETURN_NONE;
}

/* The child keeps the write end, for as long as it lives. */
static void keep_tether(int write) {
    tether.write = write;
    tether.mark = goproc_mark(write);
}

PyDoc_STRVAR(mark_doc,
             "mark(fd) -> int\n\nWhat the descriptor refers to: equal numbers, the same file. 0 if it is not open.");

static PyObject *process_mark(PyObject *Py_UNUSED(module), PyObject *arg) {
    long fd = PyLong_AsLong(arg);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    return PyLong_FromUnsignedLong(goproc_mark((int)fd));
}

PyDoc_STRVAR(have_pidfds_doc,
             "have_pidfds() -> bool\n\n"
             "Whether processes have pidfds here. Else the read end of a pipe takes the place of one: only "
             "the process has the\nwrite end.");

static PyObject *process_have_pidfds(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    return PyBool_FromLong(goproc_have_pidfds());
}

PyDoc_STRVAR(keep_tether_doc, "keep_tether(fd) -> None\n\n"
                              "fd is the write end of this process's tether: it is closed in what this process forks.");

static PyObject *process_keep_tether(PyObject *Py_UNUSED(module), PyObject *arg) {
    int fd = (int)PyLong_AsLong(arg);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    keep_tether(fd);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(mend_runtime_doc,
             "mend_runtime() -> None\n\n"
             "Before a call of the engine: open what the Go runtime cannot do without, should the program "
             "have closed it.");

static PyObject *process_mend_runtime(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    goproc_mend_runtime();
    Py_RETURN_NONE;
}

/* ---- fork -------------------------------------------------------------------------------------------------------- */

#if PY_VERSION_HEX >= 0x030C0000
/* From 3.12 on os.fork() warns when the process has several threads. The engine's are not the user's and do not count:
 * their state is never used in the child. So only Python's own threads are looked at. A warning that is turned into an
 * exception is dropped until 3.14, and raised from 3.15 on, as by os.fork(): but before the fork, so no child is
 * lost. */
static int warn_about_threads(void) {
    PyObject *threading = PyDict_GetItemString(PyImport_GetModuleDict(), "threading");
    if (!threading)
        return 0;
    Py_INCREF(threading);
    Py_ssize_t threads = 0;
    static const char *const tables[] = {"_active", "_limbo"};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(tables); i++) {
        PyObject *table = PyObject_GetAttrString(threading, tables[i]);
        PyObject *values = table ? PyMapping_Values(table) : NULL;
        for (Py_ssize_t j = 0; values && j < PyList_GET_SIZE(values); j++)
            threads += !PyObject_HasAttrString(PyList_GET_ITEM(values, j), "_goproc"); /* a pool's own */
        Py_XDECREF(values);
        Py_XDECREF(table);
        if (!values)
            PyErr_Clear();
    }
    Py_DECREF(threading);
    if (threads <= 1)
        return 0;
    if (PyErr_WarnFormat(PyExc_DeprecationWarning, 1,
                         "This process (pid=%ld) is multi-threaded, use of fork() may lead to deadlocks in the child.",
                         (long)getpid()) < 0) {
        if (PY_VERSION_HEX >= 0x030F0000 || !PyErr_ExceptionMatches(PyExc_DeprecationWarning))
            return -1; /* also what a signal handler raises */
        PyErr_Clear();
    }
    return 0;
}

static int interpreter_is_ending(void) {
#if PY_VERSION_HEX >= 0x030D0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
}
#endif

int goproc_may_fork(unsigned children) {
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_RuntimeError, "fork not supported for subinterpreters");
        return -1;
    }
#if PY_VERSION_HEX >= 0x030C0000
    if (interpreter_is_ending()) {
#if PY_VERSION_HEX >= 0x030D0000
        PyErr_SetString(PyExc_PythonFinalizationError, "can't fork at interpreter shutdown");
#else
        PyErr_SetString(PyExc_RuntimeError, "can't fork at interpreter shutdown");
#endif
        return -1;
    }
    if (warn_about_threads() < 0)
        return -1;
#endif
    for (unsigned i = 0; i < children; i++)
        if (PySys_Audit("os.fork", NULL) < 0)
            return -1;
    return 0;
}

/* Returns 0 in the child, its pid in the parent, -1 with an exception set if there is none. make is fork(), or like
 * it. */
static pid_t fork_process(pid_t (*make)(void)) {
    if (goproc_may_fork(1) < 0)
        return -1;
    PyOS_BeforeFork();
    pid_t pid = make();
    if (pid == 0) {
        /* The kernel often puts a child on its parent's processor. The parent would wait for the rest of the time
         * slice, a millisecond or two, while another processor is idle: to go on, and again to get the GIL back. */
        sched_yield();
        PyOS_AfterFork_Child();
        sched_yield();
        return 0;
    }
    int saved_errno = errno;
    PyOS_AfterFork_Parent();
    if (pid < 0) {
        errno = saved_errno;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return pid;
}

PyDoc_STRVAR(
    fork_doc,
    "fork() -> int\n\n"
    "Fork as os.fork() does, with CPython's own handlers run around it: 0 in the child, its pid in the parent.\n\n"
    "Raises OSError if the kernel refuses, RuntimeError in a subinterpreter or (from Python 3.12 on) while the\n"
    "interpreter ends. From 3.12 on it warns, as os.fork() does, when several Python threads run.");

static PyObject *process_fork(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    pid_t pid = fork_process(fork);
    return pid < 0 ? NULL : PyLong_FromLong((long)pid);
}

PyDoc_STRVAR(fork_sibling_doc, "fork_sibling() -> int\n\n"
                               "Fork this process, which must have one thread, so that the child is a child of its "
                               "parent: the child's pid, and 0 in\n"
                               "the child. Handlers of pthread_atfork() do not run, CPython's do. Raises as fork() "
                               "does, and OSError(ENOSYS) where\n"
                               "the C library cannot be told of it.");

static pid_t fork_sibling(void) {
    return goproc_fork_sibling(NULL);
}

static PyObject *process_fork_sibling(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    pid_t pid = fork_process(fork_sibling);
    return pid < 0 ? NULL : PyLong_FromLong((long)pid);
}

/* ---- the lifeline ------------------------------------------------------------------------------------------------ */

/* Makes the lifeline, if this process has none, or if the program has closed it. Returns 0, or -1 with errno set. */
static int make_lifeline(void) {
    int ends[2];
    if (lifeline.mark) {
        if (goproc_mark(lifeline.write) == lifeline.mark && goproc_mark(lifeline.read) == lifeline.mark)
            return 0;
        goproc_close_marked(lifeline.read,
                            lifeline.mark); /* the write end stays: it keeps those who have the other one */
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

/* A descriptor of the lifeline for a child that only watches it, for which a duplicate does. */
static int watched_lifeline(void) {
    return fcntl(lifeline.read, F_DUPFD_CLOEXEC, 3);
}

PyDoc_STRVAR(
    duplicate_lifeline_doc,
    "duplicate_lifeline() -> int\n\n"
    "A new descriptor of the read end of this process's lifeline, a pipe that comes to its end when this process "
    "is\ngone. The caller closes it. Raises OSError.");

static PyObject *process_duplicate_lifeline(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    int fd = make_lifeline() < 0 ? -1 : watched_lifeline();
    if (fd < 0) {
        goproc_raise_errno("pipe2", "for the lifeline of a child process");
        return NULL;
    }
    return PyLong_FromLong(fd);
}

/* Opens the lifeline anew. The owner of the signal belongs to the open file description, which a forked child shares
 * with its siblings: so each child needs one of its own. Returns the descriptor, or -1 with errno set. */
int goproc_open_lifeline(int fd) {
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return goproc_move_above_streams(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
}

/* Has the kernel send this process signum when the parent is gone. Returns 0, or -1 with errno set. */
int goproc_arm_lifeline(int own, int signum) {
    /* The order matters: a parent that dies before O_ASYNC is set is seen by poll(), one that dies after it by the
     * kernel. */
    int flags = fcntl(own, F_GETFL);
    if (flags < 0 || fcntl(own, F_SETOWN, getpid()) < 0 || fcntl(own, F_SETSIG, signum) < 0 ||
        fcntl(own, F_SETFL, flags | O_ASYNC) < 0)
        return -1;
    struct pollfd hangup = {.fd = own, .events = POLLIN};
    if (poll(&hangup, 1, 0) == 1)
        kill(getpid(), signum);
    return 0;
}

/* Has this process killed when its parent is gone, by the kernel if its descriptor of the lifeline can be armed. Where
 * neither that nor a thread can be had, it is not: multiprocessing's daemons are not either. */
static void end_with_parent(int own, int armable) {
    if (!armable || goproc_arm_lifeline(own, SIGKILL) < 0)
        (void)goproc_watch_lifeline(own);
}

PyDoc_STRVAR(
    lifeline_doc,
    "lifeline(fd, daemon) -> int\n\n"
    "Return this process's own descriptor of the lifeline, the pipe that only the parent can write to, of which fd is\n"
    "one. It becomes readable when the parent is gone. A daemon is then killed, whatever it is doing; if the parent "
    "is\n"
    "gone already, by this call. fd stays open. Raises OSError.");

static PyObject *process_lifeline(PyObject *Py_UNUSED(module), PyObject *args) {
    int fd, daemon;
    if (!PyArg_ParseTuple(args, "ip:lifeline", &fd, &daemon))
        return NULL;
    int own = goproc_open_lifeline(fd), armable = own >= 0;
    if (!armable)
        own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (daemon)
        end_with_parent(own, armable);
    return PyLong_FromLong(own);
}

/* ---- forked children, in seats ------------------------------------------------------------------------------------
 *
 * The whole of starting, joining, signalling and giving up a forked child, without a call into Go: see goproc.h. */

/* Makes the seats and the lifeline, if this process has none. Returns 0, or -1 with errno set. */
static int make_seats(void) {
    if (make_lifeline() < 0)
        return -1;
    if (seats)
        return 0;
    void *memory = mmap(NULL, sizeof *seats, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -1;
    seats = memory;
    seats->epoll = -1;
    hand_over_seats();
    return 0;
}

static void lock_seat(goproc_seat *seat) {
    uint32_t free_lock = 0;
    while (!__atomic_compare_exchange_n(&seat->lock, &free_lock, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        free_lock = 0;
        sched_yield(); /* the engine is in a system call that does not wait */
    }
}

static void unlock_seat(goproc_seat *seat) {
    __atomic_store_n(&seat->lock, 0, __ATOMIC_RELEASE);
}

/* Returns the seat of the id, locked, or NULL if the engine must be asked, because it has an entry for it or because
 * nobody sits there any more. */
static goproc_seat *acquire_seat(long long id) {
    if (id >= 0 || !seats)
        return NULL;
    goproc_seat *seat = &seats->seats[(-1 - id) % GOPROC_SEAT_COUNT];
    lock_seat(seat);
    if (seat->generation == (uint32_t)((-1 - id) / GOPROC_SEAT_COUNT) && !seat->adopted && occupied(seat))
        return seat;
    unlock_seat(seat);
    return NULL;
}

static void watch_seat(goproc_seat *seat, int operation) {
    struct epoll_event event = {.events = EPOLLIN};
    event.data.u64 = (uint64_t)(-1 - ((long long)seat->generation * GOPROC_SEAT_COUNT + (seat - seats->seats)));
    int epoll = __atomic_load_n(&seats->epoll, __ATOMIC_SEQ_CST);
    if (epoll >= 0 && goproc_mark(seat->sentinel) == seat->mark &&
        goproc_mark(__atomic_load_n(&seats->witness, __ATOMIC_SEQ_CST)) ==
            __atomic_load_n(&seats->mark, __ATOMIC_SEQ_CST))
        epoll_ctl(epoll, operation, seat->sentinel, &event);
}

/* Reaps the child if it has ended, and returns whether it has. The seat is locked. A status that somebody else has
 * taken is unknown: "still running" would make join() wait for ever. */
static int look_at_seat(goproc_seat *seat) {
    if (seat->state != GOPROC_SEAT_RUNNING)
        return 1;
    int how;
    pid_t reaped;
    while ((reaped = waitpid(seat->pid, &how, WNOHANG)) < 0 && errno == EINTR)
        ;
    if (reaped == 0)
        return 0;
    if (reaped < 0)
        seat->status = GOPROC_STATUS_UNKNOWN;
    else
        seat->status = WIFSIGNALED(how) ? -WTERMSIG(how) : WEXITSTATUS(how);
    watch_seat(seat, EPOLL_CTL_DEL);
    __atomic_store_n(&seat->state, GOPROC_SEAT_ENDED, __ATOMIC_RELEASE);
    return 1;
}

/* Gives the seat of a child that has ended back. It is locked. */
static void vacate_seat(goproc_seat *seat) {
    goproc_close_marked(seat->sentinel, seat->mark);
    __atomic_store_n(&seat->state, GOPROC_SEAT_FREE, __ATOMIC_RELEASE);
}

/* Gives back the seats of children that were given up before they had ended, and have ended since. */
static void vacate_forgotten(void) {
    some_forgotten = 0;
    for (int32_t i = 0; i < seats->highest; i++) {
        goproc_seat *seat = &seats->seats[i];
        lock_seat(seat);
        if (seat->forgotten && !seat->adopted && occupied(seat)) {
            if (look_at_seat(seat))
                vacate_seat(seat);
            else
                some_forgotten = 1;
        }
        unlock_seat(seat);
    }
}

static goproc_seat *free_seat(void) {
    static int32_t next;
    for (int32_t tried = 0; tried < GOPROC_SEAT_COUNT; tried++, next++) {
        /* The low ones first, so that a child has few to look at. */
        if (next >= GOPROC_SEAT_COUNT || tried == 0)
            next = 0;
        goproc_seat *seat = &seats->seats[next];
        if (__atomic_load_n(&seat->state, __ATOMIC_ACQUIRE) == GOPROC_SEAT_FREE)
            return seat;
    }
    return NULL;
}

static int known_pidfds; /* 1: processes have pidfds here; -1: they have not; 0: not known */

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

/* Opens the pidfd of a child that has just been forked. The reserve is closed if that gives it room. A child that has
 * ended and been reaped by somebody else has none: what stands in for it is always readable. */
static int open_pidfd(pid_t pid, int *reserve, int *reaped) {
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

/* Makes the tether of a child about to be forked: ends[0] is to be the sentinel. Returns 0, or -1 with errno set. */
static int make_tether(int ends[2]) {
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

/* Looks at a child without reaping it: 1 if it has ended, 0 if it runs, -1 with errno ECHILD if it has been reaped, and
 * the number may be another process's. */
static int look_at_child(pid_t pid) {
    siginfo_t info = {.si_pid = 0};
    int failed;
    while ((failed = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0) && errno == EINTR)
        ;
    if (!failed)
        return info.si_pid != 0;
    if (errno == ECHILD)
        return -1;
    /* The call is refused. */
    struct pollfd pidfd = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    int ended = pidfd.fd >= 0 && poll(&pidfd, 1, 0) == 1;
    if (pidfd.fd >= 0)
        close(pidfd.fd);
    return ended;
}

int goproc_child_has_ended(pid_t pid) {
    return look_at_child(pid) != 0;
}

void goproc_end_child(pid_t pid) {
    if (look_at_child(pid) < 0)
        return;
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

int goproc_has_seats(void) {
    if (make_seats() < 0) {
        goproc_raise_errno(lifeline.mark ? "mmap" : "pipe2", "to start child processes");
        return -1;
    }
    return !__atomic_load_n(&seats->refused, __ATOMIC_ACQUIRE);
}

/* Reserves a seat: other threads may run before the fork, and start a process, too. NULL if the engine refuses, or has
 * no seat left, or with an exception set. */
static goproc_seat *reserve_seat(void) {
    if (goproc_has_seats() <= 0)
        return NULL;
    if (some_forgotten)
        vacate_forgotten();
    goproc_seat *seat = free_seat();
    if (seat)
        __atomic_store_n(&seat->state, GOPROC_SEAT_TAKEN, __ATOMIC_RELEASE);
    return seat;
}

static void leave_seat(goproc_seat *seat) {
    __atomic_store_n(&seat->state, GOPROC_SEAT_FREE, __ATOMIC_RELEASE);
}

/* Puts what is known of a child into the record. Returns 0, or -1 with an exception set. */
static int note_child(PyObject *record, long long id, pid_t pid, int sentinel) {
    PyObject *known[] = {PyLong_FromLongLong(id), PyLong_FromLong((long)pid), PyLong_FromLong(sentinel)};
    int failed = !known[0] || !known[1] || !known[2];
    for (int i = 0; i < 3; i++) {
        if (failed)
            Py_XDECREF(known[i]);
        else
            failed = PyList_SetItem(record, i, known[i]) < 0;
    }
    return failed ? -1 : 0;
}

/* A number that is given out again was not ours any more: somebody else had waited for that child. */
static void give_up_number(pid_t pid) {
    for (int32_t i = 0; i < seats->highest; i++) {
        goproc_seat *seat = &seats->seats[i];
        if (seat->pid != pid)
            continue;
        lock_seat(seat);
        if (seat->state == GOPROC_SEAT_RUNNING) {
            seat->status = GOPROC_STATUS_UNKNOWN;
            __atomic_store_n(&seat->state, GOPROC_SEAT_ENDED, __ATOMIC_RELEASE);
        }
        unlock_seat(seat);
    }
}

/* Gives the child the reserved seat, and notes it. tether is the read end of the child's, -1 if it has a pidfd. Returns
 * 0, or -1 with an exception set: then the child has been ended. The reserve is closed. */
static int take_seat(goproc_seat *seat, pid_t pid, int tether_end, int reserve, PyObject *record) {
    int reaped = 0, sentinel = tether_end >= 0 ? tether_end : open_pidfd(pid, &reserve, &reaped);
    int error = errno;
    if (reserve >= 0)
        close(reserve);
    if (sentinel < 0) {
        goproc_end_child(pid);
        leave_seat(seat);
        known_pidfds = 0; /* a sandbox may have been set up since */
        errno = error;
        goproc_raise_errno("pidfd_open", "to watch a child process");
        return -1;
    }
    give_up_number(pid);
    lock_seat(seat);
    seat->generation++;
    seat->pid = (int32_t)pid;
    seat->sentinel = sentinel;
    seat->mark = goproc_mark(sentinel);
    seat->adopted = 0;
    seat->forgotten = 0;
    seat->status = GOPROC_STATUS_UNKNOWN;
    int32_t index = (int32_t)(seat - seats->seats);
    if (index >= seats->highest)
        __atomic_store_n(&seats->highest, index + 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&seat->state, reaped ? GOPROC_SEAT_ENDED : GOPROC_SEAT_RUNNING, __ATOMIC_RELEASE);
    if (!reaped)
        watch_seat(seat, EPOLL_CTL_ADD);
    unlock_seat(seat);
    __atomic_fetch_add(&seats->started, 1, __ATOMIC_RELAXED);
    if (note_child(record, -1 - ((long long)seat->generation * GOPROC_SEAT_COUNT + index), pid, sentinel) < 0) {
        kill(pid, SIGKILL); /* nobody will know of it */
        lock_seat(seat);
        seat->forgotten = some_forgotten = 1;
        unlock_seat(seat);
        return -1;
    }
    return 0;
}

int goproc_take_on(pid_t pid, PyObject *record) {
    goproc_seat *seat = reserve_seat();
    if (!seat) {
        goproc_end_child(pid);
        return PyErr_Occurred() ? -1 : 0;
    }
    return take_seat(seat, pid, -1, -1, record) < 0 ? -1 : 1;
}

PyDoc_STRVAR(take_on_doc,
             "take_on(pid) -> [id, pid, pidfd]\n\n"
             "Give a child of this process, which nobody waits for, a seat; the descriptor is the seat's.\n\n"
             "Raises OSError when there is no seat or no descriptor left; then the child has been ended.");

static PyObject *process_take_on(PyObject *Py_UNUSED(module), PyObject *argument) {
    long pid = PyLong_AsLong(argument);
    if (pid == -1 && PyErr_Occurred())
        return NULL;
    PyObject *record = Py_BuildValue("[OOO]", Py_None, Py_None, Py_None);
    int taken = record ? goproc_take_on((pid_t)pid, record) : -1;
    if (taken == 0) {
        errno = EAGAIN;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    if (taken <= 0)
        Py_CLEAR(record);
    return record;
}

int goproc_child_lifeline(int *armed) {
    int own = goproc_open_lifeline(lifeline.read);
    /* There may be no /proc; and this process may have changed its user since it made the lifeline, which belongs to
     * the old user. */
    if (own < 0 && errno != EMFILE && errno != ENFILE) {
        *armed = 0;
        return watched_lifeline();
    }
    *armed = own >= 0 && fcntl(own, F_SETSIG, SIGKILL) == 0;
    return own;
}

static int collecting; /* whether garbage is to be collected again */

void goproc_put_off_collecting(void) {
    collecting = PyGC_Disable();
}

PyDoc_STRVAR(put_off_collecting_doc,
             "put_off_collecting() -> None\n\n"
             "In a forked child: collect no garbage until collect_again(), that is, until the process's own code runs. "
             "What\nwould be looked at, and copied by that, is old.");

static PyObject *process_put_off_collecting(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    goproc_put_off_collecting();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(collect_again_doc, "collect_again() -> None\n\n"
                                "Let the collector be as it was before put_off_collecting().");

static PyObject *process_collect_again(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    if (collecting)
        PyGC_Enable();
    collecting = 0;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    start_doc,
    "start(daemon, record) -> bool\n\n"
    "Fork a child. record is a list of three: in the parent, it is filled with the child's id, its pid and its\n"
    "sentinel; in the child, with 0, 0 and its descriptor of the lifeline, after put_off_collecting(). A daemonic\n"
    "child is killed when its parent is gone. False: nothing was done, for the engine refuses, or no seat is left.\n\n"
    "record is filled before a signal handler can run, so that whatever that raises the child is known. Raises\n"
    "what fork() raises, and OSError when there is no descriptor left: then there is no child.");

static PyObject *process_start(PyObject *Py_UNUSED(module), PyObject *args) {
    int daemon;
    PyObject *record;
    if (!PyArg_ParseTuple(args, "pO!:start", &daemon, &PyList_Type, &record))
        return NULL;
    goproc_seat *seat = reserve_seat();
    if (!seat) {
        if (PyErr_Occurred())
            return NULL;
        Py_RETURN_FALSE;
    }
    /* The child's lifeline is opened here: so what lacks a descriptor fails before there is a child. */
    int armed = 0, own = daemon ? goproc_child_lifeline(&armed) : watched_lifeline();
    int ends[2] = {-1, -1};
    if (own < 0 || (!goproc_have_pidfds() && make_tether(ends) < 0)) {
        goproc_raise_errno(own < 0 ? "open" : "pipe2", "to watch a child process");
        if (own >= 0)
            close(own);
        leave_seat(seat);
        return NULL;
    }
    pid_t pid = fork_process(fork);
    if (pid == 0) {
        if (ends[0] >= 0) {
            close(ends[0]);
            keep_tether(ends[1]);
        }
        if (daemon)
            end_with_parent(own, armed);
        if (note_child(record, 0, 0, own) < 0)
            _exit(1); /* the child must not go on as its parent, whatever fails */
        goproc_put_off_collecting();
        Py_RETURN_TRUE;
    }
    if (ends[1] >= 0)
        close(ends[1]);
    if (pid < 0) {
        close(own);
        if (ends[0] >= 0)
            close(ends[0]);
        leave_seat(seat);
        return NULL;
    }
    if (take_seat(seat, pid, ends[0], own, record) < 0)
        return NULL;
    Py_RETURN_TRUE;
}

PyDoc_STRVAR(
    exit_code_doc,
    "exit_code(id) -> int | None | NotImplemented\n\n"
    "The exit code of a child that start() started, or minus the number of the signal that ended it; None while "
    "it\nruns; NotImplemented if the engine must be asked.");

static PyObject *process_exit_code(PyObject *Py_UNUSED(module), PyObject *arg) {
    long long id = PyLong_AsLongLong(arg);
    if (id == -1 && PyErr_Occurred())
        return NULL;
    goproc_seat *seat = acquire_seat(id);
    if (!seat)
        Py_RETURN_NOTIMPLEMENTED;
    int ended = look_at_seat(seat), status = seat->status;
    unlock_seat(seat);
    if (!ended)
        Py_RETURN_NONE;
    return PyLong_FromLong(status);
}

PyDoc_STRVAR(forget_doc, "forget(id) -> bool\n\n"
                         "Give back what start() took, pidfd included, as soon as the child has ended. False: the "
                         "engine must be told.");

static PyObject *process_forget(PyObject *Py_UNUSED(module), PyObject *arg) {
    long long id = PyLong_AsLongLong(arg);
    if (id == -1 && PyErr_Occurred())
        return NULL;
    goproc_seat *seat = acquire_seat(id);
    if (!seat)
        Py_RETURN_FALSE;
    if (look_at_seat(seat))
        vacate_seat(seat);
    else
        seat->forgotten = some_forgotten = 1;
    unlock_seat(seat);
    Py_RETURN_TRUE;
}

PyDoc_STRVAR(send_signal_doc, "send_signal(id, signum) -> bool\n\n"
                              "Send a child that start() started a signal, unless it has ended. False: the engine must "
                              "be asked.\nRaises OSError.");

static PyObject *process_send_signal(PyObject *Py_UNUSED(module), PyObject *args) {
    long long id;
    int signum, failed = 0;
    if (!PyArg_ParseTuple(args, "Li:send_signal", &id, &signum))
        return NULL;
    goproc_seat *seat = acquire_seat(id);
    if (!seat)
        Py_RETURN_FALSE;
    /* The number is the child's as long as nobody has reaped it, and we do not while the seat is locked. */
    if (seat->state == GOPROC_SEAT_RUNNING && look_at_child(seat->pid) == 0)
        failed = kill(seat->pid, signum) < 0 && errno != ESRCH;
    unlock_seat(seat);
    if (failed) {
        goproc_raise_errno("kill", "to send a child process a signal");
        return NULL;
    }
    Py_RETURN_TRUE;
}

PyDoc_STRVAR(counts_doc, "counts() -> (int, int)\n\n"
                         "How many children start() has started in this process, and how many of those that the engine "
                         "has no entry for run.");

static PyObject *process_counts(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    int running = 0;
    for (int32_t i = 0; seats && i < seats->highest; i++) {
        goproc_seat *seat = &seats->seats[i];
        lock_seat(seat);
        running += occupied(seat) && !seat->adopted && !look_at_seat(seat);
        unlock_seat(seat);
    }
    return Py_BuildValue("(Li)", seats ? (long long)seats->started : 0LL, running);
}

extern char **environ;

PyDoc_STRVAR(environment_doc, "environment() -> list[bytes]\n\n"
                              "What execv() passes to a program now, as NAME=value.");

static PyObject *process_environment(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    PyObject *list = PyList_New(0);
    for (char **at = environ; list && at && *at; at++) {
        PyObject *variable = PyBytes_FromString(*at);
        if (!variable || PyList_Append(list, variable) < 0)
            Py_CLEAR(list);
        Py_XDECREF(variable);
    }
    return list;
}

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

static double monotonic_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Waits for the end of a child without its sentinel, which is lost or may fire too soon. Returns as
 * wait_until_readable. */
static int wait_for_child(pid_t pid, PyObject *timeout_arg) {
    double timeout = timeout_arg == Py_None ? -1 : PyFloat_AsDouble(timeout_arg);
    if (PyErr_Occurred())
        return -1;
    double deadline = monotonic_seconds() + timeout;
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
        } else if (!(ended = look_at_child(pid) != 0)) {
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

/* Waits until fd is readable: see wait_readable(). Returns 1, 0 if the timeout is over, or -1 with an exception set. */
static int wait_until_readable(int fd, PyObject *timeout_arg) {
    double timeout = -1, deadline = 0;
    int bounded = timeout_arg != Py_None;
    if (bounded) {
        timeout = PyFloat_AsDouble(timeout_arg);
        if (timeout == -1 && PyErr_Occurred())
            return -1;
        if (isnan(timeout)) {
            PyErr_SetString(PyExc_ValueError, "timeout is not a number");
            return -1;
        }
        if (timeout < 0)
            timeout = 0;
        if (timeout > 1e8) /* three years: beyond what timespec is sure to hold everywhere, and for ever in practice */
            bounded = 0;
        deadline = monotonic_seconds() + timeout;
    }

    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    for (;;) {
        struct timespec left = {0};
        if (bounded) {
            left.tv_sec = (time_t)timeout;
            left.tv_nsec = (long)((timeout - (double)left.tv_sec) * 1e9);
        }
        int ready, error;
        Py_BEGIN_ALLOW_THREADS;
        ready = ppoll(&wanted, 1, bounded ? &left : NULL, NULL);
        if (ready < 0 && (errno == ENOSYS || errno == EPERM)) { /* a sandbox refuses it */
            int most = 1 << 30, milliseconds = !bounded                ? -1
                                               : timeout < most / 1000 ? (int)(timeout * 1e3 + 0.999)
                                                                       : most;
            ready = poll(&wanted, 1, milliseconds);
        }
        error = errno;
        Py_END_ALLOW_THREADS;
        if (ready > 0) {
            if (wanted.revents & POLLNVAL) {
                errno = EBADF;
                PyErr_SetFromErrno(PyExc_OSError);
                return -1;
            }
            return 1;
        }
        if (ready < 0) {
            if (error != EINTR) {
                errno = error;
                PyErr_SetFromErrno(PyExc_OSError);
                return -1;
            }
            if (PyErr_CheckSignals() < 0)
                return -1;
        }
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

PyDoc_STRVAR(
    wait_readable_doc,
    "wait_readable(fd, timeout) -> bool\n\n"
    "Wait until fd is readable or at its end (True), or until timeout seconds have passed (False). A timeout of None\n"
    "waits for ever, one that is not positive only looks. The GIL is released; signal handlers run while it waits,\n"
    "and what they raise ends the wait. Raises OSError(EBADF) if fd is not open.");

static PyObject *process_wait_readable(PyObject *Py_UNUSED(module), PyObject *args) {
    int fd;
    PyObject *timeout_arg;
    if (!PyArg_ParseTuple(args, "iO:wait_readable", &fd, &timeout_arg))
        return NULL;
    int ready = wait_until_readable(fd, timeout_arg);
    return ready < 0 ? NULL : PyBool_FromLong(ready);
}

PyDoc_STRVAR(join_doc,
             "join(id, timeout) -> int | None | NotImplemented\n\n"
             "Wait for the end of a child that start() started, as wait_readable() does, and return what exit_code() "
             "returns.\nMeanwhile the engine's reaper is not woken for it.");

static PyObject *process_join(PyObject *Py_UNUSED(module), PyObject *args) {
    long long id;
    PyObject *timeout;
    if (!PyArg_ParseTuple(args, "LO:join", &id, &timeout))
        return NULL;
    goproc_seat *seat = acquire_seat(id);
    if (!seat)
        Py_RETURN_NOTIMPLEMENTED;
    int ended = look_at_seat(seat), status = seat->status, sentinel = seat->sentinel;
    pid_t pid = seat->pid;
    int usable = !ended && goproc_have_pidfds() && goproc_mark(sentinel) == seat->mark;
    if (!ended)
        watch_seat(seat, EPOLL_CTL_DEL);
    unlock_seat(seat);
    if (ended)
        return PyLong_FromLong(status);

    int ready = usable ? wait_until_readable(sentinel, timeout) : wait_for_child(pid, timeout);
    if (!(seat = acquire_seat(id))) {
        if (ready < 0)
            return NULL;
        Py_RETURN_NOTIMPLEMENTED;
    }
    ended = look_at_seat(seat), status = seat->status;
    if (!ended)
        watch_seat(seat, EPOLL_CTL_ADD);
    unlock_seat(seat);
    if (ready < 0)
        return NULL;
    if (!ended)
        Py_RETURN_NONE;
    return PyLong_FromLong(status);
}

/* ---- the module's part ------------------------------------------------------------------------------------------- */

PyMethodDef goproc_process_methods[] = {
    {"engine_state", process_engine_state, METH_NOARGS, engine_state_doc},
    {"save_limits", process_save_limits, METH_NOARGS, save_limits_doc},
    {"hold_signals", process_hold_signals, METH_NOARGS, hold_signals_doc},
    {"release_signals", process_release_signals, METH_NOARGS, release_signals_doc},
    {"take_on", process_take_on, METH_O, take_on_doc},
    {"attach", process_attach, METH_O, attach_doc},
    {"mark", process_mark, METH_O, mark_doc},
    {"have_pidfds", process_have_pidfds, METH_NOARGS, have_pidfds_doc},
    {"keep_tether", process_keep_tether, METH_O, keep_tether_doc},
    {"mend_runtime", process_mend_runtime, METH_NOARGS, mend_runtime_doc},
    {"fork", process_fork, METH_NOARGS, fork_doc},
    {"fork_sibling", process_fork_sibling, METH_NOARGS, fork_sibling_doc},
    {"duplicate_lifeline", process_duplicate_lifeline, METH_NOARGS, duplicate_lifeline_doc},
    {"lifeline", process_lifeline, METH_VARARGS, lifeline_doc},
    {"start", process_start, METH_VARARGS, start_doc},
    {"put_off_collecting", process_put_off_collecting, METH_NOARGS, put_off_collecting_doc},
    {"collect_again", process_collect_again, METH_NOARGS, collect_again_doc},
    {"exit_code", process_exit_code, METH_O, exit_code_doc},
    {"forget", process_forget, METH_O, forget_doc},
    {"join", process_join, METH_VARARGS, join_doc},
    {"send_signal", process_send_signal, METH_VARARGS, send_signal_doc},
    {"counts", process_counts, METH_NOARGS, counts_doc},
    {"environment", process_environment, METH_NOARGS, environment_doc},
    {"wait_readable", process_wait_readable, METH_VARARGS, wait_readable_doc},
    {NULL, NULL, 0, NULL},
};

int goproc_init_process(PyObject *module) {
    static int handler_installed;
    if (!handler_installed) {
        int error = pthread_atfork(NULL, NULL, in_forked_child);
        if (error) {
            errno = error;
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        handler_installed = 1;
    }
    return PyModule_AddFunctions(module, goproc_process_methods);
}
