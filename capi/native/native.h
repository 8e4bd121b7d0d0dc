/* native.h - what the parts of the `_native` extension share.
 *
 * _native is the Go-free half of goproc's native code. Every process that goproc starts loads it; the parent uses
 * it too, and through it reaches the engine (see ../goproc.h), when one is loaded.
 *
 *   module.c   the module itself
 *   link.c     the link to the engine, and what a forked child gives up of its parent's engine
 *   start.c    starting the engine's Go runtime, and keeping it out of forked children
 *   fork.c     the fork, as os.fork() makes it
 *   lifeline.c how a child learns that its parent is gone
 *   watch.c    ending a process whose parent is gone, where the kernel cannot do that
 *   sentinel.c pidfds and tethers, which tell that a child has ended
 *   seats.c    forked children, in seats
 *   wait.c     waiting for a descriptor, and for a child
 *   process.h  what these files share, from link.c on
 *   descriptors.c  descriptors that the program may close
 *   runtime.c  the descriptors of the Go runtime
 *   channel.c, channel_send.c  a worker's end of a pool
 *   port.c, port_collect.c  the parent's end of a pool
 *   signals.c  steps that a Python signal handler cannot interrupt by raising
 *   faults.c   the signals that the Go runtime takes, and how the program gets them back
 *   rights.c   a fingerprint of rights, for workers that were forked ahead
 *   title.c    what ps and top show of a helper process
 *   proc.c     what the kernel tells of a process
 *   openmp.c   the threads of GCC's OpenMP, before a fork
 *   stream.c   messages over a socket, for the connections of managers
 *   pickling.c which pickler the program uses: multiprocessing's, or its own
 *   layout.h   the memory that a pool shares with its workers
 *   wake.h     futexes, and spinning before sleeping
 *
 *   clone/     siblings, forks that are children of their parent's parent: clone/README.md
 *     sibling.c  the fork of a sibling
 *     nursery.c  one fork of the main program, from which a pool's workers are cloned
 *   payload/   large tasks and results
 *     arena.c, arena_give.c, arena_fork.c  extents, for payloads that do not fit into a ring
 *     payload.c  how a pickled task or result lies in a ring and in an extent
 *     placed.c   large bytes objects that lie in an extent
 *   sync/      locks, semaphores, conditions, events and barriers: sync/sync.h
 *   queue/     queues: queue/ring.h
 *   dump/      what threads wait for, for `python -m goproc dump`: dump/waits.h
 */
#ifndef GOPROC_NATIVE_H
#define GOPROC_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../goproc.h"
#include "descriptors.h"

/* The values of goproc_engine_state(). */
enum {
    GOPROC_ENGINE_NONE = 0,      /* no engine has been attached, in this process or in a process it was forked from */
    GOPROC_ENGINE_LIVE = 1,      /* this process attached an engine: its calls may be made */
    GOPROC_ENGINE_INHERITED = 2, /* an engine was attached before the fork that made this process: it is dead, and
                                    calling it would block for ever */
};

int goproc_engine_state(void);

/* Returns the address of the engine's exported symbol, or NULL with a Python exception set: RuntimeError when no live
 * engine is attached, ImportError when the engine does not export it. The address is for this process only: a forked
 * child must ask again. */
void *goproc_symbol(const char *name);

/* The same for a function of goproc.h, as a pointer of its type. */
#define GOPROC_SYMBOL(name) ((name##_fn)goproc_symbol(#name))

/* Has hook called in every forked child (goproc's and os.fork()'s), after the engine's descriptors have been closed and
 * the engine has been marked as inherited. It is called inside fork(), so it may make only async-signal-safe calls. The
 * same hook is not added twice. Returns 0, or -1 with an exception set when the table is full. */
typedef void (*goproc_child_hook)(void);
int goproc_on_fork_child(goproc_child_hook hook);

/* Forks a sibling: a child of the caller's parent. The calling process must have one thread. Returns the same as
 * fork(). If pid_word is not NULL, the kernel writes the child's pid there, in the caller's memory, before the child
 * runs. No handlers of pthread_atfork() run. Where siblings cannot be forked, it returns -1 with errno ENOSYS;
 * goproc_can_fork_sibling() tells that beforehand. */
pid_t goproc_fork_sibling(int *pid_word);
int goproc_can_fork_sibling(void);

/* Raises the OSError for errno. Its text names the system call, and says what goproc needs it for: purpose ("to ...",
 * "for ..."). */
void goproc_raise_errno(const char *call, const char *purpose);

/* See descriptors.c.
 *
 * goproc_close_marked: close the descriptor if it still has the mark. Returns whether it has been closed.
 * goproc_move_above_streams: if the descriptor's number is below 3, move it up: these are the standard streams in a
 * child.
 * goproc_move_up: move the descriptor to a number that programs rarely reach, if possible.
 * The last two return the new number. If they fail, they close the descriptor, and return -1 with errno set. If fd is
 * -1, they return -1. */
int goproc_close_marked(int fd, uint32_t mark);
int goproc_move_above_streams(int fd);
int goproc_move_up(int fd);

/* The descriptors of the Go runtime: see runtime.c.
 *
 * goproc_know_runtime: note where the engine has their numbers. NULL: there is no engine.
 * goproc_mend_runtime: open them anew if they are closed. It is called before a call enters Go. */
void goproc_know_runtime(const int32_t *fds);
void goproc_mend_runtime(void);

/* See faults.c. The thread that loads the engine calls them.
 *
 * goproc_hold_signals: before loading, block all signals, so that no thread of Go's gets one.
 * goproc_restore_signals: when the runtime has started, give back the signals that it has taken. of_the_engine is the
 * address of any of the engine's functions.
 * goproc_release_signals: at the end, unblock the signals. */
void goproc_hold_signals(void);
void goproc_release_signals(void);
void goproc_restore_signals(void *of_the_engine);

/* See wait.c. Lets another Python thread have the GIL, if one waits for it. A call that would not wait, and has found
 * nothing, calls it: programs make such calls in a loop. */
void goproc_offer_gil(void);

/* See title.c.
 *
 * goproc_take_title: have ps and top show a title for this process, a helper.
 * goproc_give_title_back: have them show the command line again, because this process becomes the user's. */
void goproc_take_title(const char *text);
void goproc_give_title_back(void);

/* See openmp.c. They are called on the thread that forks, with the GIL.
 *
 * goproc_pause_openmp: before a fork, end the threads that GCC's OpenMP keeps for this thread, if that is possible.
 * goproc_forked_with_openmp: after the fork, in the parent and in the child. */
void goproc_pause_openmp(void);
void goproc_forked_with_openmp(void);

/* Each adds the methods and types of one file to the module. Returns 0, or -1 with an exception set. The weak ones are
 * NULL if their files are not linked in. */
int goproc_init_link(PyObject *module);
int goproc_init_descriptors(PyObject *module);
int goproc_init_fork(PyObject *module);
int goproc_init_lifeline(PyObject *module);
int goproc_init_sentinel(PyObject *module);
int goproc_init_seats(PyObject *module);
int goproc_init_wait(PyObject *module);
int goproc_init_channel(PyObject *module) __attribute__((weak));
int goproc_init_port(PyObject *module) __attribute__((weak));
int goproc_init_start(PyObject *module);
int goproc_init_signals(PyObject *module);
int goproc_init_faults(void);
int goproc_init_nursery(PyObject *module);
int goproc_init_rights(PyObject *module);
int goproc_init_title(PyObject *module);
int goproc_init_openmp(PyObject *module);
int goproc_init_waits(PyObject *module);
int goproc_init_stream(PyObject *module);
int goproc_init_pickling(PyObject *module);

#endif
