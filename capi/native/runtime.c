/* runtime.c - the descriptors of the Go runtime: before a call enters Go, lost ones are opened anew. The comment in
 * core/sys/netpoll.go says why. */
#define _GNU_SOURCE
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static const int32_t *numbers; /* of the epoll and the eventfd, in the engine's memory; NULL when there is no engine */

void goproc_know_runtime(const int32_t *fds) {
    numbers = fds && fds[0] ? fds : NULL;
}

/* Moves the fresh descriptor to the number. If another thread has just opened a file at this number, dup3() closes that
 * file. But the kernel rarely gives a number as high as this unasked. */
static void mend(int number, int fresh) {
    if (fresh >= 0 && fresh != number) {
        dup3(fresh, number, O_CLOEXEC);
        close(fresh);
    }
}

void goproc_mend_runtime(void) {
    if (!numbers)
        return;
    int error = errno;
    if (fcntl(numbers[0], F_GETFD) < 0)
        mend(numbers[0], epoll_create1(EPOLL_CLOEXEC));
    if (fcntl(numbers[1], F_GETFD) < 0)
        mend(numbers[1], eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    errno = error;
}
