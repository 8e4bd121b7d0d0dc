/* process.h - what the files about processes share: link.c, fork.c, lifeline.c, watch.c, sentinel.c, seats.c, wait.c.
 *
 * The clones take some of it, too (clone/).
 */
#ifndef GOPROC_PROCESS_H
#define GOPROC_PROCESS_H

#include "native.h"

/* ---- link.c */

/* Has the engine, if there is a live one, watch over the seats. Returns 0, or -1 if it refuses. */
int goproc_offer_seats(goproc_seats *seats);

/* ---- fork.c */

/* Does what os.fork() does before it forks: refuses where it must not, warns, and for each of that many children raises
 * the audit event. Returns 0, or -1 with an exception set. */
int goproc_may_fork(unsigned children);

/* Forks by make, which is fork() or like it, with CPython's handlers run around it. Returns 0 in the child, its pid in
 * the parent, -1 with an exception set if there is none. */
pid_t goproc_fork(pid_t (*make)(void));

/* Lets no garbage be collected in a child before its own code runs: as the method of that name. */
void goproc_put_off_collecting(void);

/* ---- lifeline.c */

/* Makes the lifeline, if this process has none, or if the program has closed it. Returns 0, or -1 with errno set. */
int goproc_make_lifeline(void);

/* Returns a descriptor of the lifeline for a child that only watches it, for which a duplicate does; or -1 with errno
 * set. */
int goproc_watched_lifeline(void);

/* Returns a descriptor of the lifeline for a child about to be forked, or -1 with errno set. *armed says whether the
 * child can be killed by it when its parent is gone. The lifeline has been made. */
int goproc_child_lifeline(int *armed);

/* Opens anew the lifeline that this process has inherited. Returns the descriptor, or -1 with errno set. */
int goproc_open_lifeline(int fd);

/* Has the kernel send this process signum when its parent is gone. Returns 0, or -1 with errno set. */
int goproc_arm_lifeline(int own, int signum);

/* Has this process killed when its parent is gone, by the kernel if its descriptor of the lifeline can be armed. */
void goproc_end_with_parent(int own, int armable);

/* ---- watch.c */

/* Starts a thread that kills this process when its parent is gone. own is this process's descriptor of the lifeline.
 * Returns 0, or an errno. */
int goproc_watch_lifeline(int own);

/* ---- sentinel.c */

/* Whether children can be watched by pidfds; else each is made a tether. */
int goproc_have_pidfds(void);

/* Has that asked again: a sandbox may have been set up since. */
void goproc_doubt_pidfds(void);

/* Opens the pidfd of a child that has just been forked. The reserve is closed, and -1, if that gives it room. *reaped
 * says whether the child has ended and been reaped by somebody else. Returns the descriptor, or -1 with errno set. */
int goproc_open_pidfd(pid_t pid, int *reserve, int *reaped);

/* Makes the tether of a child about to be forked: ends[0] is to be the sentinel. Returns 0, or -1 with errno set. */
int goproc_make_tether(int ends[2]);

/* Keeps the write end of this process's own tether, for as long as it lives. */
void goproc_keep_tether(int write);

/* Looks at a child without reaping it: 1 if it has ended, 0 if it runs, -1 if it has been reaped, and the number may be
 * another process's. */
int goproc_look_at_child(pid_t pid);

/* Whether the child has ended, reaped or not. It is not reaped. */
int goproc_child_has_ended(pid_t pid);

/* Kills the child and waits for it. */
void goproc_end_child(pid_t pid);

/* ---- seats.c */

/* Has the engine watch over the seats, if there are both. */
void goproc_hand_over_seats(void);

/* Makes seats and lifeline. Returns whether children can have seats, unless all are taken; -1 with an exception set. */
int goproc_has_seats(void);

/* Gives the child, which is running, a seat, and puts its id, pid and pidfd into the list of three. Returns 1; 0 when
 * there is no seat, or -1 with an exception set, and then it has been ended. */
int goproc_take_on(pid_t pid, PyObject *record);

/* Returns the seat of the id, locked, or NULL if the engine must be asked, because it has an entry for it or because
 * nobody sits there any more. */
goproc_seat *goproc_acquire_seat(long long id);
void goproc_unlock_seat(goproc_seat *seat);

/* Reaps the child if it has ended, and returns whether it has. The seat is locked. */
int goproc_look_at_seat(goproc_seat *seat);

/* Has the engine's reaper watch the child, or no longer: operation is EPOLL_CTL_ADD or EPOLL_CTL_DEL. The seat is
 * locked. */
void goproc_watch_seat(goproc_seat *seat, int operation);

#endif
