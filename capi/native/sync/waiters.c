/* waiters.c - a list of those who wait at a Condition, or are inside a Barrier: the type behind both.
 *
 * Each thread that waits has an entry, with a word of its own to sleep on. So the notifying thread chooses whom it
 * wakes, and nobody else can take that notification. It passes over threads of processes that have ended. And nobody
 * waits until the others have woken up. Programs call wait(), enter() and notify() with the condition's lock held.
 *
 * A signal handler may raise between any two steps of Python code. So what has to be undone is done in one call, or by
 * an object of C whose deallocation undoes it: wait() never returns with an entry in the list.
 *
 * Limit: at most MOST_ENTRIES wait at the same time.
 */
#include "sync.h"

#include <string.h>

enum { MOST_ENTRIES = 1023, SOON_MS = 1000 };

enum { FREE, CLAIMED, WAITING, NOTIFIED };

typedef struct {
    _Atomic uint32_t state; /* the futex */
    _Atomic uint32_t since_ms;
    _Atomic uint64_t ticket; /* the order in which they came */
    goproc_who who;
} entry;

typedef struct {
    goproc_cell cell;
    _Atomic uint32_t used; /* entries behind these were never used */
    uint32_t reserved;
    _Atomic uint64_t tickets;
    uint8_t padding[8];
    entry entries[MOST_ENTRIES];
} waiters_cell;

typedef struct {
    PyObject_HEAD;
    goproc_home home;
    waiters_cell *cell;
    goproc_sync_spinner spinner;
} waiters;

static int check(waiters *self) {
    if (self->cell)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "the waiters have not been initialised");
    return -1;
}

static uint32_t used(waiters_cell *cell) {
    uint32_t count = atomic_load(&cell->used);
    return count < MOST_ENTRIES ? count : MOST_ENTRIES;
}

/* Frees the entries of processes that have ended. Returns how many of them waited. */
static int reap(waiters_cell *cell) {
    int freed = 0;
    for (uint32_t i = 0; i < used(cell); i++) {
        entry *at = &cell->entries[i];
        uint32_t state = atomic_load(&at->state);
        if (state != FREE && goproc_fate_of(&at->who) != GOPROC_RUNS &&
            atomic_compare_exchange_strong(&at->state, &state, FREE))
            freed += state != CLAIMED;
    }
    return freed;
}

static entry *claim(waiters_cell *cell) {
    for (int tries = 0; tries < 2; tries++) {
        for (uint32_t i = 0; i < MOST_ENTRIES; i++) {
            uint32_t state = FREE;
            if (i >= used(cell))
                atomic_store(&cell->used, i + 1);
            if (atomic_compare_exchange_strong(&cell->entries[i].state, &state, CLAIMED))
                return &cell->entries[i];
        }
        reap(cell);
    }
    return NULL;
}

/* Adds the calling thread to the list. Returns its entry, or NULL with an exception set. */
static entry *enter(waiters *self) {
    goproc_myself();
    entry *mine = claim(self->cell);
    if (!mine) {
        PyObject *error = Py_BuildValue("(is)", ENOSPC, "1023 processes or threads wait at the condition already");
        if (error)
            PyErr_SetObject(PyExc_OSError, error);
        Py_XDECREF(error);
        return NULL;
    }
    goproc_sign(&mine->who);
    atomic_store(&mine->since_ms, (uint32_t)(goproc_now_ns() / 1000000));
    atomic_store(&mine->ticket, atomic_fetch_add(&self->cell->tickets, 1));
    atomic_store(&mine->state, WAITING);
    return mine;
}

/* Returns whether the entry had been notified. */
static int leave(entry *mine) {
    return atomic_exchange(&mine->state, FREE) == NOTIFIED;
}

/* Returns the entry that has waited longest, of those whose process runs; NULL if there is none. */
static entry *first(waiters_cell *cell) {
    for (;;) {
        entry *found = NULL;
        for (uint32_t i = 0; i < used(cell); i++) {
            entry *at = &cell->entries[i];
            if (atomic_load(&at->state) == WAITING &&
                (!found || atomic_load(&at->ticket) < atomic_load(&found->ticket)))
                found = at;
        }
        if (!found)
            return NULL;
        /* It takes longer to find out whether the pid has been used again, and that does not happen so soon. */
        uint32_t waited_ms = (uint32_t)(goproc_now_ns() / 1000000) - atomic_load(&found->since_ms);
        if ((waited_ms < SOON_MS ? goproc_fate(atomic_load(&found->who.pid), 0, atomic_load(&found->who.space))
                                 : goproc_fate_of(&found->who)) == GOPROC_RUNS)
            return found;
        uint32_t state = WAITING;
        atomic_compare_exchange_strong(&found->state, &state, FREE);
    }
}

/* Notifies those that have waited longest, at most so many. Returns how many. */
static long notify(waiters_cell *cell, Py_ssize_t most) {
    long notified = 0;
    entry *next;
    while (notified < most && (next = first(cell))) {
        uint32_t state = WAITING;
        if (atomic_compare_exchange_strong(&next->state, &state, NOTIFIED)) {
            goproc_futex_wake_some(&next->state, 1);
            notified++;
        }
    }
    return notified;
}

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

/* Returns 1 when notified, 0 when the time is over, -1 for EINTR. *note is the note of the wait, which goes on after a
 * signal. */
static int sleep_on(waiters *self, entry *mine, uint64_t deadline, goproc_wait **note) {
    int how = 0;
    goproc_sync_spin(&self->spinner, &mine->state, WAITING);
    for (;;) {
        if (atomic_load(&mine->state) != WAITING) {
            how = 1;
            break;
        }
        if (!*note)
            *note = goproc_waits_for(GOPROC_WAIT_CONDITION, self->cell, 0, deadline);
        int error = goproc_nap(&mine->state, WAITING, deadline, GOPROC_NEXT_LOOK_NS);
        if (error && atomic_load(&mine->state) == WAITING) {
            how = error == EINTR ? -1 : 0;
            break;
        }
    }
    return how;
}

/* Waits until the entry is notified (1) or the time is over (0). Signal handlers run meanwhile. Returns -1 with the
 * exception of a handler set. */
static int wait_for_notification(waiters *self, entry *mine, uint64_t deadline) {
    goproc_wait *note = NULL;
    int how;
    do {
        Py_BEGIN_ALLOW_THREADS;
        how = sleep_on(self, mine, deadline, &note);
        Py_END_ALLOW_THREADS;
    } while (how < 0 && PyErr_CheckSignals() == 0);
    goproc_waits_no_longer(note);
    return how;
}

/* Calls a method of the lock, without arguments. Returns 0, or -1 with an exception set. */
static int call(PyObject *lock, const char *method) {
    PyObject *result = PyObject_CallMethod(lock, method, NULL);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* Returns the exception that is set, and clears it; NULL if none is. */
static PyObject *taken_exception(void) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (!type)
        return NULL;
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback)
        PyException_SetTraceback(value, traceback);
    Py_XDECREF(traceback);
    Py_DECREF(type);
    return value;
}

/* Takes the lock count times, and keeps the exception that is set. If a holder of the lock was killed, the lock is
 * taken nevertheless, and then AbandonedLockError is raised. An exception that is raised here has the one that was set
 * as its context. */
static void take_again(PyObject *lock, long count) {
    PyObject *before = taken_exception(), *now = NULL;
    while (count) {
        if (call(lock, "acquire") == 0) {
            count--;
            continue;
        }
        int goes_on = goproc_is_abandoned_error();
        Py_XSETREF(now, taken_exception());
        if (!goes_on)
            break;
    }
    if (now && before && now != before)
        PyException_SetContext(now, Py_NewRef(before));
    PyObject *last = Py_XNewRef(now ? now : before);
    if (last)
        PyErr_Restore(Py_NewRef(Py_TYPE(last)), last, PyException_GetTraceback(last));
    Py_XDECREF(now);
    Py_XDECREF(before);
}

PyDoc_STRVAR(wait_doc, "wait(lock, count, timeout=None)\n--\n\n"
                       "Release the lock, which this thread holds count times, wait until notified (True) or for\n"
                       "timeout seconds (False), and take the lock again.\n\n"
                       "Signal handlers run meanwhile. If one raises, the lock is taken again, too.");

static PyObject *waiters_wait(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    waiters *self = (waiters *)object;
    if (count < 2 || count > 3) {
        PyErr_SetString(PyExc_TypeError, "wait() takes 2 or 3 arguments");
        return NULL;
    }
    PyObject *lock = args[0];
    uint64_t deadline;
    long held = PyLong_AsLong(args[1]), released = 0;
    if ((held == -1 && PyErr_Occurred()) || check(self) < 0)
        return NULL;
    int is_bad = goproc_read_deadline(count > 2 ? args[2] : Py_None, &deadline);
    if (is_bad)
        return is_bad < 0 ? NULL : goproc_raise_bad_timeout();
    entry *mine = enter(self);
    if (!mine)
        return NULL;
    int how = 0;
    while (how == 0 && released < held) {
        how = call(lock, "release");
        released += how == 0;
    }
    if (how == 0)
        how = wait_for_notification(self, mine, deadline);
    if (leave(mine)) {
        if (how < 0)
            notify(self->cell, 1); /* it would be lost: this thread does not return as one that was notified */
        else
            how = 1;
    }
    take_again(lock, released);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(how);
}

PyDoc_STRVAR(notify_doc, "notify(n)\n--\n\n"
                         "Notify those that have waited longest, at most n; return how many. Processes that have\n"
                         "ended are passed over, and removed.");

static PyObject *waiters_notify(PyObject *object, PyObject *number) {
    waiters *self = (waiters *)object;
    Py_ssize_t most = PyNumber_AsSsize_t(number, NULL);
    if ((most == -1 && PyErr_Occurred()) || check(self) < 0)
        return NULL;
    goproc_myself();
    return PyLong_FromLong(notify(self->cell, most));
}

PyDoc_STRVAR(count_doc, "count()\n--\n\nHow many are in the list, and have not been notified.");

static PyObject *waiters_count(PyObject *object, PyObject *Py_UNUSED(unused)) {
    waiters *self = (waiters *)object;
    if (check(self) < 0)
        return NULL;
    long count = 0;
    for (uint32_t i = 0; i < used(self->cell); i++)
        count += atomic_load(&self->cell->entries[i].state) == WAITING;
    return PyLong_FromLong(count);
}

PyDoc_STRVAR(reap_doc, "reap()\n--\n\n"
                       "Remove the entries of processes that have ended; return how many.");

static PyObject *waiters_reap(PyObject *object, PyObject *Py_UNUSED(unused)) {
    waiters *self = (waiters *)object;
    if (check(self) < 0)
        return NULL;
    goproc_myself();
    return PyLong_FromLong(reap(self->cell));
}

/* ---- being inside ------------------------------------------------------------------------------------------------ */

/* A context manager: while its block runs, the calling thread is in the list. */
typedef struct {
    PyObject_HEAD;
    waiters *list;
    entry *mine;      /* NULL: not in the list any more */
    unsigned made_at; /* goproc_generation: in a forked child the entry is the parent's */
} stay;

static PyTypeObject stay_type;

PyDoc_STRVAR(enter_doc, "enter()\n--\n\n"
                        "Add the calling thread to the list; return a context manager, whose end removes it.\n\n"
                        "Raises OSError(ENOSPC) if too many wait.");

static PyObject *waiters_enter(PyObject *object, PyObject *Py_UNUSED(unused)) {
    waiters *self = (waiters *)object;
    if (check(self) < 0)
        return NULL;
    stay *made = PyObject_New(stay, &stay_type);
    if (!made)
        return NULL;
    made->list = (waiters *)Py_NewRef(object);
    made->made_at = goproc_generation;
    made->mine = enter(self);
    if (made->mine)
        return (PyObject *)made;
    Py_DECREF(made);
    return NULL;
}

static void end(stay *self) {
    if (self->mine && self->made_at == goproc_generation)
        leave(self->mine);
    self->mine = NULL;
}

static PyObject *stay_enter(PyObject *object, PyObject *Py_UNUSED(unused)) {
    return Py_NewRef(object);
}

static PyObject *stay_exit(PyObject *object, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(count)) {
    end((stay *)object);
    Py_RETURN_FALSE;
}

static void stay_dealloc(PyObject *object) {
    stay *self = (stay *)object;
    end(self);
    Py_DECREF(self->list);
    PyObject_Free(object);
}

static PyMethodDef stay_methods[] = {
    {"__enter__", stay_enter, METH_NOARGS, PyDoc_STR("__enter__()\n--\n\nReturn the object.")},
    {"__exit__", (PyCFunction)(void (*)(void))stay_exit, METH_FASTCALL,
     PyDoc_STR("__exit__(type, value, traceback)\n--\n\nRemove the entry from the list.")},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject stay_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc._native.Stay",
    .tp_doc = PyDoc_STR("While its block runs, or until it is deallocated, a thread is in a Waiters list."),
    .tp_basicsize = sizeof(stay),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = stay_dealloc,
    .tp_methods = stay_methods,
};

/* ---- making ------------------------------------------------------------------------------------------------------ */

static PyObject *settle(waiters *self, goproc_home home, waiters_cell *cell) {
    if (self->cell)
        goproc_cell_drop(&self->home, self->cell);
    self->home = home;
    self->cell = cell;
    goproc_sync_spinner_init(&self->spinner);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(make_doc, "_make(anonymous)\n--\n\nMake the list. anonymous: only forked children can use it.");

static PyObject *waiters_make(PyObject *object, PyObject *anonymous) {
    goproc_home home;
    waiters_cell *cell = goproc_cell_new(GOPROC_CELL_WAITERS, sizeof *cell, PyObject_IsTrue(anonymous) == 1, &home);
    return cell ? settle((waiters *)object, home, cell) : NULL;
}

PyDoc_STRVAR(place_doc, "_place()\n--\n\nWhat another process needs for _settle(), to be pickled.");

static PyObject *waiters_place(PyObject *object, PyObject *Py_UNUSED(unused)) {
    waiters *self = (waiters *)object;
    return check(self) < 0 ? NULL : goproc_cell_place(&self->home, self->cell);
}

PyDoc_STRVAR(settle_doc, "_settle(place)\n--\n\nUse the list that another process has made.");

static PyObject *waiters_settle(PyObject *object, PyObject *place) {
    goproc_home home;
    waiters_cell *cell = goproc_cell_at(place, GOPROC_CELL_WAITERS, sizeof *cell, &home);
    return cell ? settle((waiters *)object, home, cell) : NULL;
}

static void waiters_dealloc(PyObject *object) {
    waiters *self = (waiters *)object;
    if (self->cell)
        goproc_cell_drop(&self->home, self->cell);
    Py_TYPE(self)->tp_free(object);
}

static PyMethodDef waiters_methods[] = {
    {"enter", waiters_enter, METH_NOARGS, enter_doc},
    {"wait", (PyCFunction)(void (*)(void))waiters_wait, METH_FASTCALL, wait_doc},
    {"notify", waiters_notify, METH_O, notify_doc},
    {"count", waiters_count, METH_NOARGS, count_doc},
    {"reap", waiters_reap, METH_NOARGS, reap_doc},
    {"_make", waiters_make, METH_O, make_doc},
    {"_place", waiters_place, METH_NOARGS, place_doc},
    {"_settle", waiters_settle, METH_O, settle_doc},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject waiters_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc._native.Waiters",
    .tp_doc = PyDoc_STR("A list, in shared memory, of those who wait."),
    .tp_basicsize = sizeof(waiters),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = waiters_dealloc,
    .tp_methods = waiters_methods,
};

int goproc_init_waiters(PyObject *module) {
    return PyType_Ready(&stay_type) < 0 ? -1 : PyModule_AddType(module, &waiters_type);
}
