/* sibling.c - a fork whose child is not the caller's, but its parent's.
 *
 * A process that only makes others (the spawn server, a pool's nursery) makes them as children of the main program, which
 * is what they are: it is their getppid(), and it waits for them.
 */
#include "transport.h"

#include <errno.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif

/* Where the C library keeps the number of the calling thread. fork() has the kernel write the child's there, so this must,
 * too. The library has told the kernel the address, to be cleared when the thread ends. NULL if that is another place. */
static int *thread_number(void) {
    int *address = NULL;
    if (prctl(PR_GET_TID_ADDRESS, &address, 0, 0, 0) < 0 || !address || *address != (int)syscall(SYS_gettid))
        return NULL;
    return address;
}

int goproc_can_fork_sibling(void) {
    return thread_number() != NULL;
}

/* What fork() does besides for a process with one thread: nothing that this one needs. Its handlers have run when the
 * caller, itself a fork or fresh, was made. The kernel keeps the registration for restartable sequences, and forgets the
 * list of robust mutexes, which is given to it again. */
pid_t goproc_fork_sibling(int *pid_word) {
    int *number = thread_number();
    if (!number) {
        errno = ENOSYS;
        return -1;
    }
    void *robust = NULL;
    size_t size = 0;
    syscall(SYS_get_robust_list, 0, &robust, &size);
    sigset_t all, mask;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &mask);
    /* The child's exit signal is the caller's own: SIGCHLD. */
    unsigned long flags = CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
    if (pid_word)
        flags |= CLONE_PARENT_SETTID;
#if defined(__x86_64__)
    pid_t pid = (pid_t)syscall(SYS_clone, flags, 0, pid_word, number, 0);
#else
    pid_t pid = (pid_t)syscall(SYS_clone, flags, 0, pid_word, 0, number);
#endif
    int error = errno;
    if (pid == 0 && robust)
        syscall(SYS_set_robust_list, robust, size);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    errno = error;
    return pid;
}
