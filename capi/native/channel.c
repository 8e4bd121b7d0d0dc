/* channel.c - a worker's end of a pool: the object, and taking tasks from its ring; see channel.h.
 *
 * There is no Go here and no lock: the worker shares its two rings only with the parent. The worker may be killed at
 * any instruction. Then only those tasks are lost that it has begun and not answered.
 */
#define _GNU_SOURCE
#include "channel.h"
#include "payload/placed.h"
#include "shares.h"
#include "dump/waits.h"

#include <string.h>
#include <sys/mman.h>

static PyObject *channel_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"memory_fd", "slot", "serial", NULL};
    int memory_fd;
    unsigned long long slot, serial;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iKK:Channel", names, &memory_fd, &slot, &serial))
        return NULL;
    goproc_channel *self = (goproc_channel *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->memory_fd = -1;
    self->fork_depth = goproc_fork_depth;
    void *control = mmap(NULL, GOPROC_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
    if (control == MAP_FAILED)
        goto failed;
    self->control = control;
    void *memory = mmap(NULL, GOPROC_SLOT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd,
                        GOPROC_SLOTS_START + (off_t)slot * GOPROC_SLOT_SIZE);
    if (memory == MAP_FAILED)
        goto failed;
    self->slot = memory;
    self->tasks = (uint8_t *)memory + GOPROC_PAGE_SIZE;
    self->results = self->tasks + GOPROC_RING_SIZE;
    if (madvise(control, GOPROC_PAGE_SIZE, MADV_DONTFORK) < 0 || madvise(memory, GOPROC_SLOT_SIZE, MADV_DONTFORK) < 0)
        goto failed;
    goproc_arena_init(&self->out, memory_fd, serial);
    goproc_arena_init(&self->in, memory_fd, serial);
    goproc_arena_enlist(&self->in);
    goproc_placed_prepare();
    self->in.most_placed = UINT64_MAX; /* no limit: most arguments are freed when the function returns */
    self->spinner.budget_ns = 0; /* at first no spin: a pool's workers come up together, and need the processors */
    self->memory_fd = memory_fd;
    self->memory_mark = goproc_mark(memory_fd);
    goproc_note_worker(self->control, self->slot);
    goproc_looks_of_this_process();
    return (PyObject *)self;
failed:
    PyErr_SetFromErrno(PyExc_OSError);
    Py_DECREF(self);
    return NULL;
}

static void channel_dealloc(PyObject *object) {
    goproc_channel *self = (goproc_channel *)object;
    goproc_looks_no_longer();
    goproc_arena_delist(&self->in);
    goproc_arena_clear(&self->in);
    goproc_arena_clear(&self->out);
    if (self->fork_depth == goproc_fork_depth) { /* a forked child has not inherited the mappings */
        if (self->slot != NULL)
            munmap(self->slot, GOPROC_SLOT_SIZE);
        if (self->control != NULL)
            munmap(self->control, GOPROC_PAGE_SIZE);
    }
    goproc_close_marked(self->memory_fd, self->memory_mark);
    Py_TYPE(object)->tp_free(object);
}

int goproc_channel_check(goproc_channel *self) {
    if (self->fork_depth == goproc_fork_depth)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "a process forked by a pool's worker cannot act as that worker");
    return -1;
}

void goproc_channel_poke(goproc_channel *self, int delivered, int dry, int full) {
    uint32_t waiting = atomic_load(&self->control->waiting);
    if (waiting & GOPROC_WAITING_COLLECTOR) {
        if (atomic_fetch_and(&self->control->waiting, ~(uint32_t)GOPROC_WAITING_COLLECTOR) & GOPROC_WAITING_COLLECTOR) {
            /* The collector may be about to sleep, and then the wake does not reach it. So the word that it will sleep
             * on must change: then it does not fall asleep. Nobody else will wake it, because its bit is cleared. */
            atomic_fetch_add(&self->control->doorbell, 1);
            goproc_futex_wake(&self->control->doorbell);
        }
        return;
    }
    if (delivered && waiting & GOPROC_WAITING_WATCH &&
        atomic_fetch_and(&self->control->waiting, ~(uint32_t)GOPROC_WAITING_WATCH) & GOPROC_WAITING_WATCH) {
        atomic_fetch_add(&self->control->watch_bell, 1);
        goproc_futex_wake(&self->control->watch_bell);
    }
    uint32_t asked = (dry ? GOPROC_WAITING_FEED : 0) | (full ? GOPROC_WAITING_DRAIN : 0);
    if (waiting & asked && atomic_fetch_and(&self->control->waiting, ~asked) & asked) {
        atomic_fetch_add(&self->control->pump, 1);
        goproc_futex_wake(&self->control->pump);
    }
}

int goproc_channel_sleep(goproc_channel *self, uint32_t reason, uint64_t seen) {
    goproc_slot *slot = self->slot;
    int64_t ns = self->out.count > 0 || self->in.count > 0 ? GOPROC_IDLE_NS : -1;
    goproc_wait *note = NULL;
    int raised = 0;
    for (int called = 0;; called = 1) {
        uint32_t bell = atomic_load(&slot->bell);
        atomic_store(&slot->sleeping, reason);
        if (!called)
            goproc_channel_poke(self, reason != GOPROC_SLEEP_TASKS, 1, reason != GOPROC_SLEEP_TASKS);
        uint64_t now = reason == GOPROC_SLEEP_TASKS  ? atomic_load(&slot->task_tail)
                       : reason == GOPROC_SLEEP_ROOM ? atomic_load(&slot->result_head)
                                                     : atomic_load(&slot->parts_taken);
        if (now != seen || (reason == GOPROC_SLEEP_TASKS && atomic_load(&slot->stop)))
            break;
        if (!note) {
            if (PyErr_CheckSignals() < 0) { /* a signal during the spin ends no sleep */
                raised = -1;
                break;
            }
            note = goproc_waits_for(reason == GOPROC_SLEEP_TASKS ? GOPROC_WAIT_TASK : GOPROC_WAIT_ROOM, self->control,
                                    0, 0);
        }
        int error, looks = goproc_looks() && reason == GOPROC_SLEEP_TASKS && (ns < 0 || ns > GOPROC_LOOK_NS);
        Py_BEGIN_ALLOW_THREADS;
        error = goproc_futex_wait(&slot->bell, bell, looks ? GOPROC_LOOK_NS : ns);
        Py_END_ALLOW_THREADS;
        if (error == ETIMEDOUT && looks) {
            ns = ns < 0 ? ns : ns - GOPROC_LOOK_NS;
            goproc_look();
        } else if (error == ETIMEDOUT && ns >= 0) {
            ns = goproc_arenas_rest(&self->out, &self->in) ? GOPROC_IDLE_NS : -1;
        }
        if (PyErr_CheckSignals() < 0) { /* also if the bell was rung: a signal may have come before the sleep */
            raised = -1;
            break;
        }
    }
    atomic_store(&slot->sleeping, 0);
    goproc_waits_no_longer(note);
    return raised;
}

/* Waits until a task is published, or the pool says that there are no more. Returns 0, or -1 when a signal handler
 * raised. */
static int wait_for_task(goproc_channel *self) {
    uint32_t most = atomic_load_explicit(&self->control->spin_ns, memory_order_relaxed);
    uint64_t start = goproc_now_ns();
    if (!GOPROC_SPIN(&self->spinner, start, &self->slot->task_tail, self->task_head) &&
        goproc_channel_sleep(self, GOPROC_SLEEP_TASKS, self->task_head) < 0)
        return -1;
    goproc_spinner_waited(&self->spinner, most, goproc_now_ns() - start);
    return 0;
}

/* Begins the next tasks of the frame, at most `most`. Returns how many; 0 when all have been begun or taken back. Sets
 * *first to the number of the first. */
static uint32_t claim_tasks(goproc_frame *frame, uint32_t most, uint32_t *first) {
    uint32_t claim = atomic_load(&frame->claim), count;
    do {
        *first = goproc_claim_next(claim);
        uint32_t end = goproc_claim_end(claim);
        count = *first < end ? end - *first : 0;
        if (count > most)
            count = most;
        if (count == 0)
            return 0;
    } while (!atomic_compare_exchange_weak(&frame->claim, &claim, claim + count));
    return count;
}

int64_t goproc_channel_begin(goproc_channel *self) {
    goproc_slot *slot = self->slot;
    goproc_frame *frame = self->frame;
    uint32_t number;
    if (claim_tasks(frame, 1, &number) == 0)
        return -1;
    self->begun = 1;
    atomic_store_explicit(&slot->current_job, frame->job, memory_order_relaxed);
    atomic_store_explicit(&slot->current_index, frame->index + number, memory_order_relaxed);
    atomic_store_explicit(&slot->base_bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->started_ns, goproc_now_ns(), memory_order_release);
    return number;
}

void goproc_channel_leave(goproc_channel *self) {
    uint32_t claim = atomic_load(&self->frame->claim);
    if (goproc_claim_next(claim) < goproc_claim_end(claim))
        return;
    self->frame = NULL;
    self->task_head = self->after;
    atomic_store(&self->slot->task_head, self->after);
}

void *goproc_channel_nonsense(const char *where) {
    return PyErr_Format(PyExc_RuntimeError,
                        "the memory that this worker shares with its pool has been overwritten (%s): the worker ends",
                        where);
}

/* Whether the parent can have pushed the frame at the task ring's head, so that all of it lies before the tail. */
static int is_possible(const goproc_channel *self, const goproc_frame *frame, uint64_t tail) {
    uint64_t at = self->task_head % GOPROC_RING_SIZE, there = tail - self->task_head;
    if (there > GOPROC_RING_SIZE || there % 8 != 0)
        return 0;
    if (frame->kind == GOPROC_KIND_PAD)
        return at > 0 && frame->size == GOPROC_RING_SIZE - at && frame->size < there;
    return frame->kind == GOPROC_KIND_TASK && frame->size <= GOPROC_MAX_INLINE &&
           goproc_frame_space(frame->size) <= there && at + goproc_frame_space(frame->size) <= GOPROC_RING_SIZE;
}

PyDoc_STRVAR(recv_doc,
             "recv()\n--\n\n"
             "Wait for the next task, and begin it.\n\n"
             "Returns (number, payload). payload is bytes or (stream, buffers). If it is a batch, number is that of\n"
             "the task in it. Returns None when the pool has told the worker to end. Signal handlers run while it\n"
             "waits. Raises RuntimeError when the memory holds something that the pool cannot have written.");

static PyObject *channel_recv(PyObject *object, PyObject *unused) {
    (void)unused;
    goproc_channel *self = (goproc_channel *)object;
    if (goproc_channel_check(self) < 0)
        return NULL;
    goproc_slot *slot = self->slot;
    for (;;) {
        uint64_t tail = atomic_load_explicit(&slot->task_tail, memory_order_acquire);
        if (tail == self->task_head) {
            if (atomic_load(&slot->stop))
                Py_RETURN_NONE;
            if (wait_for_task(self) < 0)
                return NULL;
            continue;
        }
        goproc_frame *frame = (goproc_frame *)(self->tasks + self->task_head % GOPROC_RING_SIZE);
        if (!is_possible(self, frame, tail))
            return goproc_channel_nonsense("tasks");
        if (frame->kind == GOPROC_KIND_PAD) {
            self->task_head += frame->size;
            atomic_store_explicit(&slot->task_head, self->task_head, memory_order_release);
            continue;
        }
        goproc_look_in_time();
        self->frame = frame;
        self->after = self->task_head + goproc_frame_space(frame->size);
        int64_t number = goproc_channel_begin(self);
        PyObject *payload = number < 0 ? NULL : goproc_payload_unpack(&self->in, frame + 1, frame->size, frame->flags);
        goproc_channel_leave(self);
        if (number < 0)
            continue;
        if (payload == NULL)
            return NULL;
        return Py_BuildValue("LN", (long long)number, payload);
    }
}

PyDoc_STRVAR(more_doc, "more(most)\n--\n\n"
                       "Begin the next tasks of the batch, at most most of them.\n\n"
                       "Returns how many. The next send() answers all tasks that have been begun, together.");

static PyObject *channel_more(PyObject *object, PyObject *argument) {
    goproc_channel *self = (goproc_channel *)object;
    unsigned long most = PyLong_AsUnsignedLong(argument);
    if (PyErr_Occurred() || goproc_channel_check(self) < 0)
        return NULL;
    uint32_t first, count = 0;
    if (self->frame != NULL && self->begun > 0) {
        count = claim_tasks(self->frame, most < UINT16_MAX ? (uint32_t)most : UINT16_MAX, &first);
        self->begun += count;
        goproc_channel_leave(self);
    }
    return PyLong_FromUnsignedLong(count);
}

PyDoc_STRVAR(time_doc, "time()\n--\n\n"
                       "Count the time of the task that has been begun from now on.\n\n"
                       "How long tasks take decides how many are sent at once. A batch is unpickled once for many\n"
                       "tasks: if that counted for the first ones, few would be sent with each batch.");

static PyObject *channel_time(PyObject *object, PyObject *Py_UNUSED(unused)) {
    goproc_channel *self = (goproc_channel *)object;
    if (goproc_channel_check(self) < 0)
        return NULL;
    if (self->begun > 0)
        atomic_store_explicit(&self->slot->started_ns, goproc_now_ns(), memory_order_release);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(base_doc, "base(size)\n--\n\n"
                       "Say how many bytes of memory this worker has, now that a task has been begun.");

static PyObject *channel_base(PyObject *object, PyObject *argument) {
    goproc_channel *self = (goproc_channel *)object;
    unsigned long long size = PyLong_AsUnsignedLongLong(argument);
    if (PyErr_Occurred() || goproc_channel_check(self) < 0)
        return NULL;
    atomic_store_explicit(&self->slot->base_bytes, size, memory_order_release);
    Py_RETURN_NONE;
}

static PyMethodDef channel_methods[] = {
    {"recv", channel_recv, METH_NOARGS, recv_doc},
    {"more", channel_more, METH_O, more_doc},
    {"time", channel_time, METH_NOARGS, time_doc},
    {"base", channel_base, METH_O, base_doc},
    {"send", (PyCFunction)(void (*)(void))goproc_channel_send, METH_FASTCALL, goproc_channel_send_doc},
    {"send_part", (PyCFunction)(void (*)(void))goproc_channel_send_part, METH_FASTCALL, goproc_channel_send_part_doc},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject ChannelType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc._native.Channel",
    .tp_doc =
        PyDoc_STR("Channel(memory_fd, slot, serial)\n--\n\n"
                  "A worker's end of a pool. It owns the descriptor of the pool's memory. slot is the worker's place\n"
                  "in the memory. serial, from 1, is this worker's alone."),
    .tp_basicsize = sizeof(goproc_channel),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = channel_new,
    .tp_dealloc = channel_dealloc,
    .tp_methods = channel_methods,
};

int goproc_init_channel(PyObject *module) {
    if (goproc_init_payload(module) < 0)
        return -1;
    if (goproc_init_shares(module) < 0)
        return -1;
    return PyModule_AddType(module, &ChannelType);
}
