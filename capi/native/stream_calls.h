/* stream_calls.h - receiving for stream.c, also where a sandbox refuses recv(). */
#ifndef GOPROC_STREAM_CALLS_H
#define GOPROC_STREAM_CALLS_H

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

/* Whether a sandbox has refused the call that failed. Then read() and writev() take its place. */
static inline int is_refusal(int error) {
    return error == ENOSYS || error == EPERM;
}

/* Returns the same as recv(). flags: MSG_DONTWAIT or 0. */
static inline ssize_t take(int fd, void *buffer, size_t size, int flags) {
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    ssize_t got = recv(fd, buffer, size, flags);
    if (got >= 0 || !is_refusal(errno))
        return got;
    errno = EAGAIN;
    return flags && poll(&wanted, 1, 0) == 0 ? -1 : read(fd, buffer, size);
}

#endif
