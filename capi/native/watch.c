/* watch.c - ends a process whose parent is gone, where the kernel cannot do that.
 *
 * Ordinarily the kernel sends SIGKILL when the lifeline closes (lifeline.c), and no thread is needed. For that, this
 * process must use F_SETSIG, on an open file description of its own, which it opens through /proc. Where there is no
 * /proc, where the pipe belongs to another user, or where fcntl is restricted, a thread waits until the lifeline
 * closes. A manager's server has such a thread, too, because it is given time to shut down.
 */
#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

enum { STACK_SIZE = 64 << 10 };

/* The thread's argument: one number that holds both. */
static uintptr_t packed(int fd, unsigned grace_ms) {
    return (uintptr_t)grace_ms << 32 | (uint32_t)fd;
}

static void *watch(void *argument) {
    int fd = (int)(uint32_t)(uintptr_t)argument;
    unsigned grace_ms = (unsigned)((uintptr_t)argument >> 32);
    uint32_t mark = goproc_mark(fd);
    struct pollfd end = {.fd = fd, .events = POLLIN};
    while (poll(&end, 1, -1) < 0 && errno == EINTR)
        ;
    /* If the program has closed the descriptor, the number may be another file's, which tells nothing about the
     * parent. */
    if (mark && goproc_mark(fd) == mark && !(end.revents & POLLNVAL)) {
        struct timespec grace = {.tv_sec = grace_ms / 1000, .tv_nsec = grace_ms % 1000 * 1000000L};
        nanosleep(&grace, NULL); /* all signals are blocked */
        kill(getpid(), SIGKILL);
    }
    return NULL;
}

int goproc_watch_lifeline(int own, unsigned grace_ms) {
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
    error = pthread_create(&thread, &attributes, watch, (void *)packed(own, grace_ms));
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}
