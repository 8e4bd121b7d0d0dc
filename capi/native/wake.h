/* wake.h - sleeping and waking across processes: futexes, and spinning before sleeping.
 *
 * A futex's sleep and wake cost some 40 us, a spin that succeeds less than one. So both ends spin a little first, for
 * as long as that has paid lately, and then sleep.
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

/* Sleeps while *word is seen, at most ns nanoseconds (forever when negative). Returns 0 or an errno: EAGAIN when *word
 * had changed already, EINTR, ETIMEDOUT. The word may be shared between processes. */
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

/* How long an end spins before it sleeps: the longest time that is allowed while waits are short (then what it waits
 * for would have come meanwhile, or nearly), and half as long after each long wait. What a spin alone achieved says
 * nothing: it fails, too, when the other end has to be woken first, because it had no spin left either. */
typedef struct {
    uint32_t budget_ns;
} goproc_spinner;

static inline void goproc_spinner_waited(goproc_spinner *spinner, uint32_t most_ns, uint64_t waited_ns) {
    spinner->budget_ns = waited_ns <= 4 * (uint64_t)most_ns ? most_ns : spinner->budget_ns / 2;
}

/* Spins while the word, or the count, is as seen, for as long as the spinner allows. Returns whether it changed. */
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
