/* transport.h - what the parts of the `_transport` extension share.
 *
 * _transport is the Go-free half of goproc's native code. Every process that goproc starts loads it; the parent uses
 * it too, and through it reaches the engine (see ../goproc.h), when one is loaded.
 *
 *   module.c   the module itself
 *   process.c  fork, the lifeline, waiting on a descriptor, and the link to the engine
 *   start.c    starting the engine's Go runtime, and keeping it out of forked children
 *   descriptors.c  descriptors that the program may close
 *   runtime.c  the descriptors of the Go runtime
 *   watch.c    ending a process whose parent is gone, where the kernel cannot do that
 *   channel.c  a worker's end of a pool
 *   port.c     the parent's end of a pool
 *   signals.c  what a Python signal handler that raises cannot break
 *   faults.c   the signals that the Go runtime takes: who gets which
 *   sibling.c  a fork whose child is its parent's
 *   nursery.c  one fork of the main program, from which a pool's workers are cloned
 *   rights.c   a fingerprint of rights, for a fork that is older than the worker it is for
 *   arena.c, arena_give.c, arena_fork.c  extents, for payloads that do not fit into a ring
 *   payload.c  how a pickled task or result lies in a ring and in an extent
 *   placed.c   large bytes objects that lie in an extent
 *   layout.h   the memory that a pool shares with its workers
 *   wake.h     futexes, and spinning before sleeping
 */
#ifndef GOPROC_TRANSPORT_H
#define GOPROC_TRANSPORT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../goproc.h"
#include "descriptors.h"

/* The values of goproc_engine_state(). */
enum {
    GOPROC_ENGINE_NONE = 0,      /* no engine has been attached in this process or in one that it was forked from */
    GOPROC_ENGINE_LIVE = 1,      /* this process attached an engine: its calls may be made */
    GOPROC_ENGINE_INHERITED = 2, /* an engine was attached before the fork that made this process: it is dead, and
                                    calling it would block for ever */
};

int goproc_engine_state(void);

/* Returns the address of the engine's exported symbol, or NULL with a Python exception set: RuntimeError when no live
 * engine is attached, ImportError when the engine does not export it. The address is for this process only: a forked
 * child must ask again. */
void *goproc_symbol(const char *name);

/* Arranges for hook to run in every forked child (goproc's and os.fork()'s), after the engine's descriptors have been
 * closed and the engine has been marked as inherited. It runs inside fork(): only async-signal-safe calls are allowed.
 * Returns 0, or -1 when the table of hooks is full. */
typedef void (*goproc_child_hook)(void);
int goproc_on_fork_child(goproc_child_hook hook);

/* Forks the calling process, which must have one thread, so that the child is a child of the caller's parent. Returns
 * as fork() does. The kernel puts the child's pid into *pid_word, in the caller's memory and if that is not NULL,
 * before the child runs. No handlers of pthread_atfork() run. -1 with errno ENOSYS where it cannot be done, which
 * goproc_can_fork_sibling() tells beforehand. */
pid_t goproc_fork_sibling(int *pid_word);
int goproc_can_fork_sibling(void);

/* Raises the OSError for errno. Its text names the system call, and says what goproc needs it for: purpose ("to ...",
 * "for ..."). */
void goproc_raise_errno(const char *call, const char *purpose);

/* See descriptors.c.
 *
 * goproc_close_marked: close the descriptor if its mark is still that one. Returns whether it has been closed.
 * goproc_move_above_streams: move a descriptor whose number is below 3, for these are the standard streams in a child.
 * goproc_move_up: move it to a number that programs rarely reach, if possible.
 * The last two return the new number. If they fail they close the descriptor, and return -1 with errno set. -1 stays
 * -1. */
int goproc_close_marked(int fd, uint32_t mark);
int goproc_move_above_streams(int fd);
int goproc_move_up(int fd);

/* The descriptors of the Go runtime: see runtime.c. goproc_mend_runtime opens them anew if they are closed. It is
 * called before Go is entered. */
void goproc_know_runtime(const int32_t *fds);
void goproc_mend_runtime(void);

/* Starts a thread that kills this process when its parent is gone. own is this process's descriptor of the lifeline.
 * Returns 0, or an errno. */
int goproc_watch_lifeline(int own);

/* What nursery.c shares with the ordinary fork, in process.c.
 *
 * goproc_may_fork: what os.fork() does before it forks: refuse where it must not, warn, and for each of that many
 * children raise the audit event. 0, or -1 with an exception set.
 * goproc_has_seats: whether children can have seats, unless all are taken; -1 with an exception set.
 * goproc_child_lifeline: then, a descriptor of the lifeline for a child about to be forked, or -1 with errno set;
 * *armed says whether the child can be killed by it when its parent is gone.
 * goproc_open_lifeline: open anew the lifeline that this process has inherited.
 * goproc_arm_lifeline: have the kernel send signum to this process when its parent is gone.
 * goproc_have_pidfds: whether children can be watched by pidfds; else start() makes each a tether, a pipe.
 * goproc_child_has_ended: whether the child has ended, reaped or not. It is not reaped.
 * goproc_end_child: kill it and wait for it.
 * goproc_take_on: give the child, which is running, a seat, and put its id, pid and pidfd into the list of three. 1; 0
 * when there is no seat, or -1 with an exception set, and then it has been ended.
 * goproc_put_off_collecting: as the method of that name. */
int goproc_may_fork(unsigned children);
int goproc_has_seats(void);
int goproc_child_lifeline(int *armed);
int goproc_open_lifeline(int fd);
int goproc_arm_lifeline(int own, int signum);
int goproc_have_pidfds(void);
int goproc_child_has_ended(pid_t pid);
void goproc_end_child(pid_t pid);
int goproc_take_on(pid_t pid, PyObject *record);
void goproc_put_off_collecting(void);

/* See faults.c. The thread that loads the engine calls them.
 *
 * goproc_hold_signals: before loading, block all signals, so that no thread of Go's is given any.
 * goproc_restore_signals: when the runtime has started, give back the signals that it has taken. of_the_engine is the
 * address of any of the engine's functions.
 * goproc_release_signals: at the end, unblock the signals. */
void goproc_hold_signals(void);
void goproc_release_signals(void);
void goproc_restore_signals(void *of_the_engine);

/* Each part's methods, and the functions that add a part's types to the module (0, or -1 with an exception set). A
 * part that is not linked in is left out. */
extern PyMethodDef goproc_process_methods[];
int goproc_init_process(PyObject *module);
int goproc_init_channel(PyObject *module) __attribute__((weak));
int goproc_init_port(PyObject *module) __attribute__((weak));
int goproc_init_start(PyObject *module);
int goproc_init_signals(PyObject *module);
int goproc_init_faults(void);
int goproc_init_nursery(PyObject *module);
int goproc_init_rights(PyObject *module);

#endif
