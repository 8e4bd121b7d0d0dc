/* port.h - the parent's end of a pool: it hands tasks to the engine, and collects completions.
 *
 * The engine is called inline, on the calling Python thread, and its calls never wait. Waiting is done here: without
 * the GIL, and so that signal handlers run.
 *
 *   port.c          the object: making and closing it; handing tasks to the engine
 *   port_collect.c  collecting completions, and waiting for them
 */
#ifndef GOPROC_PORT_H
#define GOPROC_PORT_H

#include "native.h"
#include "payload/payload.h"
#include "wake.h"

enum { GOPROC_PORT_BUFFER = 128 << 10 };

typedef struct goproc_port {
    PyObject_HEAD
    struct goproc_port *next; /* in open_ports */
    int64_t number;
    int memory_fd;
    uint32_t memory_mark;
    goproc_control *control;
    goproc_pool_submit_fn submit;
    goproc_pool_collect_fn collect;
    goproc_pool_unseen_fn unseen;
    goproc_poison_fn poison;
    goproc_spinner spinner;
    goproc_arena out, in;
    uint8_t *buffer;
    int64_t left_at, left_end;     /* the rest of the buffer, for which memory was too short; none: both are equal */
    PyObject *untaken;             /* a list for which take() has raised; or NULL */
    int woken;                     /* set by wake(): collect() returns at once */
    PyObject *posted;              /* a list of the items given to post(): collect() hands them to take() */
    unsigned long long collected;  /* how many bytes of completions have been collected */
    int full;                      /* whether the buffer was full at the last look, so that there may be more */
    _Atomic unsigned calls;        /* how often collect() has looked */
    _Atomic uint32_t drained;      /* the value of the doorbell when nothing was left to be collected */
    _Atomic int waiters;           /* how many threads wait in collect() */
    uint64_t note_job, note_since; /* the last note for dump: its job, since when, */
    uint32_t note_thread;          /* and its thread; 0: none */
    _Atomic int roused;            /* set by rouse(): watch() returns at once */
    int busy; /* how many calls may have released the GIL; if the port is closed, the last of them frees the memory */
    int closed;
    unsigned fork_depth;
} goproc_port;

/* Checks that the port may be used, before a call of the engine. Returns 0. If the port is closed, or belongs to the
 * parent process, it returns -1 with an exception set. */
int goproc_port_check(goproc_port *self);

/* Closes the port, and frees its memory if no thread uses it. If one does, that thread calls this again. */
void goproc_port_release(goproc_port *self);

/* Raises the exception for the negative result of a call of the engine. Returns NULL. */
PyObject *goproc_port_raise(goproc_port *self, int64_t result);

/* The methods of port_collect.c, and their texts. */
PyObject *goproc_port_collect(PyObject *object, PyObject *const *args, Py_ssize_t count);
PyObject *goproc_port_unseen(PyObject *object, PyObject *unused);
PyObject *goproc_port_watch(PyObject *object, PyObject *const *args, Py_ssize_t count);
PyObject *goproc_port_rouse(PyObject *object, PyObject *unused);
PyObject *goproc_port_post(PyObject *object, PyObject *item);
PyObject *goproc_port_wake(PyObject *object, PyObject *unused);
extern const char goproc_port_collect_doc[], goproc_port_unseen_doc[], goproc_port_watch_doc[];
extern const char goproc_port_rouse_doc[], goproc_port_post_doc[], goproc_port_wake_doc[];

#endif
