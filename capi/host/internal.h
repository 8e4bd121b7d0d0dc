/* internal.h - what the files of this folder share. host.c says what they are for. */
#ifndef GOPROC_HOST_INTERNAL_H
#define GOPROC_HOST_INTERNAL_H

#include <stdbool.h>

#define HIDDEN __attribute__((visibility("hidden")))

/* ---- threads.c */

/* Whether the calling thread is one of the runtime's. */
extern HIDDEN __thread bool goproc_host_runtimes __attribute__((tls_model("initial-exec")));

/* Parks all threads that the runtime may need, or none. Returns 0 or an error's number. */
HIDDEN int goproc_host_get_threads(void);

/* Whether goproc_host_run_first has been called. */
HIDDEN bool goproc_host_runs(void);

/* Has a parked thread run the function for which the library's constructor wanted a thread: this starts the runtime. */
HIDDEN void goproc_host_run_first(void);

/* ---- signal_mask.c */

/* Makes SIGSTKFLT pending in the calling thread, which is about to become the runtime's, so that its signal mask
 * will be set. All signals are blocked in it. */
HIDDEN void goproc_host_begin_masking(void);

/* ---- address_space.c */

/* Finds a place for the runtime's large reservations, and maps the reserve. Returns 0 or an error's number. */
HIDDEN int goproc_host_get_memory(void);

/* Gives the reserve back: the start has failed. */
HIDDEN void goproc_host_give_memory_back(void);

#endif
