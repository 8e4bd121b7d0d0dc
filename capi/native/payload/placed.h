/* placed.h - placed bytes: bytes objects that lie in an extent.
 *
 * A bytes object is a header with the contents behind it. CPython allocates and frees a large one by its allocator of
 * raw memory. So that allocator is wrapped, by PyMem_SetAllocator(). The wrapper hands out a given place in an extent
 * when such an object is made, and recognises the place when the object is freed.
 */
#ifndef GOPROC_PLACED_H
#define GOPROC_PLACED_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "arena.h"

enum {
    /* How much room the header needs before the contents. The contents begin at the beginning of a page, and the
     * header is in the page before, which is made private: see goproc_mapping_own_page. */
    GOPROC_PLACED_ROOM = 64,
    /* Smaller objects are copied: that costs no more than the system calls for placing them. */
    GOPROC_PLACED_LEAST = 64 << 10,
};

/* Wraps the allocator, unless that has been done. If another wrapper is there, the allocator is left alone: the
 * other wrapper might restore what it found, and objects that only goproc's wrapper can free would be left. Called
 * with the GIL held. */
void goproc_placed_prepare(void);

/* Has the allocator never be wrapped, so that goproc_bytes_placed always returns NULL. Called before
 * goproc_placed_prepare. */
void goproc_placed_disable(void);

/* Makes a bytes object of the size bytes at contents, which lie in the mapping. Its header goes into the page before
 * the contents, and the byte behind them becomes 0. The mapping is in use until the object is gone. Returns NULL
 * without an exception when that is not possible now: then the caller must copy the bytes. */
PyObject *goproc_bytes_placed(goproc_mapping *mapping, uint8_t *contents, uint64_t size);

/* How many bytes all placed objects of this process have. */
uint64_t goproc_placed_total(void);

#endif
