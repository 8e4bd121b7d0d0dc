/* block.c - blocks of shared memory, and the cells in them.
 *
 * A block is one mapping. A process makes cells only in blocks of its own, so no two processes need to agree about free
 * space. Other processes get a block by fork, or are sent its descriptor. The kernel frees the memory when the last of
 * them has unmapped it, so nothing is left behind, and no process need know when the others have finished with a cell.
 *
 * A cell that others may use is not given out again. A cell that no other process can know is.
 */
#define _GNU_SOURCE
#include "sync.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 1u
#endif

enum {
    BLOCK_SIZE = 1 << 20, /* of address space: the kernel provides a page when it is first touched */
    LEAST_SIZE = 128 << 10,
};

/* The beginning of a block. */
typedef struct {
    _Atomic uint32_t used; /* bytes, this header included */
    uint8_t reserved[GOPROC_CELL_UNIT - sizeof(uint32_t)];
} header;

struct goproc_block {
    PyObject_HEAD;
    uint8_t *memory;
    size_t size;
    int fd; /* -1: the memory is anonymous */
    uint32_t mark;
    uint64_t device, inode;
    goproc_block *next;
};

/* A cell that no other process can know, and that has been dropped. The list is in private memory: another process may
 * write nonsense into the block. */
typedef struct free_cell {
    goproc_cell *cell;
    size_t size;
    struct free_cell *next;
} free_cell;

unsigned goproc_generation;
static unsigned shared_count; /* grows when memory may have become known to another process */
static goproc_block *blocks;  /* all of this process */
static goproc_block *current[2];
static free_cell *free_cells[2]; /* in the current blocks */

static void before_fork(void) {
    shared_count++;
}

void goproc_sync_forked(void) {
    goproc_generation++;
    shared_count++;
    /* The references are not given back: inside fork() nothing may be freed. */
    current[0] = current[1] = NULL;
    free_cells[0] = free_cells[1] = NULL;
}

static goproc_block *block_new(uint8_t *memory, size_t size, int fd) {
    goproc_block *self = PyObject_New(goproc_block, &goproc_block_type);
    if (!self) {
        munmap(memory, size);
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    self->memory = memory;
    self->size = size;
    self->fd = fd;
    self->mark = fd >= 0 ? goproc_mark(fd) : 0;
    self->device = self->inode = 0;
    struct stat status;
    if (fd >= 0 && fstat(fd, &status) == 0) {
        self->device = (uint64_t)status.st_dev;
        self->inode = (uint64_t)status.st_ino;
    }
    self->next = blocks;
    blocks = self;
    return self;
}

/* Returns the descriptor of a new file without a name, or -1 with errno set. */
static int nameless_file(const char *name) {
    int fd = (int)syscall(SYS_memfd_create, name, MFD_CLOEXEC);
    if (fd >= 0 || (errno != ENOSYS && errno != EPERM && errno != EACCES))
        return fd;
    const char *folders[] = {getenv("TMPDIR"), "/dev/shm", "/tmp", "/var/tmp", "."};
    for (size_t i = 0; fd < 0 && i < Py_ARRAY_LENGTH(folders); i++)
        if (folders[i] && *folders[i])
            fd = open(folders[i], O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
    return fd;
}

/* Returns how large a file may be, at most `most`. If the soft limit is too low, it is raised: the caller restores
 * *before. */
static size_t permitted_size(size_t most, struct rlimit *before) {
    struct rlimit limit;
    before->rlim_max = 0;
    if (getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= most)
        return most;
    struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
    if (limit.rlim_max > limit.rlim_cur && setrlimit(RLIMIT_FSIZE, &raised) == 0) {
        *before = limit;
        limit = raised;
    }
    return limit.rlim_cur >= most ? most : (size_t)limit.rlim_cur & ~(size_t)4095;
}

int goproc_shared_file(const char *name, size_t least, size_t *size, const char **call) {
    *call = "memfd_create";
    int fd = goproc_move_up(nameless_file(name));
    if (fd < 0)
        return -1;
    *call = "ftruncate";
    struct rlimit before;
    *size = permitted_size(*size, &before);
    int failed = *size < least ? (errno = EFBIG, 1) : ftruncate(fd, (off_t)*size) < 0;
    int error = errno;
    if (before.rlim_max)
        setrlimit(RLIMIT_FSIZE, &before);
    if (!failed)
        return fd;
    close(fd);
    errno = error;
    return -1;
}

static goproc_block *make_block(int anonymous) {
    static const char purpose[] = "for locks, semaphores and conditions";
    int fd = -1;
    size_t size = BLOCK_SIZE;
    if (!anonymous) {
        const char *call;
        fd = goproc_shared_file("goproc-locks", LEAST_SIZE, &size, &call);
        if (fd < 0) {
            goproc_raise_errno(call, purpose);
            return NULL;
        }
    }
    uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | (anonymous ? MAP_ANONYMOUS : 0), fd, 0);
    if (memory == MAP_FAILED) {
        int error = errno;
        if (fd >= 0)
            close(fd);
        errno = error;
        goproc_raise_errno("mmap", purpose);
        return NULL;
    }
    atomic_store(&((header *)memory)->used, (uint32_t)sizeof(header));
    return block_new(memory, size, fd);
}

/* ---- cells ------------------------------------------------------------------------------------------------------- */

static void forget_free_cells(int which) {
    while (free_cells[which]) {
        free_cell *next = free_cells[which]->next;
        PyMem_RawFree(free_cells[which]);
        free_cells[which] = next;
    }
}

static uint32_t used(const goproc_block *block) {
    uint32_t bytes = atomic_load_explicit(&((header *)block->memory)->used, memory_order_acquire);
    return bytes <= block->size ? bytes : (uint32_t)block->size;
}

void *goproc_cell_new(uint32_t kind, size_t size, int anonymous, goproc_home *home) {
    size = (size + GOPROC_CELL_UNIT - 1) / GOPROC_CELL_UNIT * GOPROC_CELL_UNIT;
    int which = anonymous != 0;
    goproc_cell *cell = NULL;
    for (free_cell **at = &free_cells[which]; *at; at = &(*at)->next)
        if ((*at)->size == size) {
            free_cell *found = *at;
            cell = found->cell;
            *at = found->next;
            PyMem_RawFree(found);
            memset(cell + 1, 0, size - sizeof *cell);
            break;
        }
    if (!cell) {
        if (!current[which] || used(current[which]) + size > current[which]->size) {
            goproc_block *made = make_block(anonymous);
            if (!made)
                return NULL;
            forget_free_cells(which);
            Py_XSETREF(current[which], made);
        }
        cell = (goproc_cell *)(current[which]->memory + used(current[which]));
        cell->size = (uint32_t)size;
        atomic_fetch_add(&((header *)current[which]->memory)->used, (uint32_t)size);
    }
    cell->kind = kind;
    home->block = (goproc_block *)Py_NewRef((PyObject *)current[which]);
    home->made_at = shared_count;
    home->size = size;
    return cell;
}

void goproc_cell_drop(goproc_home *home, void *memory) {
    goproc_block *block = home->block;
    size_t size = home->size;
    if (!block)
        return;
    home->block = NULL;
    for (int which = 0; which < 2; which++)
        if (block == current[which] && home->made_at == shared_count) {
            free_cell *dropped = PyMem_RawMalloc(sizeof *dropped);
            ((goproc_cell *)memory)->kind = GOPROC_CELL_FREE;
            if (dropped) { /* else the memory is used no more */
                *dropped = (free_cell){.cell = memory, .size = size, .next = free_cells[which]};
                free_cells[which] = dropped;
            }
        }
    Py_DECREF(block);
}

void *goproc_cell_at(PyObject *place, uint32_t kind, size_t size, goproc_home *home) {
    goproc_block *block;
    Py_ssize_t offset;
    if (!PyArg_ParseTuple(place, "O!n", &goproc_block_type, &block, &offset))
        return NULL;
    goproc_cell *cell = (goproc_cell *)(block->memory + offset);
    if (offset < (Py_ssize_t)sizeof(header) || offset % GOPROC_CELL_UNIT || (size_t)offset + size > used(block) ||
        cell->kind != kind || cell->size < size) {
        PyErr_Format(PyExc_ValueError, "there is no cell of kind %u and size %zu at %zd", kind, size, offset);
        return NULL;
    }
    home->block = (goproc_block *)Py_NewRef((PyObject *)block);
    home->made_at = shared_count - 1; /* others know it */
    home->size = size;
    return cell;
}

PyObject *goproc_cell_place(const goproc_home *home, const void *cell) {
    if (home->block->fd < 0)
        return PyErr_Format(PyExc_RuntimeError,
                            "A SemLock created in a fork context is being shared with a process in a spawn context. "
                            "This is not supported. Please use the same context to create multiprocessing objects and "
                            "Process.");
    shared_count++;
    return Py_BuildValue("On", home->block, (Py_ssize_t)((const uint8_t *)cell - home->block->memory));
}

static void each_cell(goproc_block *block, void (*visit)(goproc_cell *cell, void *data), void *data) {
    uint32_t end = used(block);
    for (uint32_t at = sizeof(header); at + sizeof(goproc_cell) <= end;) {
        goproc_cell *cell = (goproc_cell *)(block->memory + at);
        if (cell->size < GOPROC_CELL_UNIT || cell->size > end - at)
            break; /* not ours: another process has overwritten it */
        visit(cell, data);
        at += cell->size;
    }
}

void goproc_each_cell(void (*visit)(goproc_cell *cell, void *data), void *data) {
    for (goproc_block *block = blocks; block; block = block->next)
        each_cell(block, visit, data);
}

/* At the end of the interpreter blocks go before the functions of Py_AtExit() run. */
static void block_dealloc(PyObject *object) {
    goproc_block *self = (goproc_block *)object;
    uint32_t pid = (uint32_t)getpid();
    for (goproc_block **at = &blocks; *at; at = &(*at)->next)
        if (*at == self) {
            *at = self->next;
            break;
        }
    each_cell(self, goproc_leave_cell, &pid);
    munmap(self->memory, self->size);
    goproc_close_marked(self->fd, self->mark);
    Py_TYPE(self)->tp_free(object);
}

/* ---- the module's part ------------------------------------------------------------------------------------------- */

PyDoc_STRVAR(fileno_doc, "fileno()\n--\n\n"
                         "The block's descriptor, to be sent to another process. Raises OSError if the program has\n"
                         "closed it, and ValueError if there is none, because the memory is for forked children only.");

static PyObject *block_fileno(PyObject *object, PyObject *Py_UNUSED(unused)) {
    goproc_block *self = (goproc_block *)object;
    if (self->fd < 0)
        return PyErr_Format(PyExc_ValueError, "the memory is anonymous");
    if (goproc_mark(self->fd) != self->mark) {
        errno = EBADF;
        goproc_raise_errno("fstat", "to send a lock to a process: the program has closed the descriptor of its memory");
        return NULL;
    }
    return PyLong_FromLong(self->fd);
}

PyDoc_STRVAR(attach_block_doc, "attach_block(fd) -> Block\n\n"
                               "Map the block that the descriptor is of, unless this process has it, and take the\n"
                               "descriptor over. Raises OSError, and ValueError if it is no block.");

static PyObject *attach_block(PyObject *Py_UNUSED(module), PyObject *arg) {
    int fd = (int)PyLong_AsLong(arg);
    struct stat status;
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    if (fstat(fd, &status) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    for (goproc_block *block = blocks; block; block = block->next)
        if (block->fd >= 0 && block->device == (uint64_t)status.st_dev && block->inode == (uint64_t)status.st_ino) {
            close(fd);
            return Py_NewRef((PyObject *)block);
        }
    if (status.st_size < LEAST_SIZE || status.st_size > BLOCK_SIZE)
        return PyErr_Format(PyExc_ValueError, "descriptor %d is of no block", fd);
    fd = goproc_move_up(fd);
    if (fd < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    void *memory = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        close(fd);
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return (PyObject *)block_new(memory, (size_t)status.st_size, fd);
}

static PyMethodDef block_methods[] = {
    {"fileno", block_fileno, METH_NOARGS, fileno_doc},
    {NULL, NULL, 0, NULL},
};

PyTypeObject goproc_block_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc._native.Block",
    .tp_doc = PyDoc_STR("A block of shared memory, in which locks are."),
    .tp_basicsize = sizeof(goproc_block),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = block_dealloc,
    .tp_methods = block_methods,
};

static PyMethodDef methods[] = {
    {"attach_block", attach_block, METH_O, attach_block_doc},
    {NULL, NULL, 0, NULL},
};

int goproc_init_block(PyObject *module) {
    static int handlers_installed;
    if (!handlers_installed) {
        int error = pthread_atfork(before_fork, NULL, NULL);
        if (error) {
            errno = error;
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        handlers_installed = 1;
    }
    if (goproc_on_fork_child(goproc_sync_forked) < 0)
        return -1;
    if (PyModule_AddType(module, &goproc_block_type) < 0)
        return -1;
    return PyModule_AddFunctions(module, methods);
}
