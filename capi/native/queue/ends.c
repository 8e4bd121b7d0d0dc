/* ends.c - the two ends of a queue: whether any process can still put, or get.
 *
 * Problem: a pipe tells its reader when the last process that could write has closed its end, or has ended, however it
 * ended. Programs rely on that. They close their own `_writer`, and get() raises EOFError when the others are gone.
 *
 * What does not work: a number in the shared memory, since a killed process does not count down; a pipe beside the
 * memory, since each queue would need two more descriptors in each process.
 *
 * Solution: all processes that have a queue share one open file description of its file. The description holds a lock
 * for each end (fcntl(2), F_OFD_SETLK). The kernel removes the locks when the last process has closed the description.
 * A process that closes one of its ends replaces the description by one of its own, which has only the other end's
 * lock. So when nobody has a lock, all processes have closed that end, or have ended.
 *
 * Limits: no system call waits for a lock and an item at once, so get() looks every 20 ms. The file is opened anew by
 * way of /proc. Where that is not possible, the end stays open, with a word in the log.
 */
#define _GNU_SOURCE
#include "ring.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

static struct flock lock_of(int end, short type) {
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = end, .l_len = 1};
}

static int hold(int fd, int ends) {
    for (int end = 1; end <= GOPROC_BOTH_ENDS; end <<= 1) {
        struct flock lock = lock_of(end, F_RDLCK);
        if (ends & end && fcntl(fd, F_OFD_SETLK, &lock) < 0)
            return -1;
    }
    return 0;
}

void goproc_ends_make(goproc_ring *ring) {
    ring->header->has_ends = hold(ring->fd, GOPROC_BOTH_ENDS) == 0;
}

int goproc_ends_close(goproc_ring *ring, int ends) {
    int left = ring->ends & ~ends;
    if (left == ring->ends)
        return 0;
    if (!ring->header->has_ends || goproc_mark(ring->fd) != ring->fd_mark) {
        errno = ring->header->has_ends ? EBADF : ENOLCK;
        return -1;
    }
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", ring->fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -1;
    /* The mapping has the old description, too. Both numbers stay the same: other threads may be using them. */
    int failed =
        hold(fd, left) < 0 ||
        mmap(ring->memory, GOPROC_QUEUE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
        dup3(fd, ring->fd, O_CLOEXEC) < 0;
    int error = errno;
    close(fd);
    errno = error;
    if (failed)
        return -1;
    ring->ends = left;
    return 0;
}

int goproc_ends_are_gone(const goproc_ring *ring, int end) {
    struct flock lock = lock_of(end, F_WRLCK);
    return goproc_mark(ring->fd) == ring->fd_mark && fcntl(ring->fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
}
