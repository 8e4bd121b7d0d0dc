/* port.h - the parent's end of a pool: it hands tasks to the engine and takes what has completed.
 *
 * The engine's calls are made inline on the calling Python thread. Only waiting happens here, so that it releases the
 * GIL, and that signal handlers run.
 *
 *   port.c          the object: making and closing it; handing tasks to the engine
 *   port_collect.c  taking what has completed, and waiting for it
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
    int woken;                    /* by wake(): collect() returns at once */
    PyObject *posted;             /* by post(): a list of what collect() is to give to take */
    unsigned long long collected; /* how many bytes of completions have been */
    int full;                     /* whether the last look had no room for more, if there was more */
    _Atomic unsigned calls;       /* how often collect() has looked */
    _Atomic uint32_t drained;     /* what the doorbell was when nothing was left to be collected */
    _Atomic int waiters;          /* how many threads wait in collect() */
    _Atomic int roused;           /* by rouse(): watch() returns at once */
    int busy; /* how many calls may be without the GIL: only the last of them gives the memory back */
    int closed;
    unsigned fork_depth;
} goproc_port;

/* Checks that the port may be used, before a call of the engine. Returns 0, or -1 with an exception set when it is
 * closed, or the parent process's. */
int goproc_port_check(goproc_port *self);

/* Frees what the port has, as soon as no thread uses it. */
void goproc_port_release(goproc_port *self);

/* Raises what a negative result of an engine's call means. Returns NULL. */
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
