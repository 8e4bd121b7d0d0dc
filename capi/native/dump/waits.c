/* waits.c - what the threads of this process wait for: the notes, and the record that leads dump to them.
 *
 * Only this process writes here, and only dump reads. A note is published by its thread's id, which is written last.
 */
#include "../sync/sync.h"
#include "record.h"

#include <string.h>

/* It is initialised, so it lies in the data of the library, which has the library's name in /proc/PID/maps. */
goproc_record goproc_the_record = {.magic = "goproc\x01\x02record\n", .version = GOPROC_RECORD_VERSION};

static goproc_wait waits[GOPROC_MOST_WAITS];
static _Atomic uint32_t used; /* places behind these were never used in this process */

goproc_wait *goproc_waits_for(uint32_t kind, const void *object, uint64_t number, uint64_t deadline_ns) {
    if (goproc_the_record.off)
        return NULL;
    for (uint32_t i = 0; i < GOPROC_MOST_WAITS; i++) {
        goproc_wait *wait = &waits[i];
        uint32_t nobody = 0;
        if (atomic_load_explicit(&wait->thread, memory_order_relaxed) ||
            !atomic_compare_exchange_strong(&wait->thread, &nobody, GOPROC_WAIT_CLAIMED))
            continue;
        if (atomic_load_explicit(&used, memory_order_relaxed) <= i)
            atomic_store(&used, i + 1);
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
    record->role = title ? GOPROC_ROLE_HELPER : GOPROC_ROLE_FORKED;
    snprintf(record->helper, sizeof record->helper, "%s", title ? title : "");
}

void goproc_note_worker(const void *control, const void *slot) {
    goproc_the_record.control = (uintptr_t)control;
    goproc_the_record.slot = (uintptr_t)slot;
}

/* Inside fork(): only stores. The threads that waited are the parent's. */
void goproc_waits_forked(void) {
    goproc_record *record = &goproc_the_record;
    uint32_t count = atomic_load(&used);
    if (count) {
        memset((void *)waits, 0, count * sizeof *waits);
        atomic_store(&used, 0);
    }
    record->control = record->slot = 0;
    if (record->role != GOPROC_ROLE_HELPER) /* a helper's child is one, until it gives the title back */
        record->role = GOPROC_ROLE_FORKED;
}

/* ---- the module's part ------------------------------------------------------------------------------------------- */

PyDoc_STRVAR(note_process_doc, "note_process(name, method)\n--\n\n"
                               "Note for dump which Process this process is, and its start method; None: not known.");

static PyObject *note_process(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    goproc_record *record = &goproc_the_record;
    char *to[] = {record->name, record->method};
    size_t sizes[] = {sizeof record->name, sizeof record->method};
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "note_process() takes 2 arguments");
        return NULL;
    }
    for (int i = 0; i < 2; i++) {
        const char *text = PyUnicode_Check(args[i]) ? PyUnicode_AsUTF8(args[i]) : NULL;
        if (!text)
            PyErr_Clear(); /* a program may give a process any name */
        snprintf(to[i], sizes[i], "%s", text ? text : "");
    }
    record->role = GOPROC_ROLE_CHILD;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    waits_for_doc,
    "waits_for(kind, what='', object=0, number=0, deadline=None)\n--\n\n"
    "Note for dump that the calling thread is about to sleep, and for what.\n\n"
    "kind: one of WAIT_*. what: of WAIT_OTHER, a text of at most 39 bytes. object: an address in this process;\n"
    "number: see waits.h. deadline: when it stops waiting, as of time.monotonic(). Returns a number for\n"
    "waits_no_longer().");

static PyObject *waits_for(PyObject *Py_UNUSED(module), PyObject *args, PyObject *named) {
    static char *names[] = {"kind", "what", "object", "number", "deadline", NULL};
    const char *what = "";
    unsigned kind;
    PyObject *object = NULL, *number = NULL, *deadline_arg = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, named, "I|sOOO:waits_for", names, &kind, &what, &object, &number,
                                     &deadline_arg))
        return NULL;
    double deadline = deadline_arg == Py_None ? 0 : PyFloat_AsDouble(deadline_arg);
    uint64_t at = object ? PyLong_AsUnsignedLongLongMask(object) : 0;
    uint64_t of = number ? PyLong_AsUnsignedLongLongMask(number) : 0;
    if (PyErr_Occurred())
        return NULL;
    uint64_t deadline_ns = deadline > 0 && deadline < 1e9 ? (uint64_t)(deadline * 1e9) : 0;
    goproc_wait *wait = goproc_waits_for(kind, (const void *)(uintptr_t)at, of, deadline_ns);
    if (wait)
        snprintf(wait->what, sizeof wait->what, "%s", what);
    return PyLong_FromLong(wait ? (long)(wait - waits) : -1);
}

PyDoc_STRVAR(waits_no_longer_doc, "waits_no_longer(wait)\n--\n\n"
                                  "Note for dump that the wait is over. wait: what waits_for() has returned.");

static PyObject *waits_no_longer(PyObject *Py_UNUSED(module), PyObject *number) {
    long index = PyLong_AsLong(number);
    if (index == -1 && PyErr_Occurred())
        return NULL;
    if (index >= 0 && index < GOPROC_MOST_WAITS)
        goproc_waits_no_longer(&waits[index]);
    Py_RETURN_NONE;
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
    {"note_process", (PyCFunction)(void (*)(void))note_process, METH_FASTCALL, note_process_doc},
    {"waits_for", (PyCFunction)(void (*)(void))waits_for, METH_VARARGS | METH_KEYWORDS, waits_for_doc},
    {"waits_no_longer", waits_no_longer, METH_O, waits_no_longer_doc},
    {"note_no_waits", note_no_waits, METH_NOARGS, note_no_waits_doc},
    {"layout_names", layout_names, METH_NOARGS, layout_names_doc},
    {NULL, NULL, 0, NULL},
};

int goproc_init_waits(PyObject *module) {
    static const struct {
        const char *name;
        int value;
    } kinds[] = {
        {"WAIT_RESULT", GOPROC_WAIT_RESULT},
        {"WAIT_QUEUE_GET", GOPROC_WAIT_QUEUE_GET},
        {"WAIT_QUEUE_PUT", GOPROC_WAIT_QUEUE_PUT},
        {"WAIT_OTHER", GOPROC_WAIT_OTHER},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (PyModule_AddIntConstant(module, kinds[i].name, kinds[i].value) < 0)
            return -1;
    goproc_fill_record(&goproc_the_record);
    goproc_the_record.waits = (uintptr_t)waits;
    goproc_the_record.wait_count = GOPROC_MOST_WAITS;
    goproc_the_record.wait_size = sizeof *waits;
    if (goproc_on_fork_child(goproc_waits_forked) < 0)
        return -1;
    return PyModule_AddFunctions(module, methods);
}
