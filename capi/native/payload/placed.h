/* placed.h - bytes objects that lie in memory which this process did not allocate for them: in an extent.
 *
 * A bytes object is a header with the contents behind it. CPython allocates and frees it by its allocator of raw
 * memory. So that allocator is wrapped, by PyMem_SetAllocator(). The wrapper hands out a given place when it is asked
 * for it, and recognises such a place when it is freed.
 */
#ifndef GOPROC_PLACED_H
#define GOPROC_PLACED_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "arena.h"

enum {
    /* A bytes object begins that many bytes before its contents, which begin a page: see goproc_mapping_own_page. */
    GOPROC_PLACED_ROOM = 64,
    /* Smaller ones are copied: that costs no more than the system calls for placing them. */
    GOPROC_PLACED_LEAST = 64 << 10,
};

/* Wraps the allocator, unless that has been done. It is left alone when somebody else has wrapped it before: they might
 * put back what they found, while there are objects that only this one can free. Called with the GIL held. */
void goproc_placed_prepare(void);

/* Leaves the allocator alone for good, so that goproc_bytes_placed makes nothing. Called before anything is prepared. */
void goproc_placed_disable(void);

/* Makes a bytes object of the size bytes at contents, which lie in the mapping, with its header in the page before
 * them. The byte behind them becomes 0. The mapping is used until the object is gone. Returns NULL without an exception
 * when that is not possible now: then they must be copied. */
PyObject *goproc_bytes_placed(goproc_mapping *mapping, uint8_t *contents, uint64_t size);

/* How many bytes all placed objects of this process have. */
uint64_t goproc_placed_total(void);

#endif
