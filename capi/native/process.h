/* process.h - what the files about processes share: link.c, fork.c, lifeline.c, watch.c, sentinel.c, seats.c, wait.c.
 *
 * clone/ uses some of it, too.
 */
#ifndef GOPROC_PROCESS_H
#define GOPROC_PROCESS_H

#include "native.h"

/* ---- link.c */

/* Gives the engine the seats, if there is a live engine. Returns 0, or -1 if it refuses. */
int goproc_offer_seats(goproc_seats *seats);

/* ---- fork.c */

/* Does what os.fork() does before it forks: refuses where no fork is allowed, warns of threads, and raises the audit
 * event for each of the children. Returns 0, or -1 with an exception set. */
int goproc_may_fork(unsigned children);

/* Forks by make, which is fork() or like it, and runs CPython's handlers around it. Returns 0 in the child, the child's
 * pid in the parent, and -1 with an exception set if there is no child. */
pid_t goproc_fork(pid_t (*make)(void));

/* In a forked child: collects no garbage until the process's own code runs. See the method of that name in fork.c. */
void goproc_put_off_collecting(void);

/* ---- lifeline.c */

/* Makes the lifeline, if this process has none, or if the program has closed it. Returns 0, or -1 with errno set. */
int goproc_make_lifeline(void);

/* Returns a descriptor of the lifeline for a child that only watches it: a duplicate. -1 with errno set if it fails. */
int goproc_watched_lifeline(void);

/* Returns a descriptor of the lifeline for a child that is about to be forked, or -1 with errno set. *armed says
 * whether the kernel can kill the child by it when its parent is gone. The lifeline must exist. */
int goproc_child_lifeline(int *armed);

/* Opens anew the lifeline that this process has inherited. Returns the descriptor, or -1 with errno set. */
int goproc_open_lifeline(int fd);

/* Has the kernel send this process signum when its parent is gone. Returns 0, or -1 with errno set. */
int goproc_arm_lifeline(int own, int signum);

/* Has this process killed when its parent is gone: by the kernel, or, if its descriptor of the lifeline cannot be
 * armed, by a thread. */
void goproc_end_with_parent(int own, int armable);

/* ---- watch.c */

/* Starts a thread that kills this process grace_ms milliseconds after its parent is gone. own is this process's
 * descriptor of the lifeline. Returns 0, or an errno. */
int goproc_watch_lifeline(int own, unsigned grace_ms);

/* ---- sentinel.c */

/* Whether pidfds can be used. If not, each child gets a tether. */
int goproc_have_pidfds(void);

/* Has goproc_have_pidfds() ask the kernel again: a sandbox may have been set up since. */
void goproc_doubt_pidfds(void);

/* Opens the pidfd of a child that has just been forked. If no more descriptors can be opened, *reserve is closed to
 * make room, and becomes -1. *reaped says whether somebody else has reaped the child already. Returns the
 * descriptor, or -1 with errno set. */
int goproc_open_pidfd(pid_t pid, int *reserve, int *reaped);

/* Makes the tether of a child that is about to be forked: ends[0] becomes the sentinel, ends[1] is for the child.
 * Returns 0, or -1 with errno set. */
int goproc_make_tether(int ends[2]);

/* Notes the write end of this process's own tether, which stays open as long as this process lives. */
void goproc_keep_tether(int write);

/* Looks at a child without reaping it: 1 if it has ended, 0 if it runs, -1 if it has been reaped, and the number may be
 * another process's. */
int goproc_look_at_child(pid_t pid);

/* Whether the child has ended, reaped or not. It is not reaped. */
int goproc_child_has_ended(pid_t pid);

/* Kills the child and waits for it. */
void goproc_end_child(pid_t pid);

/* ---- seats.c */

/* Gives the engine the seats, if there are seats and an engine. */
void goproc_hand_over_seats(void);

/* Makes seats and lifeline. Returns 1 if children can have seats (all may be taken), 0 if not, -1 with an exception
 * set. */
int goproc_has_seats(void);

/* Gives a running child a seat, and puts its id, pid and sentinel into the record, a list of three. tether_end is the
 * read end of its tether, which the seat owns from now on, or -1: then it has a pidfd. Returns 1. If there is no seat, it
 * returns 0; after another error -1 with an exception set. In both cases it has ended the child. */
int goproc_take_on(pid_t pid, int tether_end, PyObject *record);

/* Returns the seat of the id, locked. Returns NULL if the engine must be asked instead: it has adopted the child, or
 * the seat has been given back. */
goproc_seat *goproc_acquire_seat(long long id);
void goproc_unlock_seat(goproc_seat *seat);

/* Reaps the child if it has ended, and returns whether it has. The seat is locked. */
int goproc_look_at_seat(goproc_seat *seat);

/* Has the engine's reaper watch the child (operation is EPOLL_CTL_ADD), or stop watching it (EPOLL_CTL_DEL). The
 * seat is locked. */
void goproc_watch_seat(goproc_seat *seat, int operation);

#endif
