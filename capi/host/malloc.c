/* malloc.c - malloc() and free() in the library of the engine. On the Go runtime's threads they hand out small blocks
 * from an array here, because the C library's malloc() would reserve an arena of 64 MB for each thread. On all other
 * threads they call the C library's functions.
 *
 * The runtime calls them, and so does the C code of the library.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>

enum { BLOCKS = 64, BLOCK_SIZE = 256 };

static struct {
    void *(*malloc)(size_t);
    void (*free)(void *);
} c_library;

__attribute__((constructor(101))) static void find_c_library(void) {
    /* The functions that any other library gets: LD_PRELOAD may have replaced the C library's. */
    *(void **)&c_library.malloc = dlsym(RTLD_DEFAULT, "malloc");
    *(void **)&c_library.free = dlsym(RTLD_DEFAULT, "free");
}

static _Alignas(16) uint8_t blocks[BLOCKS][BLOCK_SIZE];
static _Atomic bool block_used[BLOCKS];

/* Memory that other threads have allocated, and the runtime's threads have freed: a list, in which each piece begins
 * with the address of the next. Another thread gives it to the C library, the next time that it calls malloc(). */
static void *put_off;

static void free_what_was_put_off(void) {
    void *memory =
        __atomic_load_n(&put_off, __ATOMIC_RELAXED) ? __atomic_exchange_n(&put_off, NULL, __ATOMIC_ACQUIRE) : NULL;
    while (memory != NULL) {
        void *next = *(void **)memory;
        c_library.free(memory);
        memory = next;
    }
}

HIDDEN void *malloc(size_t size) {
    if (!goproc_host_runtimes)
        free_what_was_put_off();
    else if (size <= BLOCK_SIZE)
        for (size_t i = 0; i < BLOCKS; i++)
            if (!__atomic_exchange_n((bool *)&block_used[i], true, __ATOMIC_ACQUIRE))
                return blocks[i];
    return c_library.malloc(size);
}

HIDDEN void free(void *memory) {
    uintptr_t at = (uintptr_t)memory - (uintptr_t)blocks;
    if (at < sizeof blocks) {
        __atomic_store_n((bool *)&block_used[at / BLOCK_SIZE], false, __ATOMIC_RELEASE);
    } else if (goproc_host_runtimes && memory != NULL) {
        *(void **)memory = __atomic_load_n(&put_off, __ATOMIC_RELAXED);
        while (
            !__atomic_compare_exchange_n(&put_off, (void **)memory, memory, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
            ;
    } else {
        c_library.free(memory);
    }
}
