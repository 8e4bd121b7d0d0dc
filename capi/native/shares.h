/* shares.h - when a pool's worker looks at the shared objects that it keeps: see shares.c. All need the GIL. */
#ifndef GOPROC_SHARES_H
#define GOPROC_SHARES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

/* The time between two looks of a worker, in nanoseconds. */
#define GOPROC_LOOK_NS INT64_C(500000000)

/* Notes that this process is a pool's worker. */
void goproc_looks_of_this_process(void);

/* Notes that the worker's channel is gone. */
void goproc_looks_no_longer(void);

/* Whether there is anything to look at. */
bool goproc_looks(void);

/* Looks now; or only if the last look was more than GOPROC_LOOK_NS ago. */
void goproc_look(void);
void goproc_look_in_time(void);

int goproc_init_shares(PyObject *module);

#endif
