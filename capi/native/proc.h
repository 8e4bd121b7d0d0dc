/* /proc/PID/stat: see proc.c. Without Python. */
#ifndef GOPROC_PROC_H
#define GOPROC_PROC_H

#include <sys/types.h>

/* What is known of a process: the contents of /proc/PID/stat. */
typedef struct {
    char text[2048];
    const char *state; /* field 3, in text */
} goproc_stat;

/* Reads it; pid 0 is this process. Returns 0, or -1 if it cannot be read. */
int goproc_read_stat(pid_t pid, goproc_stat *stat);

/* Returns a field, from 3 on, as proc(5) numbers them: its text and what follows. NULL if there are fewer fields. */
const char *goproc_stat_field(const goproc_stat *stat, int number);

/* Whether the process has ended, and nobody has reaped it. While other threads than the main one run, it has not ended:
 * the kernel shows Z as soon as the main thread is gone, but the process cannot be waited for before the last one is. */
int goproc_stat_has_ended(const goproc_stat *stat);

#endif
