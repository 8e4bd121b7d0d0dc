/* channel.c - a worker's end of a pool: it takes tasks from its ring and delivers results.
 *
 * There is no Go here and no lock: the worker shares its two rings only with the parent. It may be killed at any
 * instruction. Then only the tasks are lost that it has begun and not answered.
 */
#define _GNU_SOURCE
#include "payload/payload.h"
#include "payload/placed.h"
#include "native.h"
#include "shares.h"
#include "wake.h"
#include "dump/waits.h"

#include <string.h>
#include <sys/mman.h>

typedef struct {
    PyObject_HEAD
    int memory_fd;
    uint32_t memory_mark;
    goproc_control *control;
    goproc_slot *slot;
    uint8_t *tasks, *results;
    uint64_t task_head, result_tail;
    goproc_frame *frame; /* the frame of the task that runs; NULL when none runs, or the frame has no other task left */
    uint64_t after;      /* the position behind the frame */
    uint32_t begun;      /* how many tasks have been begun and not answered */
    goproc_spinner spinner;
    goproc_arena out, in;
    unsigned fork_depth; /* of the process that owns it */
} Channel;

static PyObject *channel_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"memory_fd", "slot", "serial", NULL};
    int memory_fd;
    unsigned long long slot, serial;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iKK:Channel", names, &memory_fd, &slot, &serial))
        return NULL;
    Channel *self = (Channel *)type->tp_alloc(type, 0);
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
    self->in.most_placed = UINT64_MAX; /* no limit: what a function receives is mostly gone when it returns */
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
    Channel *self = (Channel *)object;
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

static int check_owner(Channel *self) {
    if (self->fork_depth == goproc_fork_depth)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "a process forked by a pool's worker cannot act as that worker");
    return -1;
}

/* Wakes the collector, or, if none sleeps, the pool's own thread and the pump, as far as they have asked for that.
 *
 * delivered: there is a result that the parent may not have seen. dry: this worker has no task left. full: this
 * worker may soon have to wait for room for a result. */
static void poke(Channel *self, int delivered, int dry, int full) {
    uint32_t waiting = atomic_load(&self->control->waiting);
    if (waiting & GOPROC_WAITING_COLLECTOR) {
        if (atomic_fetch_and(&self->control->waiting, ~(uint32_t)GOPROC_WAITING_COLLECTOR) & GOPROC_WAITING_COLLECTOR) {
            /* The collector may not sleep yet, but be about to, and the wake does not reach it then. So the word
             * that it will sleep on must change: then it does not fall asleep. Nobody else will wake it, as its bit
             * is cleared. */
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

/* Sleeps for the given reason until the parent rings the bell. Returns 0, or -1 when a signal handler raised.
 *
 * It first writes that it sleeps, and then calls the parent: the parent wakes only workers that sleep. */
static int sleep_until_rung(Channel *self, uint32_t reason, uint64_t seen) {
    goproc_slot *slot = self->slot;
    int64_t ns = self->out.count > 0 || self->in.count > 0 ? GOPROC_IDLE_NS : -1;
    goproc_wait *note = NULL;
    int raised = 0;
    for (int called = 0;; called = 1) {
        uint32_t bell = atomic_load(&slot->bell);
        atomic_store(&slot->sleeping, reason);
        if (!called)
            poke(self, reason == GOPROC_SLEEP_ROOM, 1, reason == GOPROC_SLEEP_ROOM);
        uint64_t now = reason == GOPROC_SLEEP_TASKS ? atomic_load(&slot->task_tail) : atomic_load(&slot->result_head);
        if (now != seen || (reason == GOPROC_SLEEP_TASKS && atomic_load(&slot->stop)))
            break;
        if (!note)
            note = goproc_waits_for(reason == GOPROC_SLEEP_TASKS ? GOPROC_WAIT_TASK : GOPROC_WAIT_ROOM, self->control,
                                    0, 0);
        int error, looks = goproc_looks() && reason == GOPROC_SLEEP_TASKS && (ns < 0 || ns > GOPROC_LOOK_NS);
        Py_BEGIN_ALLOW_THREADS;
        error = goproc_futex_wait(&slot->bell, bell, looks ? GOPROC_LOOK_NS : ns);
        Py_END_ALLOW_THREADS;
        if (error == ETIMEDOUT && looks) {
            ns = ns < 0 ? ns : ns - GOPROC_LOOK_NS;
            goproc_look();
        } else if (error == ETIMEDOUT && ns >= 0) {
            ns = goproc_arenas_rest(&self->out, &self->in) ? GOPROC_IDLE_NS : -1;
        } else if (error == EINTR && PyErr_CheckSignals() < 0) {
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
static int wait_for_task(Channel *self) {
    uint32_t most = atomic_load_explicit(&self->control->spin_ns, memory_order_relaxed);
    uint64_t start = goproc_now_ns();
    if (!GOPROC_SPIN(&self->spinner, start, &self->slot->task_tail, self->task_head) &&
        sleep_until_rung(self, GOPROC_SLEEP_TASKS, self->task_head) < 0)
        return -1;
    goproc_spinner_waited(&self->spinner, most, goproc_now_ns() - start);
    return 0;
}

/* Begins the next tasks of the frame, at most most of them. Returns how many; 0 when all have been begun or taken back.
 * Sets *first to the number of the first. */
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

/* Begins the next task of the frame. Returns its number, or -1 when none is left. */
static int64_t begin(Channel *self) {
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

/* If no task of the frame is left, removes it from the ring, and forgets it. */
static void leave(Channel *self) {
    uint32_t claim = atomic_load(&self->frame->claim);
    if (goproc_claim_next(claim) < goproc_claim_end(claim))
        return;
    self->frame = NULL;
    self->task_head = self->after;
    atomic_store(&self->slot->task_head, self->after);
}

/* Raises the error that ends this worker: this worker, or another one, has overwritten the memory. Returns NULL. */
static void *nonsense(const char *where) {
    return PyErr_Format(PyExc_RuntimeError,
                        "the memory that this worker shares with its pool has been overwritten (%s): the worker ends",
                        where);
}

/* Whether the parent can have pushed the frame at the task ring's head, so that all of it lies before the tail. */
static int is_possible(const Channel *self, const goproc_frame *frame, uint64_t tail) {
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
    Channel *self = (Channel *)object;
    if (check_owner(self) < 0)
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
            return nonsense("tasks");
        if (frame->kind == GOPROC_KIND_PAD) {
            self->task_head += frame->size;
            atomic_store_explicit(&slot->task_head, self->task_head, memory_order_release);
            continue;
        }
        goproc_look_in_time();
        self->frame = frame;
        self->after = self->task_head + goproc_frame_space(frame->size);
        int64_t number = begin(self);
        PyObject *payload = number < 0 ? NULL : goproc_payload_unpack(&self->in, frame + 1, frame->size, frame->flags);
        leave(self);
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
    Channel *self = (Channel *)object;
    unsigned long most = PyLong_AsUnsignedLong(argument);
    if (PyErr_Occurred() || check_owner(self) < 0)
        return NULL;
    uint32_t first, count = 0;
    if (self->frame != NULL && self->begun > 0) {
        count = claim_tasks(self->frame, most < UINT16_MAX ? (uint32_t)most : UINT16_MAX, &first);
        self->begun += count;
        leave(self);
    }
    return PyLong_FromUnsignedLong(count);
}

PyDoc_STRVAR(time_doc, "time()\n--\n\n"
                       "Count the time of the task that has been begun from now on.\n\n"
                       "How long tasks take decides how many are sent at once. A batch is unpickled once for many\n"
                       "tasks: if that counted for the first ones, few would be sent with each batch.");

static PyObject *channel_time(PyObject *object, PyObject *Py_UNUSED(unused)) {
    Channel *self = (Channel *)object;
    if (check_owner(self) < 0)
        return NULL;
    if (self->begun > 0)
        atomic_store_explicit(&self->slot->started_ns, goproc_now_ns(), memory_order_release);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(base_doc, "base(size)\n--\n\n"
                       "Say how many bytes of memory this worker has, now that a task has been begun.");

static PyObject *channel_base(PyObject *object, PyObject *argument) {
    Channel *self = (Channel *)object;
    unsigned long long size = PyLong_AsUnsignedLongLong(argument);
    if (PyErr_Occurred() || check_owner(self) < 0)
        return NULL;
    atomic_store_explicit(&self->slot->base_bytes, size, memory_order_release);
    Py_RETURN_NONE;
}

/* Waits until the result ring has room for space contiguous bytes. Returns where they begin, or NULL with an
 * exception. */
static goproc_frame *reserve(Channel *self, uint64_t space) {
    goproc_slot *slot = self->slot;
    uint64_t at = self->result_tail % GOPROC_RING_SIZE;
    uint64_t pad = at + space > GOPROC_RING_SIZE ? GOPROC_RING_SIZE - at : 0;
    for (;;) {
        uint64_t head = atomic_load_explicit(&slot->result_head, memory_order_acquire);
        if (self->result_tail - head > GOPROC_RING_SIZE)
            return nonsense("results");
        if (self->result_tail + pad + space - head <= GOPROC_RING_SIZE)
            break;
        if (sleep_until_rung(self, GOPROC_SLEEP_ROOM, head) < 0)
            return NULL;
    }
    if (pad > 0) { /* it may be shorter than a header: only its first eight bytes are read */
        goproc_frame *frame = (goproc_frame *)(self->results + at);
        frame->size = (uint32_t)pad;
        frame->kind = GOPROC_KIND_PAD;
        self->result_tail += pad;
    }
    return (goproc_frame *)(self->results + self->result_tail % GOPROC_RING_SIZE);
}

PyDoc_STRVAR(send_doc,
             "send(failed, stream, buffers=None, last=False)\n--\n\n"
             "Deliver the result of all tasks that have been begun, mostly one, and begin the next task of the\n"
             "batch.\n\n"
             "stream is the pickled result, or, when failed is true, the pickled exception; buffers are the\n"
             "buffers that pickling left out of it. Waits while the pool has no room for it. Returns the\n"
             "number of the next task in the batch, or -1 when there is none: then recv() comes next. When last\n"
             "is true, no task is begun: this worker is about to end. If this worker has not begun any task yet,\n"
             "the exception says why it cannot begin: it is the failure of no task.");

static PyObject *channel_send(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    Channel *self = (Channel *)object;
    if (count < 2 || count > 4) {
        PyErr_SetString(PyExc_TypeError, "send() takes 2 to 4 arguments");
        return NULL;
    }
    int failed = PyObject_IsTrue(args[0]), last = count > 3 ? PyObject_IsTrue(args[3]) : 0;
    if (failed < 0 || last < 0 || check_owner(self) < 0)
        return NULL;
    goproc_payload payload;
    if (goproc_payload_pack(&payload, &self->out, args[1], count > 2 ? args[2] : NULL) < 0)
        return NULL;
    goproc_frame *frame = reserve(self, goproc_frame_space(payload.size));
    if (frame == NULL) {
        if (payload.flags & GOPROC_FLAG_EXTENT)
            goproc_arena_reclaim(&self->out, &payload.extent);
        goproc_payload_done(&payload);
        return NULL;
    }
    goproc_slot *slot = self->slot;
    uint64_t started = atomic_load_explicit(&slot->started_ns, memory_order_relaxed);
    uint64_t busy_us = (goproc_now_ns() - started) / 1000;
    frame->size = (uint32_t)payload.size;
    frame->kind = failed ? GOPROC_KIND_FAILURE : GOPROC_KIND_RESULT;
    frame->flags = (uint16_t)payload.flags;
    frame->job = started ? atomic_load_explicit(&slot->current_job, memory_order_relaxed) : GOPROC_NO_JOB;
    frame->index = atomic_load_explicit(&slot->current_index, memory_order_relaxed);
    atomic_store_explicit(&frame->claim, self->begun ? self->begun : 1, memory_order_relaxed);
    self->begun = 0;
    frame->busy_us = busy_us < 1 ? 1 : busy_us > UINT32_MAX ? UINT32_MAX : (uint32_t)busy_us;
    memcpy(frame + 1, payload.bytes, payload.size);
    goproc_payload_done(&payload);
    atomic_store_explicit(&slot->started_ns, 0, memory_order_relaxed);
    self->result_tail += goproc_frame_space(frame->size);
    atomic_store(&slot->result_tail, self->result_tail);
    atomic_fetch_add(&self->control->doorbell, 1);
    int64_t next = -1;
    if (self->frame != NULL && !last) {
        next = begin(self);
        leave(self);
    }
    int dry = next < 0 && atomic_load(&slot->task_tail) == self->task_head;
    int full = self->result_tail - atomic_load(&slot->result_head) > GOPROC_RING_SIZE / 2;
    poke(self, 1, dry, full);
    goproc_arenas_tidy(&self->out, &self->in);
    return PyLong_FromLongLong(next);
}

static PyMethodDef channel_methods[] = {
    {"recv", channel_recv, METH_NOARGS, recv_doc},
    {"more", channel_more, METH_O, more_doc},
    {"time", channel_time, METH_NOARGS, time_doc},
    {"base", channel_base, METH_O, base_doc},
    {"send", (PyCFunction)(void (*)(void))channel_send, METH_FASTCALL, send_doc},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject ChannelType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc._native.Channel",
    .tp_doc =
        PyDoc_STR("Channel(memory_fd, slot, serial)\n--\n\n"
                  "A worker's end of a pool. It owns the descriptor of the pool's memory. slot is the worker's place\n"
                  "in the memory. serial, from 1, is this worker's alone."),
    .tp_basicsize = sizeof(Channel),
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
