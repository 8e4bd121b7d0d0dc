/* faults.c - the signals that the Go runtime takes when the engine is loaded. Here the program gets them back.
 *
 * The problem: loaded into a program, the runtime installs handlers for SIGSEGV, SIGBUS, SIGFPE, SIGPIPE and SIGURG. It
 * calls the former handler in some cases only: never for SIGPIPE and SIGURG, and for the other three not if somebody
 * has sent the signal. In the other cases it may end the program in its own way. Also, the kernel delivers a signal
 * for the process to any thread that does not block it. That may be one of Go's threads, though the program waits for
 * the signal by sigwait(), and blocks it in all of its own threads.
 *
 * The solution: the thread that loads the engine blocks all signals meanwhile. Go's threads inherit this mask, and
 * ../host/signal_mask.c keeps them from unblocking any but SIGSEGV, SIGBUS and SIGFPE. Afterwards,
 * - SIGPIPE and SIGURG get their former handlers back. Go needs neither: the engine sends with MSG_NOSIGNAL, and the
 *   library is built with asyncpreemptoff, so that the runtime interrupts no thread (setup.py).
 * - SIGSEGV, SIGBUS and SIGFPE go to Go if Go's code is at fault: there they become panics, which package guard
 *   recovers. In all other cases they go to the program. In a forked child, which has no Go, they always go to the
 *   program.
 *
 * Its limits: if the program later sets a handler for one of these three signals, this handler gets the faults of Go's
 * code, too. If all of the program's threads block one of the three, and somebody sends it to the process, it does not
 * stay pending, but is handled.
 */
#define _GNU_SOURCE
#include "native.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <ucontext.h>

static const int FAULTS[] = {SIGSEGV, SIGBUS, SIGFPE};
enum { FAULT_COUNT = sizeof FAULTS / sizeof *FAULTS };

static struct sigaction before[NSIG]; /* the handlers before the engine was loaded */
static sigset_t mask_before;
static int loading;

/* For each fault, the program's handler and the engine's. */
static struct sigaction programs[FAULT_COUNT], engines[FAULT_COUNT];
static int sorted[FAULT_COUNT];        /* whether sort_fault has been installed */
static uintptr_t code_start, code_end; /* the engine's */

void goproc_hold_signals(void) {
    sigset_t blocked;
    if (loading)
        return;
    loading = 1;
    for (int signum = 1; signum < NSIG; signum++)
        if (sigaction(signum, NULL, &before[signum]) < 0)
            before[signum].sa_handler = SIG_DFL;
    sigfillset(&blocked);
    for (int i = 0; i < FAULT_COUNT; i++)
        sigdelset(&blocked, FAULTS[i]); /* a fault that is blocked kills */
    pthread_sigmask(SIG_SETMASK, &blocked, &mask_before);
}

void goproc_release_signals(void) {
    if (loading)
        pthread_sigmask(SIG_SETMASK, &mask_before, NULL);
    loading = 0;
}

/* For dl_iterate_phdr(): looks whether the address is in this object's code, and notes where that code is. */
static int find_code(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    uintptr_t address = *(uintptr_t *)data;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_LOAD && part->p_flags & PF_X && address >= start && address < start + part->p_memsz) {
            code_start = start;
            code_end = start + part->p_memsz;
            return 1;
        }
    }
    return 0;
}

static int of_engine(uintptr_t address) {
    return address >= code_start && address < code_end;
}

/* Whether Go's code may be at fault: the fault is in it, or at an address near 0, where Go has called a nil
 * function. */
static int go_is_at_fault(const siginfo_t *info, const void *context) {
    if (info->si_code <= 0)
        return 0; /* somebody has sent it */
#if defined(__x86_64__)
    uintptr_t at = (uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    uintptr_t at = (uintptr_t)((const ucontext_t *)context)->uc_mcontext.pc;
#else
    (void)context;
    uintptr_t at = 0;
#endif
    return at < 4096 || of_engine(at);
}

/* Calls the program's handler as the kernel would. */
static void call_programs(int i, int signum, siginfo_t *info, void *context) {
    struct sigaction *program = &programs[i];
    if (program->sa_handler == SIG_IGN && info->si_code <= 0)
        return;
    if (program->sa_handler == SIG_DFL || program->sa_handler == SIG_IGN) {
        struct sigaction standard = {.sa_handler = SIG_DFL};
        sigaction(signum, &standard, NULL);
        if (info->si_code <= 0)
            raise(signum); /* it is delivered when this handler has returned. A fault happens again by itself */
        return;
    }
    struct sigaction action = *program;
    if (action.sa_flags & SA_RESETHAND)
        program->sa_handler = SIG_DFL;
    sigset_t mask = ((ucontext_t *)context)->uc_sigmask, here;
    if (!(action.sa_flags & SA_NODEFER))
        sigaddset(&mask, signum);
    sigorset(&mask, &mask, &action.sa_mask);
    pthread_sigmask(SIG_SETMASK, &mask, &here);
    if (action.sa_flags & SA_SIGINFO)
        action.sa_sigaction(signum, info, context);
    else
        action.sa_handler(signum);
    pthread_sigmask(SIG_SETMASK, &here, NULL);
}

static void sort_fault(int signum, siginfo_t *info, void *context) {
    int saved_errno = errno;
    for (int i = 0; i < FAULT_COUNT; i++)
        if (FAULTS[i] == signum) {
            if (go_is_at_fault(info, context))
                engines[i].sa_sigaction(signum, info, context);
            else
                call_programs(i, signum, info, context);
        }
    errno = saved_errno;
}

void goproc_restore_signals(void *of_the_engine) {
    uintptr_t address = (uintptr_t)of_the_engine;
    if (!loading || !dl_iterate_phdr(find_code, &address))
        return;
    for (int signum = 1; signum < NSIG; signum++) {
        struct sigaction now;
        /* A handler that another thread has set meanwhile stays; ../host/signal_mask.c exchanges SIGSTKFLT's. */
        if (signum == SIGSTKFLT || sigaction(signum, NULL, &now) < 0 || !of_engine((uintptr_t)now.sa_handler))
            continue;
        int fault = 0;
        while (fault < FAULT_COUNT && FAULTS[fault] != signum)
            fault++;
        /* A signal that the program ignores must be ignored in the kernel, too: executed programs inherit this. */
        if (fault == FAULT_COUNT || before[signum].sa_handler == SIG_IGN) {
            if (before[signum].sa_handler != SIG_DFL && before[signum].sa_handler != SIG_IGN)
                before[signum].sa_flags |= SA_ONSTACK; /* it may interrupt Go's code, whose stacks are small */
            sigaction(signum, &before[signum], NULL);
            continue;
        }
        programs[fault] = before[signum];
        engines[fault] = now;
        struct sigaction action = {.sa_sigaction = sort_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
        sigfillset(&action.sa_mask);
        sorted[fault] = sigaction(signum, &action, NULL) == 0;
    }
}

/* In a forked child: gives the program's handlers back for faults. */
static void give_back(void) {
    struct sigaction now;
    for (int i = 0; i < FAULT_COUNT; i++) {
        if (sorted[i] && sigaction(FAULTS[i], NULL, &now) == 0 && now.sa_flags & SA_SIGINFO &&
            now.sa_sigaction == sort_fault)
            sigaction(FAULTS[i], &programs[i], NULL);
        sorted[i] = 0;
    }
    loading = 0; /* another thread of the parent may have been loading the engine: this one's mask stays as it is */
}

int goproc_init_faults(void) {
    return goproc_on_fork_child(give_back);
}
