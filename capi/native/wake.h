/* wake.h - sleeping and waking across processes: futexes, and spinning before sleeping.
 *
 * To sleep and to be woken by a futex costs some 40 us, a spin that succeeds less than one. So a waiting process first
 * spins for a short time, as long as recent spins have succeeded, and then sleeps.
 */
#ifndef GOPROC_WAKE_H
#define GOPROC_WAKE_H

#include <errno.h>
#include <sched.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t goproc_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Sleeps while *word has the value seen, at most ns nanoseconds (for ever if that is negative). Returns 0 or an
 * errno: EAGAIN when *word had changed already, EINTR, ETIMEDOUT. The word may be shared between processes. */
static inline int goproc_futex_wait(_Atomic uint32_t *word, uint32_t seen, int64_t ns) {
    struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    return syscall(SYS_futex, (uint32_t *)word, FUTEX_WAIT, seen, ns < 0 ? NULL : &t, NULL, 0) == 0 ? 0 : errno;
}

static inline void goproc_futex_wake(_Atomic uint32_t *word) {
    syscall(SYS_futex, (uint32_t *)word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static inline void goproc_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* For how long a process spins before it sleeps. After a short wait, it is the longest time that is allowed: a spin of
 * that length would have been enough, or nearly. After each long wait, it is halved. The length of the wait decides,
 * not the success of the last spin. For a spin also fails if the other process did not spin either, and so must be
 * woken first. */
typedef struct {
    uint32_t budget_ns;
} goproc_spinner;

static inline void goproc_spinner_waited(goproc_spinner *spinner, uint32_t most_ns, uint64_t waited_ns) {
    spinner->budget_ns = waited_ns <= 4 * (uint64_t)most_ns ? most_ns : spinner->budget_ns / 2;
}

/* Spins while *word has the value seen, for as long as the spinner allows. Returns whether the value has changed. */
#define GOPROC_SPIN(spinner, start_ns, word, seen)                                                                     \
    __extension__({                                                                                                    \
        uint64_t end_ns_ = (start_ns) + (spinner)->budget_ns;                                                          \
        int changed_ = 0;                                                                                              \
        for (;;) {                                                                                                     \
            for (int i_ = 0; i_ < 32 && !changed_; i_++) {                                                             \
                changed_ = atomic_load_explicit((word), memory_order_acquire) != (seen);                               \
                goproc_pause();                                                                                        \
            }                                                                                                          \
            if (changed_ || goproc_now_ns() >= end_ns_)                                                                \
                break;                                                                                                 \
            sched_yield();                                                                                             \
        }                                                                                                              \
        changed_;                                                                                                      \
    })

#endif
