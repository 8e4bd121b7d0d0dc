/* seats.c - forked children, in seats: starting, signalling and giving them up, and their exit codes.
 *
 * None of this needs an engine, or a call into Go: see goproc.h. An engine that is loaded later is given the seats, and
 * watches the children in them. It may adopt a child: from then on it must be asked about that child. A forked child
 * gives up its parent's seats. wait.c has join().
 */
#include "process.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static goproc_seats *seats; /* NULL until this process forks its first child */
static int some_forgotten;  /* whether there was a running child that had been given up, at the last look */

static int occupied(const goproc_seat *seat) {
    int32_t state = __atomic_load_n(&seat->state, __ATOMIC_ACQUIRE);
    return state == GOPROC_SEAT_RUNNING || state == GOPROC_SEAT_ENDED;
}

/* In a forked child: gives up the seats, which are its parent's. */
static void let_go(void) {
    if (seats) {
        for (int32_t i = 0; i < seats->highest; i++)
            if (occupied(&seats->seats[i]))
                goproc_close_marked(seats->seats[i].sentinel, seats->seats[i].mark);
        munmap(seats, sizeof *seats);
        seats = NULL;
        some_forgotten = 0;
    }
}

void goproc_hand_over_seats(void) {
    if (seats && goproc_offer_seats(seats) < 0)
        __atomic_store_n(&seats->refused, 1, __ATOMIC_RELEASE);
}

/* Makes the seats, if this process has none. Returns 0, or -1 with errno set. */
static int make_seats(void) {
    if (seats)
        return 0;
    void *memory = mmap(NULL, sizeof *seats, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -1;
    seats = memory;
    seats->epoll = -1;
    goproc_hand_over_seats();
    return 0;
}

int goproc_has_seats(void) {
    const char *failed = goproc_make_lifeline() < 0 ? "pipe2" : make_seats() < 0 ? "mmap" : NULL;
    if (failed) {
        goproc_raise_errno(failed, "to start child processes");
        return -1;
    }
    return !__atomic_load_n(&seats->refused, __ATOMIC_ACQUIRE);
}

/* ---- one seat ---------------------------------------------------------------------------------------------------- */

static void lock_seat(goproc_seat *seat) {
    uint32_t free_lock = 0;
    while (!__atomic_compare_exchange_n(&seat->lock, &free_lock, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        free_lock = 0;
        sched_yield(); /* the engine holds the lock, for a system call that does not wait */
    }
}

void goproc_unlock_seat(goproc_seat *seat) {
    __atomic_store_n(&seat->lock, 0, __ATOMIC_RELEASE);
}

goproc_seat *goproc_acquire_seat(long long id) {
    if (id >= 0 || !seats)
        return NULL;
    goproc_seat *seat = &seats->seats[(-1 - id) % GOPROC_SEAT_COUNT];
    lock_seat(seat);
    if (seat->generation == (uint32_t)((-1 - id) / GOPROC_SEAT_COUNT) && !seat->adopted && occupied(seat))
        return seat;
    goproc_unlock_seat(seat);
    return NULL;
}

void goproc_watch_seat(goproc_seat *seat, int operation) {
    struct epoll_event event = {.events = EPOLLIN};
    event.data.u64 = (uint64_t)(-1 - ((long long)seat->generation * GOPROC_SEAT_COUNT + (seat - seats->seats)));
    int epoll = __atomic_load_n(&seats->epoll, __ATOMIC_SEQ_CST);
    if (epoll >= 0 && goproc_mark(seat->sentinel) == seat->mark &&
        goproc_mark(__atomic_load_n(&seats->witness, __ATOMIC_SEQ_CST)) ==
            __atomic_load_n(&seats->mark, __ATOMIC_SEQ_CST))
        epoll_ctl(epoll, operation, seat->sentinel, &event);
}

/* If somebody else has reaped the child, its status is unknown. With "still running", join() would wait for ever. */
int goproc_look_at_seat(goproc_seat *seat) {
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
    goproc_watch_seat(seat, EPOLL_CTL_DEL);
    __atomic_store_n(&seat->state, GOPROC_SEAT_ENDED, __ATOMIC_RELEASE);
    return 1;
}

/* Gives back the seat of a child that has ended. The seat is locked. */
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
            if (goproc_look_at_seat(seat))
                vacate_seat(seat);
            else
                some_forgotten = 1;
        }
        goproc_unlock_seat(seat);
    }
}

static goproc_seat *free_seat(void) {
    static int32_t next;
    for (int32_t tried = 0; tried < GOPROC_SEAT_COUNT; tried++, next++) {
        /* The low numbers first, so that a forked child has few seats to look at. */
        if (next >= GOPROC_SEAT_COUNT || tried == 0)
            next = 0;
        goproc_seat *seat = &seats->seats[next];
        if (__atomic_load_n(&seat->state, __ATOMIC_ACQUIRE) == GOPROC_SEAT_FREE)
            return seat;
    }
    return NULL;
}

/* Reserves a seat, because other threads may run before the fork, and start a process, too. Returns NULL if the engine
 * refuses, or no seat is left; also NULL, with an exception set, after an error. */
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

/* ---- a child takes its seat -------------------------------------------------------------------------------------- */

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

/* A new child has this pid. If another child in a seat has the same pid, somebody else must have reaped that one: the
 * kernel does not use a number again before that. So the status of that child is unknown. */
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
        goproc_unlock_seat(seat);
    }
}

/* Gives the child the reserved seat, and fills in the record. tether_end is the read end of its tether, -1 if it has
 * a pidfd. reserve is a descriptor, or -1. It is closed, at the latest when the pidfd needs room. Returns 0, or -1
 * with an exception set: then the child has been ended. */
static int take_seat(goproc_seat *seat, pid_t pid, int tether_end, int reserve, PyObject *record) {
    int reaped = 0, sentinel = tether_end >= 0 ? tether_end : goproc_open_pidfd(pid, &reserve, &reaped);
    int error = errno;
    if (reserve >= 0)
        close(reserve);
    if (sentinel < 0) {
        goproc_end_child(pid);
        leave_seat(seat);
        goproc_doubt_pidfds(); /* a sandbox that refuses them may have been set up since */
        errno = error;
        goproc_raise_errno("pidfd_open", "to watch a child process");
        return -1;
    }
    give_up_number(pid);
    lock_seat(seat);
    /* Go reads these two without the lock, as hints: then it takes the lock, and looks again. */
    __atomic_store_n(&seat->generation, seat->generation + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&seat->adopted, 0, __ATOMIC_RELAXED);
    seat->pid = (int32_t)pid;
    seat->sentinel = sentinel;
    seat->mark = goproc_mark(sentinel);
    seat->forgotten = 0;
    seat->status = GOPROC_STATUS_UNKNOWN;
    int32_t index = (int32_t)(seat - seats->seats);
    if (index >= seats->highest)
        __atomic_store_n(&seats->highest, index + 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&seat->state, reaped ? GOPROC_SEAT_ENDED : GOPROC_SEAT_RUNNING, __ATOMIC_RELEASE);
    if (!reaped)
        goproc_watch_seat(seat, EPOLL_CTL_ADD);
    goproc_unlock_seat(seat);
    __atomic_fetch_add(&seats->started, 1, __ATOMIC_RELAXED);
    if (note_child(record, -1 - ((long long)seat->generation * GOPROC_SEAT_COUNT + index), pid, sentinel) < 0) {
        kill(pid, SIGKILL); /* the caller does not get to know of the child */
        lock_seat(seat);
        seat->forgotten = some_forgotten = 1;
        goproc_unlock_seat(seat);
        return -1;
    }
    return 0;
}

int goproc_take_on(pid_t pid, int tether_end, PyObject *record) {
    goproc_seat *seat = reserve_seat();
    if (!seat) {
        if (tether_end >= 0)
            close(tether_end);
        goproc_end_child(pid);
        return PyErr_Occurred() ? -1 : 0;
    }
    return take_seat(seat, pid, tether_end, -1, record) < 0 ? -1 : 1;
}

PyDoc_STRVAR(take_on_doc,
             "take_on($module, pid, tether_end=-1, /)\n--\n\n"
             "Give a child of this process a seat; return a list of its id, its pid and its sentinel. Nobody else may\n"
             "wait for the child. The seat owns the sentinel: a pidfd, or tether_end, the read end of its tether.\n\n"
             "Raises OSError when there is no seat or no descriptor left; then the child has been ended.");

static PyObject *seats_take_on(PyObject *Py_UNUSED(module), PyObject *args) {
    long pid;
    int tether_end = -1;
    if (!PyArg_ParseTuple(args, "l|i:take_on", &pid, &tether_end))
        return NULL;
    PyObject *record = Py_BuildValue("[OOO]", Py_None, Py_None, Py_None);
    int taken = record ? goproc_take_on((pid_t)pid, tether_end, record) : -1;
    if (taken == 0) {
        errno = EAGAIN;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    if (taken <= 0)
        Py_CLEAR(record);
    return record;
}

PyDoc_STRVAR(
    start_doc,
    "start(daemon, record) -> bool\n\n"
    "Fork a child. record is a list of three: in the parent, it is filled with the child's id, its pid and its\n"
    "sentinel; in the child, with 0, 0 and its descriptor of the lifeline, after put_off_collecting(). A daemonic\n"
    "child is killed when its parent is gone. False: nothing was done, since the engine refuses, or no seat is "
    "left.\n\n"
    "record is filled before a signal handler can run. So the child is known, whatever a handler raises. Raises what\n"
    "fork() raises, and OSError when there is no descriptor left: then there is no child.");

static PyObject *seats_start(PyObject *Py_UNUSED(module), PyObject *args) {
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
    /* The child's lifeline is opened before the fork: if no descriptor is left, this fails before there is a child. */
    int armed = 0, own = daemon ? goproc_child_lifeline(&armed) : goproc_watched_lifeline();
    int ends[2] = {-1, -1};
    if (own < 0 || (!goproc_have_pidfds() && goproc_make_tether(ends) < 0)) {
        goproc_raise_errno(own < 0 ? "open" : "pipe2", "to watch a child process");
        if (own >= 0)
            close(own);
        leave_seat(seat);
        return NULL;
    }
    pid_t pid = goproc_fork(fork);
    if (pid == 0) {
        if (ends[0] >= 0) {
            close(ends[0]);
            goproc_keep_tether(ends[1]);
        }
        if (daemon)
            goproc_end_with_parent(own, armed);
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

/* ---- a child in its seat ----------------------------------------------------------------------------------------- */

PyDoc_STRVAR(
    exit_code_doc,
    "exit_code(id) -> int | None | NotImplemented\n\n"
    "The exit code of a child that start() started, or minus the number of the signal that ended it; None while "
    "it\nruns; NotImplemented if the engine must be asked.");

static PyObject *seats_exit_code(PyObject *Py_UNUSED(module), PyObject *arg) {
    long long id = PyLong_AsLongLong(arg);
    if (id == -1 && PyErr_Occurred())
        return NULL;
    goproc_seat *seat = goproc_acquire_seat(id);
    if (!seat)
        Py_RETURN_NOTIMPLEMENTED;
    int ended = goproc_look_at_seat(seat), status = seat->status;
    goproc_unlock_seat(seat);
    if (!ended) {
        goproc_offer_gil();
        Py_RETURN_NONE;
    }
    return PyLong_FromLong(status);
}

PyDoc_STRVAR(forget_doc,
             "forget(id) -> bool\n\n"
             "Give back the seat and the sentinel of a child that start() started, when it has ended. False: "
             "the engine\nmust be told.");

static PyObject *seats_forget(PyObject *Py_UNUSED(module), PyObject *arg) {
    long long id = PyLong_AsLongLong(arg);
    if (id == -1 && PyErr_Occurred())
        return NULL;
    goproc_seat *seat = goproc_acquire_seat(id);
    if (!seat)
        Py_RETURN_FALSE;
    if (goproc_look_at_seat(seat))
        vacate_seat(seat);
    else
        seat->forgotten = some_forgotten = 1;
    goproc_unlock_seat(seat);
    Py_RETURN_TRUE;
}

PyDoc_STRVAR(send_signal_doc, "send_signal(id, signum) -> bool\n\n"
                              "Send a signal to a child that start() started, unless it has ended. False: the engine "
                              "must be asked.\nRaises OSError.");

static PyObject *seats_send_signal(PyObject *Py_UNUSED(module), PyObject *args) {
    long long id;
    int signum, failed = 0;
    if (!PyArg_ParseTuple(args, "Li:send_signal", &id, &signum))
        return NULL;
    goproc_seat *seat = goproc_acquire_seat(id);
    if (!seat)
        Py_RETURN_FALSE;
    /* The number belongs to the child until it has been reaped, and goproc does not reap it while the seat is
     * locked. */
    if (seat->state == GOPROC_SEAT_RUNNING && goproc_look_at_child(seat->pid) == 0)
        failed = kill(seat->pid, signum) < 0 && errno != ESRCH;
    goproc_unlock_seat(seat);
    if (failed) {
        goproc_raise_errno("kill", "to send a child process a signal");
        return NULL;
    }
    Py_RETURN_TRUE;
}

PyDoc_STRVAR(counts_doc, "counts() -> (int, int)\n\n"
                         "How many children start() has started in this process, and how many of them run, without "
                         "those that\nthe engine has adopted.");

static PyObject *seats_counts(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    int running = 0;
    for (int32_t i = 0; seats && i < seats->highest; i++) {
        goproc_seat *seat = &seats->seats[i];
        lock_seat(seat);
        running += occupied(seat) && !seat->adopted && !goproc_look_at_seat(seat);
        goproc_unlock_seat(seat);
    }
    return Py_BuildValue("(Li)", seats ? (long long)seats->started : 0LL, running);
}

/* ---- the module's part ------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"take_on", seats_take_on, METH_VARARGS, take_on_doc},
    {"start", seats_start, METH_VARARGS, start_doc},
    {"exit_code", seats_exit_code, METH_O, exit_code_doc},
    {"forget", seats_forget, METH_O, forget_doc},
    {"send_signal", seats_send_signal, METH_VARARGS, send_signal_doc},
    {"counts", seats_counts, METH_NOARGS, counts_doc},
    {NULL, NULL, 0, NULL},
};

int goproc_init_seats(PyObject *module) {
    if (goproc_on_fork_child(let_go) < 0)
        return -1;
    return PyModule_AddFunctions(module, methods);
}
