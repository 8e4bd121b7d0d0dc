/* threads.c - the threads of the Go runtime: made ahead, parked, and handed out. host.c says why.
 *
 * The runtime calls the pthread_*() functions below. host.c makes the parked threads at the start; host.go asks for one
 * more for each pool after the first.
 */
#define _GNU_SOURCE
#include "host.h"
#include "internal.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    STACK = 256 << 10,     /* Of a thread. Go code runs on other stacks, and calls C only on the program's threads. */
    STACK_USED = 32 << 10, /* The C library uses at most this much before the runtime's first function. */
    /* As a test, this many threads are made and ended again: the limits must leave room for workers and servers. */
    SPARE_THREADS = 8,
    MOST_THREADS = 24,
    /* For sysmon, the runtime's template thread, the reaper, two readers of servers, one that executes programs, the
     * pump of one pool, and one to spare. Each pool after the first asks for one more. */
    OTHER_THREADS = 8,
    PROCESSORS = 4, /* the same number as processors in host.go */
};

static struct {
    int (*pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    int (*pthread_getattr_np)(pthread_t, pthread_attr_t *);
    int (*pthread_key_create)(pthread_key_t *, void (*)(void *));
} c_library;

__attribute__((constructor(101))) static void find_c_library(void) {
    *(void **)&c_library.pthread_create = dlsym(RTLD_DEFAULT, "pthread_create");
    *(void **)&c_library.pthread_getattr_np = dlsym(RTLD_DEFAULT, "pthread_getattr_np");
    *(void **)&c_library.pthread_key_create = dlsym(RTLD_DEFAULT, "pthread_key_create");
}

/* A function for which the runtime wants a thread. A parked thread runs it. */
typedef struct {
    void *(*start)(void *);
    void *argument;
    sigset_t mask; /* of the thread */
} errand;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static errand errands[MOST_THREADS];
static int errand_count;               /* errands that no parked thread has taken yet */
static int parked;                     /* waiting threads for which there is no errand */
static int missing;                    /* threads that have ended and have not been replaced yet */
static bool leave;                     /* all parked threads are to end: the start has failed */
static int spare;                      /* how many parked threads are to end: see SPARE_THREADS */
static pid_t thread_ids[MOST_THREADS]; /* of the threads that have begun since a start was tried last */
static int begun;

static errand first; /* for the runtime's first thread, which the library's constructor has asked for */
static bool started; /* whether that thread runs */

__thread bool goproc_host_runtimes;

static void *park(void *unused);

/* Makes a parked thread, in which all signals are blocked. Returns 0 or an error's number. */
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

/* Replaces threads that have ended, as many as is possible now. */
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
    goproc_host_runtimes = true;
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
    goproc_host_begin_masking();
    pthread_mutex_unlock(&lock);

    sigaddset(&mine.mask, SIGSTKFLT);
    pthread_sigmask(SIG_SETMASK, &mine.mask, NULL);
    mine.start(mine.argument);

    /* The runtime ends a thread if a goroutine that was locked to it has ended. That goroutine may have given the
     * thread a descriptor table of its own, and a thread that is made here would share it. So another thread makes
     * the replacement. */
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

/* Only the runtime calls this: first in the constructor of the library, with NULL as the argument, and later for each
 * further thread. It only looks whether the call succeeds, and does not use *thread. */
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
        /* No parked thread is left. If this failed, the runtime would abort. So wait until a thread can be made. */
        if (goproc_host_add_thread() != 0)
            nanosleep(&pause, NULL);
    return 0;
}

/* The runtime assumes, without a check, that this much stack is left when its first function runs on the thread. */
HIDDEN int pthread_attr_getstacksize(const pthread_attr_t *attributes, size_t *size) {
    (void)attributes;
    *size = STACK - STACK_USED;
    return 0;
}

/* On the runtime's threads this does not call the C library's function, which allocates memory. */
HIDDEN int pthread_getattr_np(pthread_t thread, pthread_attr_t *attributes) {
    if (!goproc_host_runtimes)
        return c_library.pthread_getattr_np(thread, attributes);
    uintptr_t top = (uintptr_t)__builtin_frame_address(0) & ~(uintptr_t)4095;
    int error = pthread_attr_init(attributes);
    return error ? error : pthread_attr_setstack(attributes, (void *)(top - (STACK - STACK_USED)), STACK - STACK_USED);
}

/* ---- the start --------------------------------------------------------------------------------------------------- */

/* Waits until at most left of the threads are alive: the others end, and the program may need their room at once. */
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

int goproc_host_get_threads(void) {
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

bool goproc_host_runs(void) {
    return started;
}

void goproc_host_run_first(void) {
    started = true;
    hand_out(&first);
}

static void (*forget_thread)(void *); /* the runtime's function for the end of a thread that has called Go */
static pid_t runtimes_process;

/* A forked child has such a thread, too, if it called os.fork(). But no Go runs in the child. */
static void end_of_thread(void *g) {
    if (getpid() == runtimes_process)
        forget_thread(g);
}

/* Only the runtime calls this, once. */
HIDDEN int pthread_key_create(pthread_key_t *key, void (*destructor)(void *)) {
    forget_thread = destructor;
    runtimes_process = getpid();
    return c_library.pthread_key_create(key, end_of_thread);
}
