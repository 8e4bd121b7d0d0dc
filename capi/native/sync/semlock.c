/* semlock.c - the type behind Lock, RLock, Semaphore and BoundedSemaphore, as _multiprocessing.SemLock is.
 *
 * As with multiprocessing, an RLock belongs to a thread, and anybody may release the others. What this process knows of
 * a lock (count, thread) is in the object, and a forked child begins with nothing.
 */
#include "holders.h"

#include <pthread.h>
#include <string.h>

/* The kinds, as multiprocessing.synchronize has them. */
enum { RECURSIVE_MUTEX, SEMAPHORE };

enum { SEM_VALUE_LIMIT = 0x7fffffff };

typedef struct {
    PyObject_HEAD;
    goproc_home home;
    goproc_lock lock;
    int kind;            /* RECURSIVE_MUTEX or SEMAPHORE */
    long count;          /* how many times this process holds it */
    pthread_t thread;    /* the thread that took it last */
    unsigned generation; /* goproc_generation when the two were noted */
    goproc_sync_spinner spinner;
} semlock;

static PyObject *abandoned_error; /* the exception's class, given by errors.py */

static int check(semlock *self) {
    if (!self->lock.cell) {
        PyErr_SetString(PyExc_RuntimeError, "the lock has not been initialised");
        return -1;
    }
    if (self->generation != goproc_generation) {
        self->generation = goproc_generation;
        self->count = 0;
    }
    return 0;
}

static int is_mine(const semlock *self) {
    return self->count > 0 && self->generation == goproc_generation && pthread_equal(self->thread, pthread_self());
}

/* ---- taking ------------------------------------------------------------------------------------------------------ */

static void raise_abandoned(const goproc_lost *lost) {
    if (!abandoned_error) {
        PyErr_Format(PyExc_RuntimeError, "process %u was killed while it held the lock", lost->pid);
        return;
    }
    PyObject *name = lost->name[0] ? PyUnicode_DecodeUTF8(lost->name, (Py_ssize_t)strlen(lost->name), "replace")
                                   : Py_NewRef(Py_None);
    PyObject *error = name ? PyObject_CallFunction(abandoned_error, "IN", (unsigned)lost->pid, name) : NULL;
    if (error)
        PyErr_SetObject(abandoned_error, error);
    Py_XDECREF(error);
}

int goproc_is_abandoned_error(void) {
    return abandoned_error && PyErr_ExceptionMatches(abandoned_error);
}

/* Returns 1 when it has been taken, 0 when the time is over, -1 with an exception set. */
static int acquire(semlock *self, int block, PyObject *timeout) {
    if (check(self) < 0)
        return -1;
    if (self->kind == RECURSIVE_MUTEX && is_mine(self)) {
        self->count++;
        return 1;
    }
    uint64_t deadline = 0;
    int is_bad = block && timeout != Py_None ? goproc_read_deadline(timeout, &deadline) : 0;
    if (is_bad < 0)
        return -1;
    int how = goproc_lock_take(&self->lock) ? GOPROC_TAKEN : GOPROC_BUSY;
    if (how == GOPROC_BUSY) {
        goproc_lost lost;
        if (!block || goproc_gives_up(block, deadline)) {
            how = goproc_lock_look(&self->lock, &lost);
        } else {
            goproc_lock_waiting waiting = {.deadline = deadline, .look_at = goproc_now_ns() + GOPROC_FIRST_LOOK_NS};
            int raised;
            do {
                Py_INCREF(self);
                Py_BEGIN_ALLOW_THREADS;
                how = goproc_lock_wait(&self->lock, &self->spinner, &waiting, &lost);
                Py_END_ALLOW_THREADS;
                Py_DECREF(self);
                raised = how == GOPROC_INTERRUPTED && PyErr_CheckSignals() < 0;
            } while (how == GOPROC_INTERRUPTED && !raised);
            goproc_waits_no_longer(waiting.note);
            if (raised)
                return -1;
        }
        if (how == GOPROC_ABANDONED) {
            raise_abandoned(&lost);
            return -1;
        }
    }
    if (how == GOPROC_BUSY && is_bad)
        (void)goproc_raise_bad_timeout();
    if (how == GOPROC_BUSY)
        return -is_bad;
    self->count++;
    self->thread = pthread_self();
    return 1;
}

/* ---- releasing --------------------------------------------------------------------------------------------------- */

static int release(semlock *self) {
    if (check(self) < 0)
        return -1;
    if (self->kind == RECURSIVE_MUTEX) {
        if (!is_mine(self)) {
            PyErr_SetString(PyExc_AssertionError, "attempt to release recursive lock not owned by thread");
            return -1;
        }
        if (self->count > 1) {
            self->count--;
            return 0;
        }
    }
    if (!goproc_lock_give(&self->lock)) {
        PyErr_SetString(PyExc_ValueError, "semaphore or lock released too many times");
        return -1;
    }
    self->count--;
    return 0;
}

/* ---- the methods ------------------------------------------------------------------------------------------------- */

PyDoc_STRVAR(acquire_doc, "acquire(block=True, timeout=None)\n--\n\n"
                          "Take the lock, or a permit of the semaphore, and return True.\n\n"
                          "block: whether to wait. timeout: seconds to wait at most; None for no limit. Returns False\n"
                          "when it could not be had in that time. Raises AbandonedLockError if its holder was killed:\n"
                          "then it is free. Source: multiprocessing.Lock.acquire.");

static PyObject *semlock_acquire(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    PyObject *block = Py_True, *timeout = Py_None;
    if (count > 0)
        block = args[0];
    if (count > 1)
        timeout = args[1];
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    if (count + named > 2)
        return PyErr_Format(PyExc_TypeError, "acquire() takes at most 2 arguments (%zd given)", count + named);
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (count < 1 && PyUnicode_CompareWithASCIIString(name, "block") == 0)
            block = args[count + i];
        else if (count < 2 && PyUnicode_CompareWithASCIIString(name, "timeout") == 0)
            timeout = args[count + i];
        else
            return PyErr_Format(PyExc_TypeError, "acquire() got an unexpected keyword argument %R", name);
    }
    int blocks = block == Py_True ? 1 : PyObject_IsTrue(block);
    if (blocks < 0)
        return NULL;
    int taken = acquire((semlock *)object, blocks, timeout);
    return taken < 0 ? NULL : PyBool_FromLong(taken);
}

PyDoc_STRVAR(release_doc,
             "release()\n--\n\n"
             "Give the lock, or a permit of the semaphore, back.\n\n"
             "Raises ValueError if it is not taken, and AssertionError if it is an RLock of another thread.");

static PyObject *semlock_release(PyObject *object, PyObject *Py_UNUSED(unused)) {
    if (release((semlock *)object) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *semlock_enter(PyObject *object, PyObject *Py_UNUSED(unused)) {
    int taken = acquire((semlock *)object, 1, Py_None);
    return taken < 0 ? NULL : PyBool_FromLong(taken);
}

static PyObject *semlock_exit(PyObject *object, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(count)) {
    return semlock_release(object, NULL);
}

static PyObject *semlock_value(PyObject *object, PyObject *Py_UNUSED(unused)) {
    return check((semlock *)object) < 0 ? NULL : PyLong_FromUnsignedLong(goproc_lock_value(&((semlock *)object)->lock));
}

static PyObject *semlock_is_zero(PyObject *object, PyObject *Py_UNUSED(unused)) {
    return check((semlock *)object) < 0 ? NULL : PyBool_FromLong(goproc_lock_value(&((semlock *)object)->lock) == 0);
}

static PyObject *semlock_count(PyObject *object, PyObject *Py_UNUSED(unused)) {
    return check((semlock *)object) < 0 ? NULL : PyLong_FromLong(((semlock *)object)->count);
}

static PyObject *semlock_is_mine(PyObject *object, PyObject *Py_UNUSED(unused)) {
    return check((semlock *)object) < 0 ? NULL : PyBool_FromLong(is_mine((semlock *)object));
}

static PyObject *semlock_after_fork(PyObject *object, PyObject *Py_UNUSED(unused)) {
    ((semlock *)object)->count = 0;
    Py_RETURN_NONE;
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

static void settle(semlock *self, goproc_home home, goproc_lock lock, int kind) {
    if (self->lock.cell)
        goproc_cell_drop(&self->home, self->lock.cell);
    self->home = home;
    self->lock = lock;
    self->kind = kind;
    self->count = 0;
    self->generation = goproc_generation;
    goproc_sync_spinner_init(&self->spinner);
}

static size_t cell_size(uint32_t cell_kind) {
    return cell_kind == GOPROC_CELL_BOUNDED ? sizeof(goproc_bounded_cell) : sizeof(goproc_lock_cell);
}

PyDoc_STRVAR(make_doc, "_make(kind, value, maxvalue, anonymous, abandoned)\n--\n\n"
                       "Make the lock's memory. anonymous: only forked children can use it. abandoned: RAISE, TAKE or "
                       "KEEP.");

static PyObject *semlock_make(PyObject *object, PyObject *args) {
    int kind, value, most, anonymous;
    goproc_lock lock;
    goproc_home home;
    if (!PyArg_ParseTuple(args, "iiipi:_make", &kind, &value, &most, &anonymous, &lock.abandoned))
        return NULL;
    if ((kind != RECURSIVE_MUTEX && kind != SEMAPHORE) || value < 0 || value > most) {
        errno = EINVAL; /* as sem_open() answers */
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    lock.kind = most == 1                                                                  ? GOPROC_CELL_LOCK
                : value == most && most < SEM_VALUE_LIMIT && lock.abandoned != GOPROC_KEEP ? GOPROC_CELL_BOUNDED
                                                                                           : GOPROC_CELL_SEMAPHORE;
    lock.cell = goproc_cell_new(lock.kind, cell_size(lock.kind), anonymous, &home);
    if (!lock.cell)
        return NULL;
    lock.cell->most = (uint32_t)most;
    if (lock.kind == GOPROC_CELL_LOCK)
        atomic_store(&lock.cell->word, value ? 0 : GOPROC_SOMEBODY);
    else if (lock.kind == GOPROC_CELL_SEMAPHORE)
        atomic_store(&lock.cell->word, (uint32_t)value);
    settle((semlock *)object, home, lock, kind);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(place_doc, "_place()\n--\n\nWhat another process needs for _settle(), to be pickled.");

static PyObject *semlock_place(PyObject *object, PyObject *Py_UNUSED(unused)) {
    semlock *self = (semlock *)object;
    if (check(self) < 0)
        return NULL;
    PyObject *place = goproc_cell_place(&self->home, self->lock.cell);
    return place ? Py_BuildValue("NIii", place, (unsigned)self->lock.kind, self->kind, self->lock.abandoned) : NULL;
}

PyDoc_STRVAR(settle_doc, "_settle(place, cell_kind, kind, abandoned)\n--\n\n"
                         "Use the memory that another process has made; the arguments are those of its _place().");

static PyObject *semlock_settle(PyObject *object, PyObject *args) {
    PyObject *place;
    int kind;
    goproc_lock lock;
    goproc_home home;
    if (!PyArg_ParseTuple(args, "O!Iii:_settle", &PyTuple_Type, &place, &lock.kind, &kind, &lock.abandoned))
        return NULL;
    if (lock.kind < GOPROC_CELL_LOCK || lock.kind > GOPROC_CELL_BOUNDED)
        return PyErr_Format(PyExc_ValueError, "%u is no kind of lock", lock.kind);
    lock.cell = goproc_cell_at(place, lock.kind, cell_size(lock.kind), &home);
    if (!lock.cell)
        return NULL;
    settle((semlock *)object, home, lock, kind);
    Py_RETURN_NONE;
}

static void semlock_dealloc(PyObject *object) {
    semlock *self = (semlock *)object;
    if (self->lock.cell)
        goproc_cell_drop(&self->home, self->lock.cell);
    Py_TYPE(self)->tp_free(object);
}

static PyObject *get_self(PyObject *object, void *Py_UNUSED(data)) {
    return Py_NewRef(object);
}

static PyObject *get_kind(PyObject *object, void *Py_UNUSED(data)) {
    return PyLong_FromLong(((semlock *)object)->kind);
}

static PyObject *get_most(PyObject *object, void *Py_UNUSED(data)) {
    semlock *self = (semlock *)object;
    return check(self) < 0 ? NULL : PyLong_FromUnsignedLong(self->lock.cell->most);
}

static PyObject *get_handle(PyObject *object, void *Py_UNUSED(data)) {
    return PyLong_FromVoidPtr(((semlock *)object)->lock.cell);
}

static PyObject *get_name(PyObject *Py_UNUSED(object), void *Py_UNUSED(data)) {
    Py_RETURN_NONE;
}

static PyGetSetDef attributes[] = {
    {"_semlock", get_self, NULL, PyDoc_STR("This object: programs look here for the methods that begin with _."), NULL},
    {"kind", get_kind, NULL, PyDoc_STR("RECURSIVE_MUTEX or SEMAPHORE."), NULL},
    {"maxvalue", get_most, NULL, PyDoc_STR("The greatest value."), NULL},
    {"handle", get_handle, NULL, PyDoc_STR("The address of its memory in this process."), NULL},
    {"name", get_name, NULL, PyDoc_STR("None: it has no name."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef semlock_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))semlock_acquire, METH_FASTCALL | METH_KEYWORDS, acquire_doc},
    {"release", semlock_release, METH_NOARGS, release_doc},
    {"__enter__", semlock_enter, METH_NOARGS, PyDoc_STR("__enter__()\n--\n\nTake it.")},
    {"__exit__", (PyCFunction)(void (*)(void))semlock_exit, METH_FASTCALL,
     PyDoc_STR("__exit__(*args)\n--\n\nGive it back.")},
    {"locked", semlock_is_zero, METH_NOARGS, PyDoc_STR("locked()\n--\n\nWhether it is taken.")},
    {"_get_value", semlock_value, METH_NOARGS, PyDoc_STR("_get_value()\n--\n\nThe value; of a lock 0 or 1.")},
    {"_is_zero", semlock_is_zero, METH_NOARGS, PyDoc_STR("_is_zero()\n--\n\nWhether the value is 0.")},
    {"_count", semlock_count, METH_NOARGS, PyDoc_STR("_count()\n--\n\nHow many times this process holds it.")},
    {"_is_mine", semlock_is_mine, METH_NOARGS, PyDoc_STR("_is_mine()\n--\n\nWhether the calling thread took it last.")},
    {"_after_fork", semlock_after_fork, METH_NOARGS, PyDoc_STR("_after_fork()\n--\n\nForget that it is held.")},
    {"_make", semlock_make, METH_VARARGS, make_doc},
    {"_place", semlock_place, METH_NOARGS, place_doc},
    {"_settle", semlock_settle, METH_VARARGS, settle_doc},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject semlock_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc._native.SemLock",
    .tp_doc = PyDoc_STR("A lock or a semaphore in shared memory. goproc.synchronize has the public classes."),
    .tp_basicsize = sizeof(semlock),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = semlock_dealloc,
    .tp_methods = semlock_methods,
    .tp_getset = attributes,
};

/* ---- the end of a process ---------------------------------------------------------------------------------------- */

static void leave_at_end(void) {
    goproc_left((uint32_t)getpid());
}

PyDoc_STRVAR(leave_locks_doc, "leave_locks([pid]) -> None\n\n"
                              "This process, or the child pid, has ended by itself: the locks that it holds stay "
                              "locked, and nobody is\ntold of it.");

static PyObject *leave_locks(PyObject *Py_UNUSED(module), PyObject *args) {
    int pid = (int)getpid();
    if (!PyArg_ParseTuple(args, "|i:leave_locks", &pid))
        return NULL;
    goproc_left((uint32_t)pid);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(set_abandoned_error_doc,
             "set_abandoned_error(type) -> None\n\n"
             "The exception to be raised for a lock whose holder was killed: type(pid, name).");

static PyObject *set_abandoned_error(PyObject *Py_UNUSED(module), PyObject *type) {
    Py_XSETREF(abandoned_error, Py_NewRef(type));
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"leave_locks", leave_locks, METH_VARARGS, leave_locks_doc},
    {"set_abandoned_error", set_abandoned_error, METH_O, set_abandoned_error_doc},
    {NULL, NULL, 0, NULL},
};

int goproc_init_semlock(PyObject *module) {
    static int leaves_at_end;
    if (!leaves_at_end && Py_AtExit(leave_at_end) < 0) {
        PyErr_SetString(PyExc_RuntimeError, "too many functions are to run at the end of the interpreter");
        return -1;
    }
    leaves_at_end = 1;
    if (PyModule_AddIntConstant(module, "RAISE", GOPROC_RAISE) < 0 ||
        PyModule_AddIntConstant(module, "TAKE", GOPROC_TAKE) < 0 ||
        PyModule_AddIntConstant(module, "KEEP", GOPROC_KEEP) < 0)
        return -1;
    if (PyModule_AddType(module, &semlock_type) < 0)
        return -1;
    return PyModule_AddFunctions(module, methods);
}
