/* waits.c - what the threads of this process wait for: the notes, and the record that leads dump to them.
 *
 * Only this process writes here, and only dump reads. A note is published by its thread's id, which is written last.
 */
#define _GNU_SOURCE
#include "../sync/sync.h"
#include "record.h"

#include <string.h>
#include <sys/mman.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

/* It is initialised, so it lies in the data of the library, which has the library's name in /proc/PID/maps. */
goproc_record goproc_the_record = {.magic = "goproc\x01\x02record\n", .version = GOPROC_RECORD_VERSION};

/* The notes lie in memory of their own, which is empty in forked children. So neither the parent's next note nor a
 * child copies a page. NULL: there is no memory, and nothing is noted. */
static goproc_notes *notes;
static int wiped; /* whether the kernel empties it: Linux 4.14 and later */

goproc_wait *goproc_waits_for(uint32_t kind, const void *object, uint64_t number, uint64_t deadline_ns) {
    if (!notes || goproc_the_record.off)
        return NULL;
    for (uint32_t i = 0; i < GOPROC_MOST_WAITS; i++) {
        goproc_wait *wait = &notes->waits[i];
        uint32_t nobody = 0;
        if (atomic_load_explicit(&wait->thread, memory_order_relaxed) ||
            !atomic_compare_exchange_strong(&wait->thread, &nobody, GOPROC_WAIT_CLAIMED))
            continue;
        wait->kind = kind;
        wait->object = (uintptr_t)object;
        wait->number = number;
        wait->since_ns = goproc_now_ns();
        wait->deadline_ns = deadline_ns;
        wait->what[0] = 0;
        atomic_store_explicit(&wait->asleep, 0, memory_order_relaxed);
        atomic_store_explicit(&wait->thread, goproc_my_thread(), memory_order_release);
        return wait;
    }
    return NULL;
}

void goproc_waits_no_longer(goproc_wait *wait) {
    if (wait && atomic_load_explicit(&wait->thread, memory_order_relaxed) == goproc_my_thread())
        atomic_store_explicit(&wait->thread, 0, memory_order_release);
}

void goproc_note_helper(const char *title) {
    goproc_record *record = &goproc_the_record;
    uint32_t me = (uint32_t)getpid();
    if (title) {
        record->helper_pid = me;
        snprintf(record->helper, sizeof record->helper, "%s", title);
    } else if (record->helper_pid == me) {
        record->helper_pid = 0;
    }
}

void goproc_note_worker(const void *control, const void *slot) {
    if (notes) {
        notes->control = (uintptr_t)control;
        notes->slot = (uintptr_t)slot;
    }
}

/* Inside fork(): only stores, and only where something must change, so that no other page is copied. The threads that
 * waited are the parent's. */
void goproc_waits_forked(void) {
    if (!notes || wiped)
        return;
    for (uint32_t i = 0; i < GOPROC_MOST_WAITS; i++)
        if (atomic_load(&notes->waits[i].thread))
            atomic_store(&notes->waits[i].thread, 0);
    if (notes->control)
        notes->control = notes->slot = 0;
}

static void make_notes(void) {
    void *memory = mmap(NULL, sizeof *notes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return;
    notes = memory;
    wiped = madvise(memory, sizeof *notes, MADV_WIPEONFORK) == 0;
}

/* ---- the module's part ------------------------------------------------------------------------------------------- */

PyDoc_STRVAR(
    wait_noted_doc,
    "wait_noted(wait, args, kind, what='', object=0, number=0, deadline=None, since=None)\n--\n\n"
    "Return wait(*args), a call that may sleep. Meanwhile it is noted for dump for what this thread waits.\n\n"
    "No signal handler can run between the call and the note. kind: one of WAIT_*. what: of WAIT_OTHER, a text of at\n"
    "most 39 bytes. object: an address in this process; number: see waits.h. deadline: when it stops waiting; since:\n"
    "when the wait has begun, if this call is not its first; both as of time.monotonic().");

/* Reads a time in seconds; 0 for None, or -1 with an exception set. */
static int read_seconds(PyObject *argument, uint64_t *ns) {
    double seconds = argument == Py_None ? 0 : PyFloat_AsDouble(argument);
    if (PyErr_Occurred())
        return -1;
    *ns = seconds > 0 && seconds < 1e9 ? (uint64_t)(seconds * 1e9) : 0;
    return 0;
}

static PyObject *wait_noted(PyObject *Py_UNUSED(module), PyObject *args, PyObject *named) {
    static char *names[] = {"wait", "args", "kind", "what", "object", "number", "deadline", "since", NULL};
    const char *what = "";
    unsigned kind;
    PyObject *wait, *wait_args, *object = NULL, *number = NULL, *deadline_arg = Py_None, *since_arg = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, named, "OO!I|sOOOO:wait_noted", names, &wait, &PyTuple_Type, &wait_args,
                                     &kind, &what, &object, &number, &deadline_arg, &since_arg))
        return NULL;
    uint64_t deadline_ns, since_ns;
    if (read_seconds(deadline_arg, &deadline_ns) < 0 || read_seconds(since_arg, &since_ns) < 0)
        return NULL;
    uint64_t at = object ? PyLong_AsUnsignedLongLongMask(object) : 0;
    uint64_t of = number ? PyLong_AsUnsignedLongLongMask(number) : 0;
    if (PyErr_Occurred())
        return NULL;
    goproc_wait *note = goproc_waits_for(kind, (const void *)(uintptr_t)at, of, deadline_ns);
    if (note)
        snprintf(note->what, sizeof note->what, "%s", what);
    if (note && since_ns)
        note->since_ns = since_ns;
    PyObject *result = PyObject_Call(wait, wait_args, NULL);
    goproc_waits_no_longer(note);
    return result;
}

PyDoc_STRVAR(note_no_waits_doc, "note_no_waits()\n--\n\n"
                                "Have this process, and processes that it forks, note nothing for dump.");

static PyObject *note_no_waits(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    goproc_the_record.off = 1;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(layout_names_doc,
             "layout_names()\n--\n\nThe names of the numbers in the layout of a record, in their order.");

static PyObject *layout_names(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    PyObject *list = PyList_New(0);
    for (int i = 0; list && goproc_layout_name(i); i++) {
        PyObject *name = PyUnicode_FromString(goproc_layout_name(i));
        if (!name || PyList_Append(list, name) < 0)
            Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}

static PyMethodDef methods[] = {
    {"wait_noted", (PyCFunction)(void (*)(void))wait_noted, METH_VARARGS | METH_KEYWORDS, wait_noted_doc},
    {"note_no_waits", note_no_waits, METH_NOARGS, note_no_waits_doc},
    {"layout_names", layout_names, METH_NOARGS, layout_names_doc},
    {NULL, NULL, 0, NULL},
};

int goproc_init_waits(PyObject *module) {
    static const struct {
        const char *name;
        int value;
    } kinds[] = {
        {"WAIT_RESULT", GOPROC_WAIT_RESULT},       {"WAIT_QUEUE_GET", GOPROC_WAIT_QUEUE_GET},
        {"WAIT_QUEUE_PUT", GOPROC_WAIT_QUEUE_PUT}, {"WAIT_QUEUE_JOIN", GOPROC_WAIT_QUEUE_JOIN},
        {"WAIT_OTHER", GOPROC_WAIT_OTHER},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (PyModule_AddIntConstant(module, kinds[i].name, kinds[i].value) < 0)
            return -1;
    goproc_fill_record(&goproc_the_record);
    if (!notes)
        make_notes();
    goproc_the_record.pid = (uint32_t)getpid();
    goproc_the_record.notes = (uintptr_t)notes;
    goproc_the_record.wait_count = GOPROC_MOST_WAITS;
    goproc_the_record.wait_size = sizeof(goproc_wait);
    if (goproc_on_fork_child(goproc_waits_forked) < 0)
        return -1;
    return PyModule_AddFunctions(module, methods);
}
