/* execute.h - executes a program as a child of the calling thread. */
#ifndef GOPROC_EXECUTE_H
#define GOPROC_EXECUTE_H

#include <stdint.h>

/* Executes the program at path with the arguments argv and the environment envp. Both end with NULL.
 *
 * The child inherits the descriptors 0, 1 and 2 unless they are close-on-exec, and the count descriptors in keep, which
 * must be sorted. All others are closed in it. It has everything else that execve(2) preserves from the calling thread.
 * Signals with a handler get their default action.
 *
 * Returns the child's pid when the program runs, or a negative errno: then there is no child. */
int32_t goproc_execute(const char *path, char *const *argv, char *const *envp, const int32_t *keep, int32_t count);

#endif
