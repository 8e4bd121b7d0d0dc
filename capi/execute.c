/* execute.c - executes a program as a child of the calling thread.
 *
 * Problem: an executed program inherits attributes of the thread that executes it: credentials, capabilities,
 * no_new_privs, seccomp filters, a Landlock domain, namespaces, scheduling. So the thread that wants the child must
 * make it. Go's syscall.ForkExec does that, but in the child it leaves descriptors open that are not close-on-exec.
 * Marking them as close-on-exec in this process would also affect the program's other threads. A second thread could
 * have a descriptor table of its own, but not the calling thread's attributes.
 *
 * Solution: vfork(2). The child has a descriptor table of its own, and closes all descriptors that are not kept before
 * it executes the program. It shares the memory with this process, whose other threads go on. So the child only makes
 * system calls.
 *
 * package capi calls this through execute.go. core/sys/exec.go decides what is executed.
 */
#include "execute.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

typedef struct {
    const char *path;
    char *const *argv, *const *envp;
    const int32_t *keep;
    int32_t count;
    sigset_t mask;       /* of the calling thread */
    volatile int *error; /* the child's errno, 0 while all goes well; both processes see it */
} program;

static int is_kept(const program *p, long fd) {
    for (int32_t i = 0; i < p->count; i++)
        if (p->keep[i] == fd)
            return 1;
    return fd < 3;
}

/* Closes the descriptors that are not kept, with a few calls. Returns 0, or -1 where the kernel lacks close_range(2)
 * (before Linux 5.9) or refuses it. */
static int close_ranges(const program *p) {
    unsigned from = 3;
    for (int32_t i = 0; i < p->count; i++) {
        unsigned kept = (unsigned)p->keep[i];
        if (kept > from && syscall(SYS_close_range, from, kept - 1, 0) < 0)
            return -1;
        if (kept >= from)
            from = kept + 1;
    }
    return syscall(SYS_close_range, from, ~0U, 0) < 0 ? -1 : 0;
}

/* What getdents64(2) fills in; the C library does not declare it everywhere. */
typedef struct {
    uint64_t inode;
    int64_t offset;
    uint16_t size;
    uint8_t type;
    char name[];
} entry;

/* Marks the descriptors that are not kept as close-on-exec, one by one: those that /proc lists, or without /proc every
 * number. */
static void mark_one_by_one(const program *p) {
    enum { HIGHEST = 1 << 20 }; /* the kernel's default limit (fs.nr_open) */
    union {
        entry first; /* for the alignment */
        char bytes[2048];
    } buffer;
    int folder = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
        long size;
        while ((size = syscall(SYS_getdents64, folder, buffer.bytes, sizeof buffer.bytes)) > 0) {
            for (long at = 0; at < size;) {
                const entry *e = (const entry *)(buffer.bytes + at);
                long fd = 0;
                const char *digit = e->name;
                for (; *digit >= '0' && *digit <= '9'; digit++)
                    fd = fd * 10 + (*digit - '0');
                if (digit > e->name && !*digit && !is_kept(p, fd))
                    fcntl((int)fd, F_SETFD, FD_CLOEXEC);
                at += e->size;
            }
        }
        close(folder);
        if (size == 0)
            return;
    }
    struct rlimit limit;
    long highest = HIGHEST;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < HIGHEST)
        highest = (long)limit.rlim_cur;
    for (long fd = 3; fd < highest; fd++)
        if (!is_kept(p, fd))
            fcntl((int)fd, F_SETFD, FD_CLOEXEC);
}

/* The child. All signals are blocked. Returns only if the program cannot be executed. */
__attribute__((noinline)) static void become(const program *p) {
    if (close_ranges(p) < 0)
        mark_one_by_one(p);
    for (int32_t i = 0; i < p->count; i++) {
        if (fcntl(p->keep[i], F_SETFD, 0) < 0) {
            *p->error = errno;
            return;
        }
    }
    /* No signal handler may run in the child: it would run in the parent's memory. */
    for (int signum = 1; signum < NSIG; signum++) {
        struct sigaction action;
        if (sigaction(signum, NULL, &action) == 0 && action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN) {
            action.sa_handler = SIG_DFL;
            action.sa_flags = 0;
            sigaction(signum, &action, NULL);
        }
    }
    sigprocmask(SIG_SETMASK, &p->mask, NULL);
    execve(p->path, p->argv, p->envp);
    *p->error = errno;
}

int32_t goproc_execute(const char *path, char *const *argv, char *const *envp, const int32_t *keep, int32_t count) {
    volatile int error = 0;
    program p = {.path = path, .argv = argv, .envp = envp, .keep = keep, .count = count, .error = &error};
    sigset_t all;
    sigfillset(&all);
    int failed = pthread_sigmask(SIG_BLOCK, &all, &p.mask);
    if (failed)
        return -failed;
    int cancelling;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelling);
    void *shared = MAP_FAILED;
    pid_t pid = vfork();
    if (pid == 0) {
        become(&p);
        _exit(127);
    }
    failed = pid < 0 ? errno : 0;
    if (failed == ENOSYS || failed == EPERM || failed == EINVAL) {
        /* A sandbox may refuse vfork(2), and the kernel refuses it when children get another time namespace. Both may
         * allow this clone, whose child has a copy of the memory. */
        shared = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (shared != MAP_FAILED) {
            p.error = shared;
            pid = (pid_t)syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);
            if (pid == 0) {
                become(&p);
                _exit(127);
            }
            failed = pid < 0 ? errno : 0;
        }
    }
    if (pid > 0 && (failed = *p.error) != 0)
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    if (shared != MAP_FAILED)
        munmap(shared, sizeof(int));
    pthread_setcancelstate(cancelling, NULL);
    pthread_sigmask(SIG_SETMASK, &p.mask, NULL);
    return failed ? -failed : (int32_t)pid;
}
