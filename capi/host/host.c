/* host.c - what the Go runtime of the engine takes from the process that loads it: threads, and address space.
 *
 * The problem. When the runtime cannot have a thread or a mapping it ends the process, and no program can catch that.
 * It may happen when the library is loaded, or at any time later. The runtime reserves 1.2 GB of address space. Each of
 * its threads takes a malloc arena of 64 MB and a stack of 8 MB. A forked child never runs Go, but inherits all of
 * that, and so cannot limit its own address space (RLIMIT_AS) to less. The runtime has no settings for any of this.
 *
 * The solution. In a shared library the runtime makes its threads and its mappings by calling pthread_create(), mmap(),
 * malloc() and free(). The linker binds these calls to the functions below, which are hidden: nothing else in the
 * process sees them.
 *   - Loading the library starts nothing. goproc_host_start() first makes all threads that the runtime will need, and
 *     parks them, and maps a reserve of address space. If it cannot, it gives these back and says why. It can be
 *     called again.
 *   - The runtime's threads are the parked ones. Their stacks are small, and they never enter malloc().
 *   - The large reservations of the runtime, of which it uses a few pages, are only noted, not made: see note().
 *   - What the kernel refuses later comes from the reserve: see take().
 *   - Forked children do not get the runtime's memory (MADV_DONTFORK).
 *   - The runtime's threads block all signals but those of faults: see set_mask().
 *
 * Limits. The reserve is 64 MB: the engine takes no further tasks when that may be too little (sys.Room). A process
 * that the kernel kills for want of memory cannot be helped here.
 *
 * Source: runtime/cgo (gcc_libinit.c, gcc_mmap.c, gcc_linux_amd64.c, gcc_util.c) and runtime/mem_linux.go of Go.
 */
#define _GNU_SOURCE
#include "host.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#define HIDDEN __attribute__((visibility("hidden")))

enum {
    MEGABYTE = 1 << 20,
    ARENA = 64 * MEGABYTE, /* the unit in which the runtime reserves its heap, and its alignment */
    RESERVE = 64 * MEGABYTE,
    START = 32 * MEGABYTE, /* The runtime maps at most that at its start, beside the first arena. */
    TASKS = 48 * MEGABYTE, /* This must be left for the first tasks to be queued (core/sys/room.go). */
    STACK = 256 << 10,     /* Of a thread. Go code runs on other stacks, and calls C on the program's threads only. */
    STACK_USED = 32 << 10, /* The C library uses at most that before the runtime's first function. */
    SPARE_THREADS = 8,     /* There must be room for so many other threads or processes, for workers and servers. */
    MOST_THREADS = 24,
    /* sysmon, the template thread, the reaper, two that read from servers, one that executes, the pump of one pool, and
     * one to spare. Each pool after the first asks for one more. */
    OTHER_THREADS = 8,
    PROCESSORS = 4, /* host.go */
    BLOCKS = 64,    /* of memory for malloc() on the runtime's threads */
    BLOCK_SIZE = 256,
};

/* ---- functions of the C library ---------------------------------------------------------------------------------- */

static struct {
    int (*pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    int (*pthread_getattr_np)(pthread_t, pthread_attr_t *);
    void *(*malloc)(size_t);
    void (*free)(void *);
} c_library;

__attribute__((constructor(101))) static void find_c_library(void) {
    /* What any other library gets: LD_PRELOAD may have replaced malloc() and free(). */
    *(void **)&c_library.pthread_create = dlsym(RTLD_DEFAULT, "pthread_create");
    *(void **)&c_library.pthread_getattr_np = dlsym(RTLD_DEFAULT, "pthread_getattr_np");
    *(void **)&c_library.malloc = dlsym(RTLD_DEFAULT, "malloc");
    *(void **)&c_library.free = dlsym(RTLD_DEFAULT, "free");
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

/* What a parked thread is to run as the runtime's thread. */
typedef struct {
    void *(*start)(void *);
    void *argument;
    sigset_t mask; /* of the thread */
} errand;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static errand errands[MOST_THREADS];
static int errand_count;               /* handed out, and not yet taken by a parked thread */
static int parked;                     /* threads that wait and that no errand is meant for */
static int missing;                    /* threads that have ended and could not be replaced */
static bool leave;                     /* parked threads are to end: the start has failed */
static int spare;                      /* how many parked threads are to end: there is room for others */
static pid_t thread_ids[MOST_THREADS]; /* of those that have begun since a start was tried */
static int begun;

static errand first; /* for the runtime's first thread, which the library's constructor has asked for */
static bool started; /* whether that thread runs */
static __thread bool runtimes __attribute__((tls_model("initial-exec"))); /* this thread is one of the runtime's */

/* Signals. A new thread of the runtime unblocks eleven of them by itself. Then the kernel gives it what the program's
 * threads block, in order to wait for it; and a signal interrupts it in epoll_wait(), after which it looks at a
 * descriptor that the program may have closed. One of the eleven is SIGSTKFLT, which nothing uses. So it is pending in
 * the thread beforehand, and is delivered when the runtime unblocks it. The handler changes the mask that the thread
 * goes on with. */

static __thread bool unmasked __attribute__((tls_model("initial-exec"))); /* SIGSTKFLT is pending for that */
static int masking;                       /* how many threads are to have the handler called */
static struct sigaction programs_handler; /* for SIGSTKFLT, while our handler is there */

/* All but the faults that the runtime handles, and what the C library needs. */
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

/* Somebody has sent SIGSTKFLT to the program just now. */
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
        memcpy(&((ucontext_t *)context)->uc_sigmask, &blocked, sizeof blocked); /* the kernel's is no larger */
        unmasked = false;
        pthread_mutex_lock(&lock); /* the runtime is in a system call, without the lock */
        end_masking();
        pthread_mutex_unlock(&lock);
    } else
        pass_on(signal, info, context);
    errno = saved_errno;
}

/* Sees to the mask of this thread, which is about to become the runtime's. Needs the lock. */
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

static void *park(void *unused);

/* Makes a thread that waits. Returns 0 or an error's number. All signals are blocked in it. */
static int make_parked(pthread_t *made) {
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error)
        return error;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_attr_setstacksize(&attributes, STACK);
    if (!error)
        error = c_library.pthread_create(made, &attributes, park, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

/* Makes up for threads that have ended, as far as that is possible now. */
static void replace_missing(void) {
    pthread_t made;
    while (missing > 0 && make_parked(&made) == 0) {
        pthread_detach(made);
        missing--;
        parked++;
    }
}

static void *park(void *unused) {
    (void)unused;
    runtimes = true;
    pthread_mutex_lock(&lock);
    if (begun < MOST_THREADS)
        thread_ids[begun++] = (pid_t)syscall(SYS_gettid);
    while (errand_count == 0 && !leave && spare == 0)
        pthread_cond_wait(&changed, &lock);
    if (leave || errand_count == 0) {
        spare -= !leave;
        pthread_mutex_unlock(&lock);
        return NULL;
    }
    errand mine = errands[--errand_count];
    begin_masking();
    pthread_mutex_unlock(&lock);

    sigaddset(&mine.mask, SIGSTKFLT);
    pthread_sigmask(SIG_SETMASK, &mine.mask, NULL);
    mine.start(mine.argument);

    /* The runtime has no further use for the thread: a goroutine was locked to it, and may have given it a descriptor
     * table of its own. A thread that is made here would share that table. So another thread makes the replacement. */
    pthread_mutex_lock(&lock);
    missing++;
    pthread_mutex_unlock(&lock);
    return NULL;
}

static bool hand_out(const errand *wanted) {
    pthread_mutex_lock(&lock);
    replace_missing();
    bool possible = parked > 0 && errand_count < MOST_THREADS;
    if (possible) {
        parked--;
        errands[errand_count++] = *wanted;
        pthread_cond_signal(&changed);
    }
    pthread_mutex_unlock(&lock);
    return possible;
}

/* Called by the runtime only: by the constructor of the library, whose argument is NULL, and later for each further
 * thread. The runtime uses nothing of this but whether it succeeds: so *thread is any thread's. */
HIDDEN int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    (void)attributes;
    errand wanted = {.start = start, .argument = argument};
    pthread_sigmask(SIG_SETMASK, NULL, &wanted.mask);
    *thread = pthread_self();
    if (!started && argument == NULL) {
        first = wanted;
        return 0;
    }
    struct timespec pause = {0, 1000 * 1000};
    while (!hand_out(&wanted))
        /* These are more threads than were made ahead. The runtime would abort: so wait until there can be one. */
        if (goproc_host_add_thread() != 0)
            nanosleep(&pause, NULL);
    return 0;
}

/* The runtime takes this for the size of the stack below its first function on the thread, without checking it. */
HIDDEN int pthread_attr_getstacksize(const pthread_attr_t *attributes, size_t *size) {
    (void)attributes;
    *size = STACK - STACK_USED;
    return 0;
}

/* On the runtime's threads without the C library's function, which allocates memory. */
HIDDEN int pthread_getattr_np(pthread_t thread, pthread_attr_t *attributes) {
    if (!runtimes)
        return c_library.pthread_getattr_np(thread, attributes);
    uintptr_t top = (uintptr_t)__builtin_frame_address(0) & ~(uintptr_t)4095;
    int error = pthread_attr_init(attributes);
    return error ? error : pthread_attr_setstack(attributes, (void *)(top - (STACK - STACK_USED)), STACK - STACK_USED);
}

/* Memory for malloc() on the runtime's threads: the first real one on a thread would reserve an arena. */
static _Alignas(16) uint8_t blocks[BLOCKS][BLOCK_SIZE];
static _Atomic bool block_used[BLOCKS];

/* What the runtime's threads have freed of what other threads have allocated: a list, in which each piece begins with
 * the address of the next. Other threads really free it, in malloc(). */
static void *put_off;

static void free_what_was_put_off(void) {
    void *memory =
        __atomic_load_n(&put_off, __ATOMIC_RELAXED) ? __atomic_exchange_n(&put_off, NULL, __ATOMIC_ACQUIRE) : NULL;
    while (memory != NULL) {
        void *next = *(void **)memory;
        c_library.free(memory);
        memory = next;
    }
}

HIDDEN void *malloc(size_t size) {
    if (!runtimes)
        free_what_was_put_off();
    else if (size <= BLOCK_SIZE)
        for (size_t i = 0; i < BLOCKS; i++)
            if (!__atomic_exchange_n((bool *)&block_used[i], true, __ATOMIC_ACQUIRE))
                return blocks[i];
    return c_library.malloc(size);
}

HIDDEN void free(void *memory) {
    uintptr_t at = (uintptr_t)memory - (uintptr_t)blocks;
    if (at < sizeof blocks) {
        __atomic_store_n((bool *)&block_used[at / BLOCK_SIZE], false, __ATOMIC_RELEASE);
    } else if (runtimes && memory != NULL) {
        *(void **)memory = __atomic_load_n(&put_off, __ATOMIC_RELAXED);
        while (
            !__atomic_compare_exchange_n(&put_off, (void **)memory, memory, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
            ;
    } else {
        c_library.free(memory);
    }
}

/* ---- address space ----------------------------------------------------------------------------------------------- */

/* Where large reservations are noted: far from where kernels, sanitizers and CUDA put anything. */
static const uintptr_t places[] = {UINT64_C(0x133700000000), UINT64_C(0x353700000000), UINT64_C(0x1b3700000000)};
#define PLACE_SIZE (UINT64_C(2) << 30)

static pthread_mutex_t memory_lock = PTHREAD_MUTEX_INITIALIZER;
static uintptr_t noted_begin, noted_next, noted_end; /* all 0 if there is no such place */
static uint8_t *reserve;                             /* writable memory that nothing has touched */
static size_t reserve_size;

static void *map_anonymous(void *at, size_t size, int protection, int flags) {
    return (void *)syscall(SYS_mmap, at, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, (off_t)0);
}

static size_t pages(size_t size) {
    return (size + 4095) & ~(size_t)4095;
}

/* Whether nothing is mapped there. Tried in pieces, for the limit of address space may allow no larger ones. */
static bool is_free(uintptr_t begin, uintptr_t end) {
    for (; begin < end; begin += START) {
        void *at = map_anonymous((void *)begin, START, PROT_NONE, MAP_FIXED_NOREPLACE | MAP_NORESERVE);
        if (at == MAP_FAILED)
            return false;
        munmap(at, START);
        if (at != (void *)begin)
            return false; /* a kernel before 4.17 */
    }
    return true;
}

/* Reserves size bytes by a note, without a mapping. Nobody else is at these addresses, and the kernel gives them to
 * nobody, since it places mappings elsewhere while there is room. What the runtime then maps there is mapped only if
 * they are free. */
static void *note(size_t size) {
    uintptr_t begin = (noted_next + ARENA - 1) & ~(uintptr_t)(ARENA - 1);
    if (noted_begin == 0 || size > noted_end - begin)
        return NULL;
    noted_next = begin + pages(size);
    return (void *)begin;
}

static bool is_noted(const void *at) {
    return noted_begin && (uintptr_t)at >= noted_begin && (uintptr_t)at < noted_end;
}

/* Takes size bytes from the end of the reserve. If at is not NULL they are moved there; at is free, or the runtime's
 * own. */
static void *take(void *at, size_t size) {
    size = pages(size);
    void *taken = NULL;
    if (size <= reserve_size) {
        taken = reserve + reserve_size - size;
        if (at != NULL && mremap(taken, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, at) != at)
            return NULL;
        reserve_size -= size;
    }
    return at != NULL && taken != NULL ? at : taken;
}

static void *map_for_runtime(void *at, size_t size, int protection, int flags) {
    void *got;
    if (protection == PROT_NONE && at != NULL && size >= ARENA && noted_begin) {
        /* The runtime asks for its heap at one address after the other, and then anywhere. Its heap is to lie in one
         * piece where note() has it: for a heap in two places it maps an index of all that is between them, up to
         * 90 MB. */
        errno = ENOMEM;
        return MAP_FAILED;
    }
    if (flags & MAP_FIXED) {
        got = map_anonymous(at, size, protection, is_noted(at) ? MAP_FIXED_NOREPLACE : MAP_FIXED);
        if (got != MAP_FAILED && got != at) {
            munmap(got, size);
            got = MAP_FAILED;
            errno = EEXIST;
        }
    } else if (protection == PROT_NONE && at == NULL && size >= ARENA && (got = note(size)) != NULL) {
        return got;
    } else { /* at is a hint, if anything: it must not lead to where something is noted */
        if (noted_begin && (uintptr_t)at < noted_end && (uintptr_t)at + size > noted_begin)
            at = NULL;
        got = map_anonymous(at, size, protection, 0);
    }
    if (got == MAP_FAILED && (errno == ENOMEM || errno == EAGAIN) && protection != PROT_NONE) {
        int error = errno;
        got = take(flags & MAP_FIXED ? at : NULL, size);
        if (got == NULL) {
            errno = error;
            return MAP_FAILED;
        }
    }
    if (got != MAP_FAILED)
        (void)madvise(got, size, MADV_DONTFORK);
    return got;
}

/* Called by the runtime only, for each of its mappings. */
HIDDEN void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    if (!(flags & MAP_ANONYMOUS) || !(flags & MAP_PRIVATE))
        return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
    pthread_mutex_lock(&memory_lock);
    void *got = map_for_runtime(at, size, protection, flags);
    int error = errno;
    pthread_mutex_unlock(&memory_lock);
    errno = error;
    return got;
}

/* ---- the start --------------------------------------------------------------------------------------------------- */

static int get_memory(void) {
    for (size_t i = 0; i < sizeof places / sizeof *places && noted_begin == 0; i++)
        if (is_free(places[i], places[i] + PLACE_SIZE)) {
            noted_begin = noted_next = places[i];
            noted_end = places[i] + PLACE_SIZE;
        }
    size_t reserved = ARENA + (noted_begin ? 0 : PLACE_SIZE);
    void *got = map_anonymous(NULL, RESERVE, PROT_READ | PROT_WRITE, MAP_NORESERVE);
    void *heap = got == MAP_FAILED ? got : map_anonymous(NULL, reserved, PROT_NONE, MAP_NORESERVE);
    void *other = heap == MAP_FAILED ? heap : map_anonymous(NULL, START + TASKS, PROT_READ | PROT_WRITE, MAP_NORESERVE);
    int error = errno;
    if (heap != MAP_FAILED)
        munmap(heap, reserved);
    if (other != MAP_FAILED) {
        munmap(other, START + TASKS);
        (void)madvise(got, RESERVE, MADV_DONTFORK);
        reserve = got;
        reserve_size = RESERVE;
        return 0;
    }
    if (got != MAP_FAILED)
        munmap(got, RESERVE);
    return error;
}

static void give_memory_back(void) {
    munmap(reserve, reserve_size);
    reserve_size = 0;
}

/* Waits until the kernel counts no more than so many of the threads, whose others end: the program may need that room. */
static void await_release(int left) {
    struct timespec pause = {0, 100 * 1000};
    for (int tries = 0; tries < 1000; tries++) {
        int alive = 0;
        pthread_mutex_lock(&lock);
        for (int i = 0; i < begun; i++)
            alive += syscall(SYS_tgkill, getpid(), thread_ids[i], 0) == 0;
        int expected = spare + left;
        pthread_mutex_unlock(&lock);
        if (alive <= left && expected == left)
            return;
        nanosleep(&pause, NULL);
    }
}

/* Parks all threads that the runtime may need, or none. */
static int get_threads(void) {
    pthread_t made[MOST_THREADS];
    int count = 0, error = 0;
    leave = false;
    begun = 0;
    while (count < PROCESSORS + OTHER_THREADS + SPARE_THREADS && (error = make_parked(&made[count])) == 0)
        count++;
    pthread_mutex_lock(&lock);
    leave = error != 0;
    spare = error ? 0 : SPARE_THREADS;
    parked = error ? 0 : count - SPARE_THREADS;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < count; i++)
        error ? pthread_join(made[i], NULL) : pthread_detach(made[i]);
    await_release(error ? 0 : count - SPARE_THREADS);
    return error;
}

int goproc_host_add_thread(void) {
    pthread_t made;
    pthread_mutex_lock(&lock);
    int error = make_parked(&made);
    if (error == 0) {
        pthread_detach(made);
        parked++;
    }
    pthread_mutex_unlock(&lock);
    return error;
}

__attribute__((visibility("default"))) int32_t goproc_host_start(int32_t *lacking) {
    if (started)
        return 0;
    *lacking = GOPROC_HOST_MEMORY;
    int error = get_memory();
    if (error)
        return -error;
    *lacking = GOPROC_HOST_THREADS;
    error = get_threads();
    if (error) {
        give_memory_back();
        return -error;
    }
    started = true;
    hand_out(&first);
    return 0;
}
