/* sibling.c - forks a sibling: a child of the caller's parent.
 *
 * See README.md. glibc keeps the calling thread's id in struct pthread, at a place that it does not tell, and a sibling
 * must have its own id there. Hints say where that place may be, and a proof says whether it is there. Where no hint is
 * proved, siblings cannot be forked (ENOSYS).
 */
#define _GNU_SOURCE
#include "../native.h"
#include "../sync/sync.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif

/* How much of struct pthread is searched. It is larger in all versions of glibc: 2304 bytes and more. */
enum { SEARCHED = 2048 };

/* Where the id is in struct pthread, once that has been proved. It is the same in all threads and forked children. */
static ptrdiff_t proved_offset = -1;

/* Where the id is according to glibc's description for debuggers, or -1. */
static ptrdiff_t described_offset(void) {
    static ptrdiff_t offset = -1;
    /* Not in a template: dlsym() takes a lock, which another thread of the main program may have held at the fork. */
    static int looked_up;
    if (!looked_up) {
        looked_up = 1;
        /* Number of bits, number of elements, offset: as nptl_db has it. */
        const uint32_t *description = dlsym(RTLD_DEFAULT, "_thread_db_pthread_tid");
        if (description && description[0] == 8 * sizeof(int))
            offset = (ptrdiff_t)description[2];
    }
    return offset;
}

/* Returns the calling thread's id as glibc remembers it, or -1. glibc makes the number of the thread's clock from
 * it: see clock_getres(2). */
static int remembered_id(void) {
    clockid_t clock;
    if (pthread_getcpuclockid(pthread_self(), &clock) != 0)
        return -1;
    return ~(clock >> 3);
}

/* Returns whether address is where glibc remembers the calling thread's id. The process has one thread. */
static int prove(volatile int *address, int id) {
    int other = id ^ 1;
    *address = other;
    int told = remembered_id();
    *address = id;
    return told == other;
}

/* Returns the address at offset in the calling thread's struct pthread if the id may be there: the value there is
 * the id, and, if may_prove is true, the proof succeeds. If not, it returns NULL. */
static int *examine(ptrdiff_t offset, int id, int may_prove) {
    if (offset < 0 || offset > SEARCHED - (ptrdiff_t)sizeof(int) || offset % (ptrdiff_t)sizeof(int))
        return NULL;
    int *address = (int *)((char *)pthread_self() + offset);
    if (*address != id || (may_prove && !prove(address, id)))
        return NULL;
    if (may_prove)
        proved_offset = offset;
    return address;
}

/* Returns the address where glibc remembers the calling thread's id, NULL if that is not known. A process with several
 * threads must not make the proof: without may_prove, the address is only a possible one. */
static int *find_thread_id(int may_prove) {
    int id = (int)syscall(SYS_gettid);
    if (proved_offset >= 0)
        return examine(proved_offset, id, 0);
    if (remembered_id() != id)
        return NULL;
    int *found = examine(described_offset(), id, may_prove), *cleared = NULL;
    if (!found && prctl(PR_GET_TID_ADDRESS, &cleared, 0, 0, 0) == 0 && cleared)
        found = examine((char *)cleared - (char *)pthread_self(), id, may_prove);
    for (ptrdiff_t offset = 0; !found && offset < SEARCHED; offset += sizeof(int))
        found = examine(offset, id, may_prove);
    return found;
}

int goproc_can_fork_sibling(void) {
    return find_thread_id(0) != NULL;
}

/* fork() does more than this system call, but a process with one thread needs none of it. The handlers of
 * pthread_atfork() have run when the caller was forked, if it was. The kernel keeps the registration for restartable
 * sequences. It forgets the list of robust mutexes, so the list is registered again here. */
pid_t goproc_fork_sibling(int *pid_word) {
    sigset_t all, mask;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &mask);
    int *thread_id = find_thread_id(1);
    if (!thread_id) {
        pthread_sigmask(SIG_SETMASK, &mask, NULL);
        errno = ENOSYS;
        return -1;
    }
    void *robust = NULL;
    size_t size = 0;
    syscall(SYS_get_robust_list, 0, &robust, &size);
    /* The child's exit signal is the same as the caller's: SIGCHLD. As with fork(), the kernel clears the word with the
     * thread's id when the thread ends. */
    unsigned long flags = CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
    if (pid_word)
        flags |= CLONE_PARENT_SETTID;
#if defined(__x86_64__)
    pid_t pid = (pid_t)syscall(SYS_clone, flags, 0, pid_word, thread_id, 0);
#else
    pid_t pid = (pid_t)syscall(SYS_clone, flags, 0, pid_word, 0, thread_id);
#endif
    int error = errno;
    if (pid == 0 && robust)
        syscall(SYS_set_robust_list, robust, size);
    if (pid == 0) {
        goproc_sync_forked();
        goproc_waits_forked();
    }
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    errno = error;
    return pid;
}
