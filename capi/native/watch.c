/* watch.c - ends a process whose parent is gone, where the kernel cannot do that.
 *
 * Ordinarily the kernel sends SIGKILL when the lifeline closes (lifeline.c), and no thread is needed. For that, this
 * process must use F_SETSIG, on an open file description of its own, which it opens through /proc. Where there is no
 * /proc, where the pipe belongs to another user, or where fcntl is restricted, a thread waits until the lifeline
 * closes.
 */
#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <unistd.h>

enum { STACK_SIZE = 64 << 10 };

static void *watch(void *argument) {
    int fd = (int)(intptr_t)argument;
    uint32_t mark = goproc_mark(fd);
    struct pollfd end = {.fd = fd, .events = POLLIN};
    while (poll(&end, 1, -1) < 0 && errno == EINTR)
        ;
    /* If the program has closed the descriptor, the number may be another file's, which says nothing of the parent. */
    if (mark && goproc_mark(fd) == mark && !(end.revents & POLLNVAL))
        kill(getpid(), SIGKILL);
    return NULL;
}

int goproc_watch_lifeline(int own) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, mask;
    int error = pthread_attr_init(&attributes);
    if (error)
        return error;
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &mask); /* signals are for the program's threads */
    error = pthread_create(&thread, &attributes, watch, (void *)(intptr_t)own);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}
