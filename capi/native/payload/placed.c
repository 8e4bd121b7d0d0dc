/* Bytes objects in extents; see placed.h. */
#define _GNU_SOURCE
#include "placed.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <string.h>

/* An object begins that many bytes behind the beginning of a page. Few other addresses do, so most of what is freed
 * need not be looked up. */
#define OFFSET (GOPROC_PAGE_SIZE - offsetof(PyBytesObject, ob_sval))

_Static_assert(offsetof(PyBytesObject, ob_sval) <= GOPROC_PLACED_ROOM, "the header has room before the contents");
_Static_assert(OFFSET % 16 == 0, "objects are aligned to 16 bytes");

/* The placed objects, a hash table. An object is in one of TRIES places that follow each other; a hash of its address
 * tells the first. The size of the table bounds the number of objects, and so the number of mappings
 * (vm.max_map_count).
 *
 * Entries change only under the GIL. Looking for an address needs no lock: whoever frees a placed object holds the GIL,
 * and an address that a thread without the GIL looks for is never in the table. */
enum { PLACES = 4096, TRIES = 16 };

typedef struct {
    _Atomic uintptr_t address;
    size_t size; /* as it was asked for */
    uint64_t contents;
    goproc_mapping *mapping;
} place;

static place places[PLACES + TRIES];
static uint64_t total;
static bool prepared, possible;
static PyMemAllocatorEx system_allocator;

/* The memory that this thread's next allocation gets, if it asks for this size. */
static _Thread_local struct {
    void *at;
    size_t size;
} offered;

static place *first_place(uintptr_t address) {
    return &places[(address / GOPROC_PAGE_SIZE) * UINT64_C(0x9E3779B97F4A7C15) >> (64 - 12)];
}

_Static_assert(PLACES == 1 << 12, "first_place takes 12 bits");

/* Returns the place with the address, among those where the object at near may be. The address 0 finds a free place.
 * Returns NULL when there is none. */
static place *find(uintptr_t address, uintptr_t near) {
    place *from = first_place(near);
    for (place *at = from; at < from + TRIES; at++)
        if (atomic_load_explicit(&at->address, memory_order_relaxed) == address)
            return at;
    return NULL;
}

static place *placed(const void *memory) {
    uintptr_t address = (uintptr_t)memory;
    return address % GOPROC_PAGE_SIZE == OFFSET ? find(address, address) : NULL;
}

/* Runs inside CPython's allocator, so it must not use that. (A mapping has its memory from malloc().) */
static void give_back(place *place) {
    goproc_mapping *mapping = place->mapping;
    total -= place->contents;
    atomic_store_explicit(&place->address, 0, memory_order_relaxed);
    goproc_mapping_release_reader(mapping);
}

static void *allocate(void *context, size_t size) {
    (void)context;
    if (offered.at != NULL && offered.size == size) {
        void *at = offered.at;
        offered.at = NULL;
        return at;
    }
    return system_allocator.malloc(system_allocator.ctx, size);
}

static void *allocate_cleared(void *context, size_t count, size_t size) {
    (void)context;
    return system_allocator.calloc(system_allocator.ctx, count, size);
}

static void *reallocate(void *context, void *memory, size_t size) {
    (void)context;
    place *place = placed(memory);
    if (place == NULL)
        return system_allocator.realloc(system_allocator.ctx, memory, size);
    void *moved = system_allocator.malloc(system_allocator.ctx, size);
    if (moved != NULL) {
        memcpy(moved, memory, size < place->size ? size : place->size);
        give_back(place);
    }
    return moved;
}

static void release(void *context, void *memory) {
    (void)context;
    place *place = placed(memory);
    if (place != NULL)
        give_back(place);
    else
        system_allocator.free(system_allocator.ctx, memory);
}

/* Whether a function of an allocator is CPython's own. */
static bool is_pythons(void *function) {
    Dl_info python, its;
    return dladdr((void *)PyMem_RawMalloc, &python) && dladdr(function, &its) && python.dli_fbase == its.dli_fbase;
}

void goproc_placed_prepare(void) {
    if (prepared)
        return;
    prepared = true;
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &system_allocator);
    /* If there is another wrapper already, as of tracemalloc or the debug hooks, nothing is placed. All of these have a
     * context. The system allocator has none, and neither has this wrapper. So a thread that allocates without the GIL
     * while this wrapper is installed may see any mixture of the two. */
    if (system_allocator.ctx != NULL || !is_pythons((void *)system_allocator.malloc))
        return;
    PyMemAllocatorEx wrapper = {NULL, allocate, allocate_cleared, reallocate, release};
    PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &wrapper);
    possible = true;
}

void goproc_placed_disable(void) {
    prepared = true;
}

PyObject *goproc_bytes_placed(goproc_mapping *mapping, uint8_t *contents, uint64_t size) {
    uint8_t *at = contents - offsetof(PyBytesObject, ob_sval);
    size_t offset = (size_t)(contents - (uint8_t *)mapping->header);
    if (!possible || offset % GOPROC_PAGE_SIZE != 0 || offset < 2 * GOPROC_PAGE_SIZE)
        return NULL;
    place *place = find(0, (uintptr_t)at);
    if (place == NULL || !goproc_mapping_own_page(mapping, offset - GOPROC_PAGE_SIZE))
        return NULL;
    offered.size = offsetof(PyBytesObject, ob_sval) + (size_t)size + 1;
    offered.at = at;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    offered.at = NULL;
    if ((uint8_t *)bytes != at) { /* another allocator (PYTHONMALLOC), or a wrapper that asks for more bytes */
        possible = false;
        Py_XDECREF(bytes);
        PyErr_Clear();
        return NULL;
    }
    place->size = offered.size;
    place->contents = size;
    place->mapping = mapping;
    atomic_store_explicit(&place->address, (uintptr_t)at, memory_order_relaxed);
    goproc_mapping_read(mapping);
    total += size;
    return bytes;
}

uint64_t goproc_placed_total(void) {
    return total;
}
