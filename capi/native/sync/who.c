/* who.c - which process holds or waits, and whether it still runs.
 *
 * Problem: a process that is killed cannot give up what it holds. The kernel's robust mutexes do not help: only the
 * owner can release one, and anybody can release multiprocessing's locks. Solution: a process that holds or waits
 * leaves its pid, and the time when it started, because pids are used again. Other processes look whether it still
 * runs. A process that has ended by itself leaves its locks locked, as with multiprocessing. It says at its end that it
 * ends by itself, or its parent says so when it reaps it, or the zombie's status shows it. Limits: a process of another
 * pid namespace cannot be looked at, and counts as running. Where /proc is missing, a process counts as running if
 * another one has got its pid.
 */
#define _GNU_SOURCE
#include "sync.h"
#include "../proc.h"

#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

/* ---- this process ------------------------------------------------------------------------------------------------ */

static goproc_who myself;
static char my_name[GOPROC_NAME_SIZE];
static unsigned known_at; /* goproc_generation when the two were noted, plus 1 */

/* Reads when a process started, whether it has ended, and its exit status: -1 if that is not known, and of use only if
 * the process has ended. Returns 0, or -1 if nothing can be read. */
static int look_at(uint32_t pid, uint32_t *started, int *ended, int *status) {
    enum { STARTED = 22, STATUS = 52 }; /* fields */
    goproc_stat stat;
    if (goproc_read_stat((pid_t)pid, &stat) < 0)
        return -1;
    const char *field = goproc_stat_field(&stat, STARTED);
    if (field)
        *started = (uint32_t)strtoull(field, NULL, 10);
    field = goproc_stat_field(&stat, STATUS);
    *status = field ? (int)strtol(field, NULL, 10) : -1;
    *ended = goproc_stat_has_ended(&stat);
    return 0;
}

/* Notes the process's name. If it cannot be read, errors do not have it. */
static void note_name(void) {
    my_name[0] = 0;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *module = PyDict_GetItemString(PyImport_GetModuleDict(), "multiprocessing.process");
    PyObject *process = module ? PyObject_CallMethod(module, "current_process", NULL) : NULL;
    PyObject *name = process ? PyObject_GetAttrString(process, "name") : NULL;
    const char *text = name && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
    if (text)
        snprintf(my_name, sizeof my_name, "%s", text);
    Py_XDECREF(name);
    Py_XDECREF(process);
    PyErr_Restore(type, value, traceback);
}

static void note_myself(void) {
    uint32_t started = 0, pid = (uint32_t)getpid();
    int ended, status;
    struct stat space;
    look_at(pid, &started, &ended, &status);
    atomic_store(&myself.started, started);
    atomic_store(&myself.space, stat("/proc/self/ns/pid", &space) == 0 ? (uint32_t)space.st_ino : 0);
    atomic_store(&myself.pid, pid);
    known_at = goproc_generation + 1;
}

const goproc_who *goproc_myself(void) {
    if (known_at != goproc_generation + 1) {
        note_myself();
        note_name();
    }
    return &myself;
}

const char *goproc_my_name(void) {
    return my_name;
}

uint32_t goproc_my_thread(void) {
    static _Thread_local __attribute__((tls_model("initial-exec"))) uint32_t id;
    static _Thread_local __attribute__((tls_model("initial-exec"))) unsigned noted_at;
    if (noted_at != goproc_generation + 1) {
        id = (uint32_t)syscall(SYS_gettid);
        noted_at = goproc_generation + 1;
    }
    return id;
}

void goproc_sign(goproc_who *who) {
    const goproc_who *me = goproc_myself();
    atomic_store_explicit(&who->started, atomic_load(&me->started), memory_order_relaxed);
    atomic_store_explicit(&who->space, atomic_load(&me->space), memory_order_relaxed);
    atomic_store_explicit(&who->thread, goproc_my_thread(), memory_order_relaxed);
    atomic_store_explicit(&who->pid, atomic_load(&me->pid), memory_order_release);
}

/* ---- other processes --------------------------------------------------------------------------------------------- */

/* Whether a zombie's status may be read: otherwise the kernel shows 0. */
static int may_read(uint32_t pid) {
    char path[32];
    struct stat status;
    snprintf(path, sizeof path, "/proc/%u", pid);
    return geteuid() == 0 || (stat(path, &status) == 0 && status.st_uid == geteuid());
}

static int fate_of_ended(uint32_t pid) {
    uint32_t started = 0;
    int ended, status = -1;
    if (look_at(pid, &started, &ended, &status) == 0 && ended && status >= 0 && may_read(pid))
        return (status & 0x7f) == 0 ? GOPROC_LEFT : GOPROC_KILLED;
    return GOPROC_KILLED;
}

/* Returns the fate as far as the pid tells it. */
static int fate_of_pid(uint32_t pid) {
    int fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
    if (fd < 0 && errno == ESRCH)
        return GOPROC_KILLED;
    if (fd >= 0) {
        struct pollfd wanted = {.fd = fd, .events = POLLIN};
        int ended = poll(&wanted, 1, 0) > 0;
        close(fd);
        return ended ? fate_of_ended(pid) : GOPROC_RUNS;
    }
    if (kill((pid_t)pid, 0) < 0 && errno == ESRCH) /* pidfd_open is refused */
        return GOPROC_KILLED;
    uint32_t started;
    int ended, status;
    return look_at(pid, &started, &ended, &status) == 0 && ended ? fate_of_ended(pid) : GOPROC_RUNS;
}

int goproc_fate(uint32_t pid, uint32_t started, uint32_t space) {
    const goproc_who *me = &myself;
    uint32_t my_space = atomic_load(&me->space), my_start = atomic_load(&me->started);
    if (pid == GOPROC_SOMEBODY || pid == 0)
        return GOPROC_RUNS;
    if (pid == atomic_load(&me->pid) && (!space || !my_space || space == my_space))
        return !started || !my_start || started == my_start ? GOPROC_RUNS : GOPROC_KILLED;
    if (space && my_space && space != my_space)
        return GOPROC_RUNS;
    int fate = fate_of_pid(pid);
    uint32_t now_started;
    int ended, status;
    if (fate == GOPROC_RUNS && started && look_at(pid, &now_started, &ended, &status) == 0 && now_started != started)
        return GOPROC_KILLED; /* another process has its pid */
    return fate;
}

int goproc_fate_of(const goproc_who *who) {
    uint32_t pid = atomic_load_explicit(&who->pid, memory_order_acquire);
    return goproc_fate(pid, atomic_load_explicit(&who->started, memory_order_relaxed),
                       atomic_load_explicit(&who->space, memory_order_relaxed));
}

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

uint32_t goproc_sync_spin_ns(void) {
    static int processors;
    if (!processors) {
        cpu_set_t set;
        processors = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    }
    return processors > 1 ? 50000 : 0;
}

int goproc_read_deadline(PyObject *timeout, uint64_t *deadline) {
    *deadline = 0;
    if (timeout == NULL || timeout == Py_None)
        return 0;
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1 && PyErr_Occurred())
        return -1;
    int is_bad = isnan(seconds) || seconds == INFINITY;
    if (is_bad || seconds < 0)
        seconds = 0;
    if (seconds < 1e9)
        *deadline = goproc_now_ns() + (uint64_t)(seconds * 1e9);
    return is_bad;
}

int goproc_gives_up(int block, uint64_t deadline) {
    if (block && (!deadline || goproc_now_ns() < deadline))
        return 0;
    goproc_offer_gil();
    return 1;
}

PyObject *goproc_raise_bad_timeout(void) {
    errno = EINVAL;
    return PyErr_SetFromErrno(PyExc_OSError);
}

PyObject *goproc_raise_as_select(PyObject *timeout) {
    PyObject *whole = PyLong_FromDouble(PyFloat_AsDouble(timeout));
    Py_XDECREF(whole); /* there is none */
    return NULL;
}
