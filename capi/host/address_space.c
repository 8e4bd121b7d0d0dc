/* address_space.c - the mappings of the Go runtime: where they lie, and a reserve for when the kernel refuses more.
 * host.c says why.
 *
 * The runtime calls mmap() below, for each of its mappings. host.c calls the other functions, at the start.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum {
    MEGABYTE = 1 << 20,
    ARENA = 64 * MEGABYTE, /* the runtime reserves its heap in units of this size, with this alignment */
    RESERVE = 64 * MEGABYTE,
    START = 32 * MEGABYTE, /* besides the first arena, the runtime maps at most this much at its start */
    TASKS = 48 * MEGABYTE, /* this much must be left, so that tasks can be queued (core/sys/room.go) */
};

/* Where large reservations are noted: far from where kernels, sanitizers and CUDA put their mappings. */
static const uintptr_t places[] = {UINT64_C(0x133700000000), UINT64_C(0x353700000000), UINT64_C(0x1b3700000000)};
#define PLACE_SIZE (UINT64_C(2) << 30)

static pthread_mutex_t memory_lock = PTHREAD_MUTEX_INITIALIZER;
static uintptr_t noted_begin, noted_next, noted_end; /* all 0 if there is no such place */
static uint8_t *reserve;                             /* writable memory that nothing has touched */
static size_t reserve_size;

static void *map_anonymous(void *at, size_t size, int protection, int flags) {
    return (void *)syscall(SYS_mmap, at, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, (off_t)0);
}

static size_t pages(size_t size) {
    return (size + 4095) & ~(size_t)4095;
}

/* Whether nothing is mapped from begin to end. The range is tried in pieces, because the limit of address space may not
 * allow larger mappings. */
static bool is_free(uintptr_t begin, uintptr_t end) {
    for (; begin < end; begin += START) {
        void *at = map_anonymous((void *)begin, START, PROT_NONE, MAP_FIXED_NOREPLACE | MAP_NORESERVE);
        if (at == MAP_FAILED)
            return false;
        munmap(at, START);
        if (at != (void *)begin)
            return false; /* a kernel before 4.17 */
    }
    return true;
}

/* Reserves size bytes by a note, without a mapping. Nothing else is at these addresses, and the kernel places no
 * mapping there while there is room elsewhere. When the runtime later maps a part of the range, this succeeds only if
 * that part is still free. */
static void *note(size_t size) {
    uintptr_t begin = (noted_next + ARENA - 1) & ~(uintptr_t)(ARENA - 1);
    if (noted_begin == 0 || size > noted_end - begin)
        return NULL;
    noted_next = begin + pages(size);
    return (void *)begin;
}

static bool is_noted(const void *at) {
    return noted_begin && (uintptr_t)at >= noted_begin && (uintptr_t)at < noted_end;
}

/* Takes size bytes from the end of the reserve. If at is not NULL, they are moved to that address, where nothing is
 * mapped, or a mapping of the runtime. */
static void *take(void *at, size_t size) {
    size = pages(size);
    void *taken = NULL;
    if (size <= reserve_size) {
        taken = reserve + reserve_size - size;
        if (at != NULL && mremap(taken, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, at) != at)
            return NULL;
        reserve_size -= size;
    }
    return at != NULL && taken != NULL ? at : taken;
}

static void *map_for_runtime(void *at, size_t size, int protection, int flags) {
    void *got;
    if (protection == PROT_NONE && at != NULL && size >= ARENA && noted_begin) {
        /* The runtime first asks for its heap at one address after the other, and then at any address. Requests for an
         * address are refused, so that the whole heap lies where note() puts it. For a heap in two places, the runtime
         * would map an index of all addresses between them, up to 90 MB. */
        errno = ENOMEM;
        return MAP_FAILED;
    }
    if (flags & MAP_FIXED) {
        got = map_anonymous(at, size, protection, is_noted(at) ? MAP_FIXED_NOREPLACE : MAP_FIXED);
        if (got != MAP_FAILED && got != at) {
            munmap(got, size);
            got = MAP_FAILED;
            errno = EEXIST;
        }
    } else if (protection == PROT_NONE && at == NULL && size >= ARENA && (got = note(size)) != NULL) {
        return got;
    } else { /* at may be a hint: it must not lead to the noted addresses */
        if (noted_begin && (uintptr_t)at < noted_end && (uintptr_t)at + size > noted_begin)
            at = NULL;
        got = map_anonymous(at, size, protection, 0);
    }
    if (got == MAP_FAILED && (errno == ENOMEM || errno == EAGAIN) && protection != PROT_NONE) {
        int error = errno;
        got = take(flags & MAP_FIXED ? at : NULL, size);
        if (got == NULL) {
            errno = error;
            return MAP_FAILED;
        }
    }
    if (got != MAP_FAILED)
        (void)madvise(got, size, MADV_DONTFORK);
    return got;
}

/* Only the runtime calls this, for each of its mappings. */
HIDDEN void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    if (!(flags & MAP_ANONYMOUS) || !(flags & MAP_PRIVATE))
        return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
    pthread_mutex_lock(&memory_lock);
    void *got = map_for_runtime(at, size, protection, flags);
    int error = errno;
    pthread_mutex_unlock(&memory_lock);
    errno = error;
    return got;
}

int goproc_host_get_memory(void) {
    for (size_t i = 0; i < sizeof places / sizeof *places && noted_begin == 0; i++)
        if (is_free(places[i], places[i] + PLACE_SIZE)) {
            noted_begin = noted_next = places[i];
            noted_end = places[i] + PLACE_SIZE;
        }
    size_t reserved = ARENA + (noted_begin ? 0 : PLACE_SIZE);
    void *got = map_anonymous(NULL, RESERVE, PROT_READ | PROT_WRITE, MAP_NORESERVE);
    void *heap = got == MAP_FAILED ? got : map_anonymous(NULL, reserved, PROT_NONE, MAP_NORESERVE);
    void *other = heap == MAP_FAILED ? heap : map_anonymous(NULL, START + TASKS, PROT_READ | PROT_WRITE, MAP_NORESERVE);
    int error = errno;
    if (heap != MAP_FAILED)
        munmap(heap, reserved);
    if (other != MAP_FAILED) {
        munmap(other, START + TASKS);
        (void)madvise(got, RESERVE, MADV_DONTFORK);
        reserve = got;
        reserve_size = RESERVE;
        return 0;
    }
    if (got != MAP_FAILED)
        munmap(got, RESERVE);
    return error;
}

void goproc_host_give_memory_back(void) {
    munmap(reserve, reserve_size);
    reserve_size = 0;
}
