/* proc.c - what the kernel tells of a process in /proc/PID/stat.
 *
 * Field 2 is the name of the program's file in parentheses. It may have spaces and parentheses in it, so fields are
 * counted from the last parenthesis.
 */
#define _GNU_SOURCE
#include "proc.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int goproc_read_stat(pid_t pid, goproc_stat *stat) {
    char path[32] = "/proc/self/stat";
    if (pid)
        snprintf(path, sizeof path, "/proc/%u/stat", (unsigned)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t size = read(fd, stat->text, sizeof stat->text - 1);
    close(fd);
    if (size <= 0)
        return -1;
    stat->text[size] = 0;
    const char *name_end = strrchr(stat->text, ')');
    if (!name_end || name_end[1] != ' ')
        return -1;
    stat->state = name_end + 2;
    return 0;
}

const char *goproc_stat_field(const goproc_stat *stat, int number) {
    const char *at = stat->state;
    for (int field = 3; at && field < number; field++) {
        at = strchr(at, ' ');
        if (at)
            at++;
    }
    return at;
}

int goproc_stat_has_ended(const goproc_stat *stat) {
    enum { THREADS = 20 };
    const char *threads = goproc_stat_field(stat, THREADS);
    return (*stat->state == 'Z' || *stat->state == 'X') && threads && strtol(threads, NULL, 10) <= 1;
}
