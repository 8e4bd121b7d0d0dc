/* layout.c - where things are in the structures of this Python, and in those of goproc.
 *
 * dump reads a process that may run another version of Python than dump itself. _native is built for one version, so it
 * knows the offsets: the compiler has put all of them into the record. From Python 3.13 on the interpreter has such a
 * table itself, for debuggers, but 3.10 to 3.12 have none.
 */
#define Py_BUILD_CORE_MODULE 1
#include "../sync/holders.h"
#include "../layout.h"
#include "record.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

#include "internal/pycore_interp.h"
#include "internal/pycore_runtime.h"
#if PY_VERSION_HEX >= 0x030B0000
#include "internal/pycore_frame.h"
#else
#include <frameobject.h>
#endif

/* ---- what differs between versions ------------------------------------------------------------------------------- */

#if PY_VERSION_HEX >= 0x030E0000
#include "internal/pycore_interpframe_structs.h"
#endif

/* Where a thread's state has the frame, or the structure that has the frame at FRAME_IN. */
#if PY_VERSION_HEX >= 0x030D0000
#define THREAD_FRAME offsetof(PyThreadState, current_frame)
#define FRAME_IN -1
#elif PY_VERSION_HEX >= 0x030B0000
#define THREAD_FRAME offsetof(PyThreadState, cframe)
#define FRAME_IN offsetof(_PyCFrame, current_frame)
#else
#define THREAD_FRAME offsetof(PyThreadState, frame)
#define FRAME_IN -1
#endif

#if PY_VERSION_HEX >= 0x030B0000
typedef _PyInterpreterFrame frame;
#define FRAME_PREVIOUS offsetof(frame, previous)
#define FRAME_LOCALS offsetof(frame, localsplus)
#define FRAME_OWNER offsetof(frame, owner)
#define CODE_NAME offsetof(PyCodeObject, co_qualname)
#define CODE_NAMES offsetof(PyCodeObject, co_localsplusnames)
#define CODE_CODE offsetof(PyCodeObject, co_code_adaptive)
#define THREAD_NATIVE offsetof(PyThreadState, native_thread_id)
#else
typedef PyFrameObject frame;
#define FRAME_PREVIOUS offsetof(frame, f_back)
#define FRAME_LOCALS offsetof(frame, f_localsplus)
#define FRAME_OWNER -1
#define CODE_NAME offsetof(PyCodeObject, co_name)
#define CODE_NAMES offsetof(PyCodeObject, co_varnames)
#define CODE_CODE -1
#define THREAD_NATIVE -1
#endif

#if PY_VERSION_HEX >= 0x030D0000
#define FRAME_CODE offsetof(frame, f_executable)
#define FRAME_INSTRUCTION offsetof(frame, instr_ptr)
#elif PY_VERSION_HEX >= 0x030B0000
#define FRAME_CODE offsetof(frame, f_code)
#define FRAME_INSTRUCTION offsetof(frame, prev_instr)
#else
#define FRAME_CODE offsetof(frame, f_code)
#define FRAME_INSTRUCTION offsetof(frame, f_lasti)
#endif

/* The owner of a frame that runs no Python code, but has a code object. */
#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030D0000
#define OWNED_BY_C FRAME_OWNED_BY_CSTACK
#else
#define OWNED_BY_C -1
#endif

/* ---- the table --------------------------------------------------------------------------------------------------- */

static PyASCIIObject unicode_mask(int kind, int ascii) {
    PyASCIIObject probe;
    memset(&probe, 0, sizeof probe);
    if (kind)
        probe.state.kind = 7;
    if (ascii)
        probe.state.ascii = 1;
    return probe;
}

/* Returns the bits of a string's state that hold its kind, or those that say that it is ASCII. */
static int32_t state_bits(PyASCIIObject probe) {
    int32_t bits;
    memcpy(&bits, &probe.state, sizeof bits);
    return bits;
}

/* Returns the offset of the kernel's id of a thread in glibc's structure for it, to which the thread's identifier in
 * Python points; -1 if it is not known. glibc describes the offset for debuggers. Python 3.10 needs it, because it does
 * not note the kernel's id. */
static int32_t id_in_thread(void) {
    const uint32_t *description = dlsym(RTLD_DEFAULT, "_thread_db_pthread_tid"); /* bits, elements, offset */
    if (!description || description[0] != 8 * sizeof(int32_t) || description[2] > 4096)
        return -1;
    uint32_t id;
    memcpy(&id, (const char *)pthread_self() + description[2], sizeof id); /* NOLINT: in glibc it is an address */
    return id == goproc_my_thread() ? (int32_t)description[2] : -1;
}

/* X(name, value): value is an offset in bytes, or a size; -1: this version has no such thing. */
#define LAYOUT(X)                                                                                                      \
    X(thread_next, offsetof(PyThreadState, next))                                                                      \
    X(thread_id, offsetof(PyThreadState, thread_id))                                                                   \
    X(thread_native_id, THREAD_NATIVE)                                                                                 \
    X(thread_frame, THREAD_FRAME)                                                                                      \
    X(id_in_thread, id_in_thread())                                                                                    \
    X(frame_in, FRAME_IN)                                                                                              \
    X(frame_previous, FRAME_PREVIOUS)                                                                                  \
    X(frame_code, FRAME_CODE)                                                                                          \
    X(frame_instruction, FRAME_INSTRUCTION)                                                                            \
    X(frame_owner, FRAME_OWNER)                                                                                        \
    X(frame_locals, FRAME_LOCALS)                                                                                      \
    X(owned_by_c, OWNED_BY_C)                                                                                          \
    X(code_filename, offsetof(PyCodeObject, co_filename))                                                              \
    X(code_name, CODE_NAME)                                                                                            \
    X(code_first_line, offsetof(PyCodeObject, co_firstlineno))                                                         \
    X(code_lines, offsetof(PyCodeObject, co_linetable))                                                                \
    X(code_names, CODE_NAMES)                                                                                          \
    X(code_code, CODE_CODE)                                                                                            \
    X(text_length, offsetof(PyASCIIObject, length))                                                                    \
    X(text_state, offsetof(PyASCIIObject, state))                                                                      \
    X(text_kind_bits, state_bits(unicode_mask(1, 0)))                                                                  \
    X(text_ascii_bit, state_bits(unicode_mask(0, 1)))                                                                  \
    X(text_ascii_size, sizeof(PyASCIIObject))                                                                          \
    X(text_size, sizeof(PyCompactUnicodeObject))                                                                       \
    X(object_type, offsetof(PyObject, ob_type))                                                                        \
    X(object_size, offsetof(PyVarObject, ob_size))                                                                     \
    X(bytes_data, offsetof(PyBytesObject, ob_sval))                                                                    \
    X(tuple_items, offsetof(PyTupleObject, ob_item))                                                                   \
    X(type_name, offsetof(PyTypeObject, tp_name))                                                                      \
    X(function_name, offsetof(PyFunctionObject, func_qualname))                                                        \
    X(builtin_definition, offsetof(PyCFunctionObject, m_ml))                                                           \
    X(definition_name, offsetof(PyMethodDef, ml_name))                                                                 \
    X(cell_kind, offsetof(goproc_cell, kind))                                                                          \
    X(who_pid, offsetof(goproc_who, pid))                                                                              \
    X(who_thread, offsetof(goproc_who, thread))                                                                        \
    X(lock_size, sizeof(goproc_lock_cell))                                                                             \
    X(lock_word, offsetof(goproc_lock_cell, word))                                                                     \
    X(lock_most, offsetof(goproc_lock_cell, most))                                                                     \
    X(lock_since, offsetof(goproc_lock_cell, since_ns))                                                                \
    X(lock_holder, offsetof(goproc_lock_cell, holder))                                                                 \
    X(lock_name, offsetof(goproc_lock_cell, name))                                                                     \
    X(name_size, GOPROC_NAME_SIZE)                                                                                     \
    X(somebody, GOPROC_SOMEBODY)                                                                                       \
    X(bounded_size, sizeof(goproc_bounded_cell))                                                                       \
    X(bounded_unnamed, offsetof(goproc_bounded_cell, unnamed))                                                         \
    X(bounded_holders, offsetof(goproc_bounded_cell, holders))                                                         \
    X(most_holders, GOPROC_MOST_HOLDERS)                                                                               \
    X(holder_size, sizeof(goproc_holder))                                                                              \
    X(holder_who, offsetof(goproc_holder, who))                                                                        \
    X(holder_permits, offsetof(goproc_holder, permits))                                                                \
    X(holder_since, offsetof(goproc_holder, since_ns))                                                                 \
    X(holder_name, offsetof(goproc_holder, name))                                                                      \
    X(slot_sleeping, offsetof(goproc_slot, sleeping))                                                                  \
    X(slot_job, offsetof(goproc_slot, current_job))                                                                    \
    X(slot_index, offsetof(goproc_slot, current_index))                                                                \
    X(slot_started, offsetof(goproc_slot, started_ns))

#define ONE(name, value) +1
_Static_assert((0 LAYOUT(ONE)) <= GOPROC_MOST_LAYOUT, "the record has no room for so many offsets");

const char *goproc_layout_name(int index) {
#define NAME(name, value) #name,
    static const char *const names[] = {LAYOUT(NAME) NULL};
    return names[index];
}

void goproc_fill_record(goproc_record *record) {
    PyInterpreterState *interpreter = PyInterpreterState_Main();
#define VALUE(name, value) (int32_t)(value),
    int32_t layout[] = {LAYOUT(VALUE)};
    memcpy(record->layout, layout, sizeof layout);
    record->types[0] = (uintptr_t)&PyCode_Type;
    record->types[1] = (uintptr_t)&PyFunction_Type;
    record->types[2] = (uintptr_t)&PyCFunction_Type;
    record->types[3] = (uintptr_t)&PyType_Type;
#if PY_VERSION_HEX >= 0x030C0000
    struct _gil_runtime_state *gil = interpreter->ceval.gil;
#else
    struct _gil_runtime_state *gil = &_PyRuntime.ceval.gil;
#endif
    record->holder = (uintptr_t)&gil->last_holder;
    record->locked = (uintptr_t)&gil->locked;
#if PY_VERSION_HEX >= 0x030B0000
    record->threads = (uintptr_t)&interpreter->threads.head;
#else
    record->threads = (uintptr_t)&interpreter->tstate_head;
#endif
}
