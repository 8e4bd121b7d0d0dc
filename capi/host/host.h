/* host.h - starting the Go runtime of the engine; see host.c. `_native` finds the function by dlsym(). */
#ifndef GOPROC_HOST_H
#define GOPROC_HOST_H

#include <stdint.h>

enum { GOPROC_HOST_MEMORY = 1, GOPROC_HOST_THREADS = 2 };

/* Starts the Go runtime of the library, which has been loaded. Does nothing if it has been started. To be called by one
 * thread at a time, before any function of goproc.h.
 *
 * lacking   If the start fails, it is set to what could not be got: one of GOPROC_HOST_*.
 *
 * Thread    Without the GIL, because it waits for threads that it makes and ends.
 * Time      At most about 100 ms. It does not wait until the runtime runs. The first call of another function does.
 * Child     Yes, unless the library was started in the parent process.
 * Returns   0 | a negative errno: then nothing runs, and of the library's functions only this one may be called */
int32_t goproc_host_start(int32_t *lacking);
typedef __typeof__(&goproc_host_start) goproc_host_start_fn;

/* Parks one more thread for the runtime. Returns 0 or an error's number. Called by host.go. */
int goproc_host_add_thread(void);

#endif
