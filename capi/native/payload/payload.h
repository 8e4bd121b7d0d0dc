/* payload.h - pickled tasks and results: bytes in a ring, or several parts in an extent.
 *
 * A payload is a pickle stream, and the buffers that protocol 5 left out of it (PEP 574). A short stream without
 * buffers lies in the ring. Otherwise all parts lie in one extent, each aligned to 64 bytes:
 *
 *     uint64 count | uint64 size of each part | part 0: the stream | part 1 ... : the buffers
 *
 * The receiver reads them in place: the buffers become the memory of the objects that it unpickles. It may write there,
 * and the memory is its own until the last of these objects is gone. If a buffer is of a bytes object, its size has the
 * highest bit set. A large one becomes an object in the extent (placed.h); the others are copied once more.
 */
#ifndef GOPROC_PAYLOAD_H
#define GOPROC_PAYLOAD_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "arena.h"

/* A payload on its way out. */
typedef struct {
    const void *bytes; /* what goes into the frame */
    uint64_t size;
    uint32_t flags;
    goproc_extent extent;
    Py_buffer stream;
} goproc_payload;

/* Prepares a payload. stream is a bytes-like object, or a list of bytes objects, which are joined; buffers is None
 * or a sequence of contiguous buffers. Large parts are copied into an extent of the arena, with the GIL released.
 * Returns 0, or -1 with an exception set. */
int goproc_payload_pack(goproc_payload *payload, goproc_arena *arena, PyObject *stream, PyObject *buffers);

/* Ends the use of a payload that goproc_payload_pack prepared. */
void goproc_payload_done(goproc_payload *payload);

/* Reads a payload: the bytes of a frame, or, when flags say so, an extent of the arena. Returns a new reference: bytes,
 * or a tuple (stream, buffers) of a memoryview and a tuple of memoryviews and bytes. */
PyObject *goproc_payload_unpack(goproc_arena *arena, const void *bytes, uint64_t size, uint32_t flags);

/* Prepares the types of this file. */
int goproc_init_payload(PyObject *module);

/* Lists and unlists an arena whose mappings a fork must make private (goproc_arena_before_fork). */
void goproc_arena_enlist(goproc_arena *arena);
void goproc_arena_delist(goproc_arena *arena);

/* How many forks this process descends from, counted since _native was loaded. Objects note the number when they are
 * made: one with a smaller number belongs to an ancestor. */
extern volatile unsigned goproc_fork_depth;

#endif
