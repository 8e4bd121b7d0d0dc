/* host.c - the threads and the address space that the engine's Go runtime takes from the process that loads it.
 *
 * The problem. When the runtime cannot have a thread or a mapping it ends the process, and no program can catch that.
 * It may happen when the library is loaded, or at any time later. The runtime reserves 1.2 GB of address space. Each of
 * its threads takes a malloc arena of 64 MB and a stack of 8 MB. A forked child never runs its parent's Go runtime, but
 * inherits all of that, and so cannot limit its own address space (RLIMIT_AS) to less. The runtime has no settings for
 * any of this.
 *
 * The solution. In a shared library the runtime makes its threads and its mappings by calling pthread_create(), mmap(),
 * malloc() and free(). The linker binds these calls to the functions of these names in this folder, which are hidden:
 * nothing else in the process sees them.
 *   - Loading the library does not start the runtime. goproc_host_start() first maps a reserve of address space, and
 *     makes all threads that the runtime will need, and parks them. If it cannot, it gives these back, says why, and
 *     can be called again.
 *   - The runtime's threads are the parked ones (threads.c). Their stacks are small, and they never enter the C
 *     library's malloc() (malloc.c).
 *   - The large reservations of the runtime, of which it uses a few pages, are only noted, not made: see note() in
 *     address_space.c.
 *   - What the kernel refuses later comes from the reserve: see take() there.
 *   - Forked children do not get the runtime's memory (MADV_DONTFORK).
 *   - The runtime's threads block all signals but those of faults (signal_mask.c).
 *
 * This file has the start: `_native` calls goproc_host_start() when the engine is to be loaded (native/start.c).
 *
 * Limits. The reserve is 64 MB. When that may be too little, the engine takes no further tasks (sys.Room). Nothing here
 * helps a process that the kernel kills for want of memory.
 *
 * Source: runtime/cgo (gcc_libinit.c, gcc_mmap.c, gcc_linux_amd64.c, gcc_util.c) and runtime/mem_linux.go of Go.
 */
#include "host.h"
#include "internal.h"

__attribute__((visibility("default"))) int32_t goproc_host_start(int32_t *lacking) {
    if (goproc_host_runs())
        return 0;
    *lacking = GOPROC_HOST_MEMORY;
    int error = goproc_host_get_memory();
    if (error)
        return -error;
    *lacking = GOPROC_HOST_THREADS;
    error = goproc_host_get_threads();
    if (error) {
        goproc_host_give_memory_back();
        return -error;
    }
    goproc_host_run_first();
    return 0;
}
