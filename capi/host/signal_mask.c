/* signal_mask.c - which signals the threads of the Go runtime block: all but those of faults.
 *
 * The problem. A new thread of the runtime unblocks eleven signals by itself. Then the kernel may deliver a signal to
 * this thread that the program's threads block because they wait for it. And when a signal interrupts its epoll_wait(),
 * the thread uses a descriptor that the program may have closed.
 *
 * The solution. One of the eleven is SIGSTKFLT, which nothing uses. Each thread sends itself this signal beforehand,
 * while the signal is still blocked. When the runtime unblocks the signal, the kernel delivers it. Its handler changes
 * the signal mask with which the thread goes on.
 *
 * threads.c calls this, on each thread that it hands out.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* Whether SIGSTKFLT is pending in this thread, so that set_mask() will be called. */
static __thread bool unmasked __attribute__((tls_model("initial-exec")));
/* Guards the next two variables. A holder blocks all signals, so set_mask() does not interrupt it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int masking;                       /* in how many threads SIGSTKFLT is pending */
static struct sigaction programs_handler; /* for SIGSTKFLT, while our handler is there */

/* All signals but the faults that the runtime handles, and those that the C library needs. */
static uint64_t blocked_signals(void) {
    uint64_t blocked = ~UINT64_C(0);
    for (int signal = 32; signal < SIGRTMIN; signal++)
        blocked &= ~(UINT64_C(1) << (signal - 1));
    return blocked & ~(UINT64_C(1) << (SIGSEGV - 1) | UINT64_C(1) << (SIGBUS - 1) | UINT64_C(1) << (SIGFPE - 1));
}

static void set_mask(int signal, siginfo_t *info, void *context);

static void end_masking(void) {
    struct sigaction now;
    if (--masking == 0 && sigaction(SIGSTKFLT, NULL, &now) == 0 && now.sa_sigaction == set_mask)
        sigaction(SIGSTKFLT, &programs_handler, NULL);
}

/* Handles a SIGSTKFLT that somebody else has sent to the program, as the program's own handler would. */
static void pass_on(int signal, siginfo_t *info, void *context) {
    if (programs_handler.sa_handler == SIG_IGN)
        return;
    if (programs_handler.sa_handler == SIG_DFL) {
        sigaction(signal, &programs_handler, NULL);
        raise(signal);
    } else if (programs_handler.sa_flags & SA_SIGINFO)
        programs_handler.sa_sigaction(signal, info, context);
    else
        programs_handler.sa_handler(signal);
}

static void set_mask(int signal, siginfo_t *info, void *context) {
    int saved_errno = errno;
    if (unmasked) {
        uint64_t blocked = blocked_signals();
        memcpy(&((ucontext_t *)context)->uc_sigmask, &blocked, sizeof blocked); /* the kernel's mask is no larger */
        unmasked = false;
        pthread_mutex_lock(&lock);
        end_masking();
        pthread_mutex_unlock(&lock);
    } else
        pass_on(signal, info, context);
    errno = saved_errno;
}

static void begin_masking(void) {
    struct sigaction ours = {.sa_sigaction = set_mask, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    sigfillset(&ours.sa_mask);
    if (masking++ == 0 && sigaction(SIGSTKFLT, &ours, &programs_handler) < 0) {
        masking--;
        return;
    }
    unmasked = true;
    if (syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), SIGSTKFLT) < 0) { /* a sandbox refuses it */
        unmasked = false;
        end_masking();
    }
}

void goproc_host_begin_masking(void) {
    pthread_mutex_lock(&lock);
    begin_masking();
    pthread_mutex_unlock(&lock);
}
