/* host.h - starting the Go runtime of the engine; see host.c. `_native` finds the function by dlsym(). */
#ifndef GOPROC_HOST_H
#define GOPROC_HOST_H

#include <stdint.h>

enum { GOPROC_HOST_MEMORY = 1, GOPROC_HOST_THREADS = 2 };

/* Starts the runtime of the library, which is loaded, and waits for nothing. Returns 0, or a negative errno, and then
 * which of GOPROC_HOST_* is lacking. In that case nothing runs, and of the library's functions only this one may be
 * called. */
typedef int32_t (*goproc_host_start_fn)(int32_t *lacking);
int32_t goproc_host_start(int32_t *lacking);

/* Parks one more thread for the runtime. Returns 0 or an error's number. Called by host.go. */
int goproc_host_add_thread(void);

#endif
