/* Marks of descriptors: see descriptors.c. Without Python, for the arena. */
#ifndef GOPROC_DESCRIPTORS_H
#define GOPROC_DESCRIPTORS_H

#include <stdint.h>

/* The mark of the file that the descriptor refers to, 0 if it is not open. errno stays as it is. */
uint32_t goproc_mark(int fd);

#endif
