/* record.h - the record by which dump finds what it reads in this process. See waits.h. */
#ifndef GOPROC_RECORD_H
#define GOPROC_RECORD_H

#include "waits.h"

/* How many threads can have a note at the same time. */
enum { GOPROC_MOST_WAITS = 128 };

/* It changes with each change of this file, of the notes, or of the names in layout.c. */
enum { GOPROC_RECORD_VERSION = 1 };

enum { GOPROC_MOST_LAYOUT = 96 };

/* What changes while the process runs. Without a pool's channel, control and slot are 0. */
typedef struct {
    uint64_t control, slot; /* of a worker: the addresses of its pool's page and of its own */
    goproc_wait waits[GOPROC_MOST_WAITS];
} goproc_notes;

/* dump finds it by its magic, in the data of _native. It is written only when _native is loaded, and in helpers. So
 * other forked children share its page with their parent. python/goproc/_dump/record.py reads it. */
typedef struct {
    char magic[16];
    uint32_t version;    /* GOPROC_RECORD_VERSION */
    uint32_t off;        /* GOPROC_DISABLE=dump */
    uint32_t pid;        /* of the process that loaded _native; a process with another pid is a fork */
    uint32_t helper_pid; /* of the process that helper is the title of: a server, a standby or a template */
    uint64_t threads;    /* the address of the pointer to the first PyThreadState */
    uint64_t holder;     /* the address of the pointer to the PyThreadState that held the GIL last */
    uint64_t locked;     /* the address of the int that says whether the GIL is held */
    uint64_t types[4];   /* the addresses of the types of code, functions, functions in C, and types */
    uint64_t notes;      /* the address of the notes; 0: there are none */
    uint32_t wait_count, wait_size;
    char helper[48];
    int32_t layout[GOPROC_MOST_LAYOUT];
} goproc_record;

extern goproc_record goproc_the_record;

/* Fills in the addresses and the layout: see layout.c. */
void goproc_fill_record(goproc_record *record);

/* Returns the name of an entry of the layout, NULL behind the last. */
const char *goproc_layout_name(int index);

#endif
