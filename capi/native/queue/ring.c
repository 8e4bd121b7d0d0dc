/* ring.c - the memory of a queue, and putting items into it and taking them out. Without Python. */
#define _GNU_SOURCE
#include "ring.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

enum { MAGIC = 0x71756575 };

static goproc_ring *rings; /* all queues of this process; guarded by the GIL */

/* ---- making ------------------------------------------------------------------------------------------------------ */

/* How much address space must be free: a queue leaves 32 MiB to the rest of the program, such as Python's objects and
 * the stack of a thread. If less is free, context.py makes a pipe. */
enum { ROOM = GOPROC_QUEUE_SIZE + (32 << 20) };

static int map(goproc_ring *ring) {
    ring->memory = mmap(NULL, GOPROC_QUEUE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
    if (ring->memory == MAP_FAILED)
        return -1;
    ring->header = (goproc_queue_header *)ring->memory;
    ring->fd_mark = goproc_mark(ring->fd);
    ring->event_mark = goproc_mark(ring->event);
    ring->ends = GOPROC_BOTH_ENDS;
    ring->next = rings;
    rings = ring;
    ring->generation = goproc_generation - 1;
    return 0;
}

static int close_both(int fd, int event) {
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (event >= 0)
        close(event);
    errno = error;
    return -1;
}

int goproc_ring_make(goproc_ring *ring, uint32_t maxsize, int joinable, const char **call) {
    size_t size = GOPROC_QUEUE_SIZE;
    int fd = goproc_shared_file("goproc-queue", size, &size, call);
    if (fd < 0)
        return -1;
    *call = "eventfd";
    int event = goproc_move_up(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (event < 0)
        return close_both(fd, -1);
    ring->fd = fd;
    ring->event = event;
    *call = "mmap";
    void *room = mmap(NULL, ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED || munmap(room, ROOM) < 0 || map(ring) < 0)
        return close_both(fd, event);
    ring->header->magic = MAGIC;
    ring->header->maxsize = ring->maxsize = maxsize;
    ring->header->joinable = ring->joinable = (uint32_t)joinable;
    ring->header->space = atomic_load(&goproc_myself()->space);
    goproc_ends_make(ring);
    goproc_ring_refresh(ring);
    return 0;
}

int goproc_ring_attach(goproc_ring *ring, int fd, int event) {
    struct stat status;
    if (fstat(fd, &status) < 0)
        return close_both(fd, event);
    if (status.st_size < GOPROC_QUEUE_SIZE) {
        errno = EINVAL;
        return close_both(fd, event);
    }
    fd = goproc_move_up(fd);
    event = goproc_move_up(event);
    if (fd < 0 || event < 0)
        return close_both(fd, event);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(event, F_SETFD, FD_CLOEXEC);
    ring->fd = fd;
    ring->event = event;
    if (map(ring) < 0)
        return close_both(fd, event);
    if (ring->header->magic != MAGIC) {
        goproc_ring_drop(ring);
        errno = EINVAL;
        return -1;
    }
    ring->maxsize = ring->header->maxsize;
    ring->joinable = ring->header->joinable;
    goproc_ring_refresh(ring);
    return 0;
}

void goproc_ring_drop(goproc_ring *ring) {
    if (!ring->header)
        return;
    for (goproc_ring **at = &rings; *at; at = &(*at)->next)
        if (*at == ring) {
            *at = ring->next;
            break;
        }
    goproc_ring_left(ring, (uint64_t)getpid());
    munmap(ring->memory, GOPROC_QUEUE_SIZE);
    goproc_close_marked(ring->fd, ring->fd_mark);
    goproc_close_marked(ring->event, ring->event_mark);
    ring->header = NULL;
}

void goproc_ring_refresh(goproc_ring *ring) {
    if (ring->generation == goproc_generation)
        return;
    const goproc_who *me = goproc_myself();
    ring->generation = goproc_generation;
    ring->me = (uint64_t)atomic_load(&me->started) << 32 | atomic_load(&me->pid);
    ring->counted = ring->uncounted = 0;
    if (atomic_load(&me->space) != ring->header->space)
        atomic_store(&ring->header->mixed, 1);
    goproc_sync_spinner_init(&ring->getting);
    goproc_sync_spinner_init(&ring->putting);
}

void goproc_each_ring(void (*visit)(goproc_ring *ring, uint64_t data), uint64_t data) {
    for (goproc_ring *ring = rings; ring; ring = ring->next)
        visit(ring, data);
}

/* ---- putting ----------------------------------------------------------------------------------------------------- */

static uint64_t rounded(uint64_t size, uint64_t unit) {
    return (size + unit - 1) / unit * unit;
}

/* Returns whether there is room in the ring, and where. */
static int find_room(uint64_t head, uint64_t tail, uint32_t room, uint32_t *offset) {
    uint32_t first = goproc_offset_of(head), end = goproc_offset_of(tail);
    *offset = end;
    if (goproc_count_of(head) == goproc_count_of(tail)) {
        /* The queue is empty, so the ring begins anew, in the same cache lines. Until this item is taken, further ones
         * have the room between it and the old tail. */
        if (end >= GOPROC_RING_SIZE / 2)
            *offset = 0;
        return 1;
    }
    if (end < first)
        return room < first - end;
    if (room <= GOPROC_RING_SIZE - end)
        return 1;
    *offset = 0;
    return room < first;
}

/* Returns whether there is room in the far area, and where. An item that is larger than the area must be alone. */
static int find_far(goproc_queue_header *header, int empty, uint64_t size, goproc_far *far) {
    uint64_t start = atomic_load(&header->far_put), room = rounded(size, GOPROC_FAR_UNIT);
    if (empty) {
        start = rounded(start, GOPROC_FAR_SIZE);
        atomic_store(&header->far_floor, start);
    } else if (room > GOPROC_FAR_SIZE - start % GOPROC_FAR_SIZE) {
        start = rounded(start, GOPROC_FAR_SIZE);
    }
    uint64_t got = atomic_load(&header->far_got), floor = atomic_load(&header->far_floor);
    far->start = start;
    far->end = start + room;
    return empty || far->end - Py_MAX(got, floor) <= GOPROC_FAR_SIZE;
}

/* Writes to the file at an offset of the far area. */
static int write_file(int fd, uint64_t at, const uint8_t *from, size_t size) {
    while (size) {
        ssize_t written = pwrite(fd, from, size, (off_t)(GOPROC_FAR_AT + at));
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            errno = written < 0 ? errno : ENOSPC;
            return -1;
        }
        from += written;
        at += (uint64_t)written;
        size -= (size_t)written;
    }
    return 0;
}

/* A place that an item is written to: memory, or the file from an offset on. */
typedef struct {
    uint8_t *memory; /* NULL: the file */
    int fd;
    uint64_t at;
} place;

static int add(place *place, const void *from, size_t size) {
    if (!place->memory) {
        if (write_file(place->fd, place->at, from, size) < 0)
            return -1;
    } else if (size) {
        memcpy(place->memory + place->at, from, size);
    }
    place->at += size;
    return 0;
}

static int write_item(place *place, const goproc_new_item *item) {
    if (item->kind == GOPROC_ITEM_PARTS) {
        uint64_t number = 1 + item->count - item->stream, stream = 0;
        for (size_t i = 0; i < item->stream; i++)
            stream += item->pieces[i].size;
        if (add(place, &number, sizeof number) < 0 || add(place, &stream, sizeof stream) < 0)
            return -1;
        for (size_t i = item->stream; i < item->count; i++) {
            uint64_t size = item->pieces[i].size | (item->pieces[i].is_bytes ? GOPROC_PART_OF_BYTES : 0);
            if (add(place, &size, sizeof size) < 0)
                return -1;
        }
    }
    for (size_t i = 0; i < item->count; i++)
        if (add(place, item->pieces[i].bytes, item->pieces[i].size) < 0)
            return -1;
    return 0;
}

int goproc_ring_put(goproc_ring *ring, const goproc_new_item *new) {
    goproc_queue_header *header = ring->header;
    uint64_t head = atomic_load(&header->head), tail = atomic_load(&header->tail);
    uint64_t size = new->kind == GOPROC_ITEM_PARTS ? sizeof(uint64_t) * (2 + new->count - new->stream) : 0;
    int empty = goproc_count_of(head) == goproc_count_of(tail);
    for (size_t i = 0; i < new->count; i++)
        size += new->pieces[i].size;
    int is_far = size > GOPROC_MOST_INLINE;
    uint32_t room = (uint32_t)(sizeof(goproc_item) + (is_far ? sizeof(goproc_far) : rounded(size, 16))), offset;
    goproc_far far;
    if (!find_room(head, tail, room, &offset))
        return 0;
    goproc_item *item = (goproc_item *)(ring->memory + GOPROC_RING_AT + offset);
    place place = {.memory = (uint8_t *)(item + 1), .fd = ring->fd};
    if (is_far) {
        if (!find_far(header, empty, size, &far))
            return 0;
        place.at = far.start % GOPROC_FAR_SIZE;
        place.memory = size <= GOPROC_FAR_SIZE ? ring->memory + GOPROC_FAR_AT : NULL;
        if (!place.memory && goproc_mark(ring->fd) != ring->fd_mark) {
            errno = EBADF;
            return -1;
        }
        if (atomic_load(&header->far_high) < place.at + size)
            atomic_store(&header->far_high, place.at + size);
        atomic_store(&header->far_put, far.end);
    }
    if (write_item(&place, new) < 0)
        return -1;
    if (is_far)
        memcpy(item + 1, &far, sizeof far);
    *item = (goproc_item){.room = room, .kind = new->kind | (is_far ? (uint32_t)GOPROC_ITEM_FAR : 0), .size = size};
    if (offset != goproc_offset_of(tail)) {
        /* There is always room for this header, even behind the ring's end. */
        goproc_item *skip = (goproc_item *)(ring->memory + GOPROC_RING_AT + goproc_offset_of(tail));
        skip->kind = GOPROC_ITEM_SKIP;
    }
    atomic_store(&header->tail, goproc_position(goproc_count_of(tail) + 1, offset + room));
    if (atomic_load(&header->watched)) {
        goproc_event_signal(ring);
        /* Somebody may have taken it meanwhile, and cleared the event before it was signalled. */
        if (goproc_ring_count(ring) == 0)
            goproc_event_clear(ring);
    }
    return 1;
}

void goproc_ring_wake(goproc_ring *ring) {
    goproc_queue_header *header = ring->header;
    if (atomic_load(&header->item_bell) & 1)
        goproc_wake_one(&header->item_bell, goproc_count_word(&header->tail),
                        goproc_count_of(atomic_load(&header->head)));
}

void goproc_ring_wake_bound(goproc_ring *ring) {
    goproc_queue_header *header = ring->header;
    if (atomic_load(&header->bound_bell) & 1)
        goproc_wake_one(&header->bound_bell, goproc_count_word(&header->head),
                        goproc_count_of(atomic_load(&header->tail)) - ring->maxsize);
}

/* ---- getting ----------------------------------------------------------------------------------------------------- */

int goproc_ring_find(const goproc_ring *ring, goproc_found *found) {
    goproc_queue_header *header = ring->header;
    uint64_t head = atomic_load(&header->head), tail = atomic_load(&header->tail);
    if (goproc_count_of(head) == goproc_count_of(tail))
        return 0;
    uint32_t offset = goproc_offset_of(head);
    goproc_item item;
    if (offset > GOPROC_RING_SIZE || offset % 16)
        goto overwritten;
    memcpy(&item, ring->memory + GOPROC_RING_AT + offset, sizeof item);
    if (item.kind == GOPROC_ITEM_SKIP) {
        offset = 0;
        memcpy(&item, ring->memory + GOPROC_RING_AT, sizeof item);
    }
    const uint8_t *content = ring->memory + GOPROC_RING_AT + offset + sizeof item;
    found->head = head;
    found->kind = item.kind & ~(uint32_t)GOPROC_ITEM_FAR;
    found->size = item.size;
    found->far = (goproc_far){0, 0};
    found->at = content;
    if (item.room < sizeof item || item.room % 16 || item.room > GOPROC_RING_SIZE - offset ||
        found->kind > GOPROC_ITEM_PLAIN)
        goto overwritten;
    if (item.kind & GOPROC_ITEM_FAR) {
        if (item.room != sizeof item + sizeof found->far)
            goto overwritten;
        memcpy(&found->far, content, sizeof found->far);
        uint64_t at = found->far.start % GOPROC_FAR_SIZE;
        if (item.size <= GOPROC_FAR_SIZE - at)
            found->at = ring->memory + GOPROC_FAR_AT + at;
        else if (at == 0 && item.size < PY_SSIZE_T_MAX)
            found->at = NULL;
        else
            goto overwritten;
    } else if (item.size > item.room - sizeof item) {
        goto overwritten;
    }
    found->next = goproc_position(goproc_count_of(head) + 1, offset + item.room);
    return 1;
overwritten:
    errno = EPROTO;
    return -1;
}

int goproc_ring_copy(const goproc_ring *ring, const goproc_found *found, uint64_t from, void *to, size_t size) {
    if (from > found->size || size > found->size - from) {
        errno = EPROTO;
        return -1;
    }
    if (found->at) {
        memcpy(to, found->at + from, size);
        return 0;
    }
    if (goproc_mark(ring->fd) != ring->fd_mark) {
        errno = EBADF;
        return -1;
    }
    for (uint8_t *at = to; size;) {
        ssize_t got = pread(ring->fd, at, size, (off_t)(GOPROC_FAR_AT + from));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            errno = got < 0 ? errno : EPROTO;
            return -1;
        }
        at += got;
        from += (uint64_t)got;
        size -= (size_t)got;
    }
    return 0;
}

void goproc_ring_take(goproc_ring *ring, const goproc_found *found) {
    goproc_queue_header *header = ring->header;
    atomic_store(&header->head, found->next);
    if (found->far.end)
        atomic_store(&header->far_got, found->far.end);
    if (atomic_load(&header->watched) && goproc_ring_count(ring) == 0) {
        goproc_event_clear(ring);
        if (goproc_ring_count(ring)) /* an item came before the event was cleared */
            goproc_event_signal(ring);
    }
}

/* Whether half of the memory is free, so that it pays to wake the threads that wait for room. */
static int has_room(goproc_queue_header *header) {
    uint64_t head = atomic_load(&header->head), tail = atomic_load(&header->tail);
    uint32_t first = goproc_offset_of(head), end = goproc_offset_of(tail);
    if (goproc_count_of(head) == goproc_count_of(tail))
        return 1;
    uint32_t used = end >= first ? end - first : GOPROC_RING_SIZE - first + end;
    uint64_t got = Py_MAX(atomic_load(&header->far_got), atomic_load(&header->far_floor));
    return used <= GOPROC_RING_SIZE / 2 && atomic_load(&header->far_put) - got <= GOPROC_FAR_SIZE / 2;
}

void goproc_ring_taken(goproc_ring *ring, const goproc_found *found) {
    goproc_queue_header *header = ring->header;
    if (ring->maxsize)
        goproc_ring_wake_bound(ring);
    if ((atomic_load(&header->room_bell) & 1) && has_room(header))
        goproc_wake_all(&header->room_bell);
    if (!found->at)
        goproc_ring_trim(ring);
}

void goproc_ring_trim(goproc_ring *ring) {
    goproc_queue_header *header = ring->header;
    uint64_t high = atomic_load(&header->far_high);
    if (high == 0 || !goproc_gate_try(&header->putting, ring->me))
        return;
    high = atomic_load(&header->far_high);
    /* If the queue is empty, nobody reads in the far area: an item is read before the head is stored. */
    if (goproc_ring_count(ring) == 0 && high) {
        atomic_store(&header->far_high, 0);
        madvise(ring->memory + GOPROC_FAR_AT, GOPROC_FAR_SIZE, MADV_REMOVE);
        if (high > GOPROC_FAR_SIZE && goproc_mark(ring->fd) == ring->fd_mark)
            fallocate(ring->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, GOPROC_QUEUE_SIZE,
                      (off_t)(high - GOPROC_FAR_SIZE));
    }
    goproc_gate_leave(&header->putting);
}
