/* Extents where the program has limited its address space; see arena.h.
 *
 * The problem: a program, or a worker that limits itself as sandboxes do, sets RLIMIT_AS to somewhat more than it
 * needs. Mappings count for that limit, even those of extents that are only kept for the next use. A worker whose
 * results the main program keeps would map each of them to its end.
 *
 * The solution: while less than PLENTY of the limit is left, extents are mapped only as far as their payloads reach. A
 * producer keeps the first page of a payload that it has sent: the word that frees the extent is there. A consumer
 * unmaps an extent when it frees it. So sending an object takes no more address space than its pickle would.
 *
 * What does not work: to do so whenever there is a limit. Batch systems limit all programs, to some hundred gigabytes,
 * and fresh memory is slower: the kernel has to clear its pages first.
 */
#define _GNU_SOURCE
#include "arena.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define PLENTY (UINT64_C(4) << 30)

/* How many bytes of address space this process has; UINT64_MAX if that is unknown. Source: proc_pid_statm(5). */
static uint64_t used_address_space(void) {
    char text[32];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (size <= 0)
        return UINT64_MAX;
    text[size] = 0;
    return strtoull(text, NULL, 10) * GOPROC_PAGE_SIZE;
}

bool goproc_address_space_is_short(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
        return false;
    uint64_t used = used_address_space();
    return used > limit.rlim_cur || limit.rlim_cur - used < PLENTY;
}

/* Unmaps all but the first page. */
static void shrink(goproc_mapping *mapping) {
    if (mapping->mapped > GOPROC_PAGE_SIZE &&
        munmap((uint8_t *)mapping->header + GOPROC_PAGE_SIZE, mapping->mapped - GOPROC_PAGE_SIZE) == 0)
        mapping->mapped = GOPROC_PAGE_SIZE;
}

void goproc_mapping_ready(goproc_mapping *mapping) {
    mapping->filling = false;
    if (mapping->mapped < mapping->size)
        shrink(mapping);
}

void goproc_arena_shrink(goproc_arena *out) {
    goproc_arena_retire(out, true);
    for (size_t i = 0; i < out->count; i++)
        if (!out->mappings[i]->filling)
            shrink(out->mappings[i]);
}
