/* host.h - starting the Go runtime of the engine; see host.c. `_transport` finds the function by dlsym(). */
#ifndef GOPROC_HOST_H
#define GOPROC_HOST_H

#include <stdint.h>

enum { GOPROC_HOST_MEMORY = 1, GOPROC_HOST_THREADS = 2 };

/* Starts the runtime of the library, which is loaded, and waits for nothing. Returns 0, or a negative errno, and which of
 * GOPROC_HOST_* is lacking: then nothing runs, no other function of the library may be called, and this one may be called again. */
typedef int32_t (*goproc_host_start_fn)(int32_t *lacking);
int32_t goproc_host_start(int32_t *lacking);

/* Parks one more thread for the runtime. Returns 0 or an error's number. Called by host.go. */
int goproc_host_add_thread(void);

#endif
