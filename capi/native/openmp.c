/* openmp.c - the threads of GCC's OpenMP are ended before a fork.
 *
 * libgomp keeps idle threads for the thread that has used OpenMP. A child that this thread forks has their list, but
 * not the threads, and waits for ever when it uses OpenMP. goproc_fork calls this. See docs/design/openmp.md.
 */
#define _GNU_SOURCE
#include "native.h"
#include "proc.h"

#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    LIBRARIES = 8,  /* wheels bring a copy of libgomp each */
    PAUSE_SOFT = 1, /* omp_pause_soft */
    FLAGS = 9,      /* a field of /proc/self/stat */
    FORKED = 0x40,  /* PF_FORKNOEXEC in the flags */
};

typedef int (*pause_fn)(int kind); /* omp_pause_resource_all */

/* Which libraries were found. The lock is only tried: another thread may have held it when this process was forked. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long long seen; /* the dynamic linker's count of loaded libraries, when they were searched last */
static char paths[LIBRARIES][PATH_MAX];
static pause_fn pauses[LIBRARIES];
static int found;

static bool disabled;

/* Whether this process may have inherited a list of threads that do not exist here. To end these would wait for ever. */
static bool inherited;

/* Whether the fork that this thread makes is one before which its threads were ended. */
static __thread bool paused;

static int look_at(struct dl_phdr_info *info, size_t size, void *is_first) {
    (void)size;
    if (*(bool *)is_first && info->dlpi_adds == seen)
        return 1; /* nothing was loaded since */
    *(bool *)is_first = false;
    seen = info->dlpi_adds;
    const char *slash = strrchr(info->dlpi_name, '/');
    if (!slash || strncmp(slash + 1, "libgomp", strlen("libgomp")) != 0 || strlen(info->dlpi_name) >= PATH_MAX)
        return 0;
    for (int i = 0; i < found; i++)
        if (strcmp(paths[i], info->dlpi_name) == 0)
            return 0;
    if (found < LIBRARIES)
        strcpy(paths[found++], info->dlpi_name);
    return 0;
}

static void find_libraries(void) {
    int before = found;
    bool is_first = true;
    dl_iterate_phdr(look_at, &is_first);
    for (int i = before; i < found; i++) { /* not in look_at(), which is called with a lock of the dynamic linker's */
        void *library = dlopen(paths[i], RTLD_LAZY | RTLD_NOLOAD);
        if (library)
            pauses[i] = (pause_fn)dlsym(library, "omp_pause_resource_all"); /* since GCC 9 */
    }
}

/* Says in the log that the threads stay. */
static void tell_once(void) {
    static bool told;
    if (told)
        return;
    told = true;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *util = PyDict_GetItemString(PyImport_GetModuleDict(), "multiprocessing.util");
    PyObject *done = util ? PyObject_CallMethod(util, "info", "s",
                                                "the threads of GCC's OpenMP could not be ended before a fork: "
                                                "a child that uses OpenMP may wait for ever")
                          : NULL;
    Py_XDECREF(done);
    PyErr_Restore(type, value, traceback);
}

void goproc_pause_openmp(void) {
    paused = false;
    if (disabled || pthread_mutex_trylock(&lock))
        return;
    if (!inherited)
        find_libraries();
    pause_fn now[LIBRARIES];
    int count = found;
    memcpy(now, pauses, sizeof now);
    pthread_mutex_unlock(&lock);
    bool all = !inherited;
    if (count && !inherited) {
        Py_BEGIN_ALLOW_THREADS; /* the threads end, and what they call at their end may need the GIL */
        for (int i = 0; i < count; i++)
            all = now[i] && now[i](PAUSE_SOFT) == 0 && all;
        Py_END_ALLOW_THREADS;
    }
    paused = all;
    if (count && !all)
        tell_once();
}

void goproc_forked_with_openmp(void) {
    paused = false;
}

static void in_forked_child(void) {
    inherited = inherited || !paused;
}

/* Whether this process was forked, and has executed no program since. */
static bool was_forked(void) {
    goproc_stat stat;
    const char *flags = goproc_read_stat(0, &stat) == 0 ? goproc_stat_field(&stat, FLAGS) : NULL;
    return !flags /* nothing is known */ || strtoul(flags, NULL, 10) & FORKED;
}

PyDoc_STRVAR(keep_openmp_doc, "keep_openmp()\n--\n\nDo not end the threads of GCC's OpenMP before a fork.");

static PyObject *keep_openmp(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    disabled = true;
    Py_RETURN_NONE;
}

/* ---- the module's part ------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"keep_openmp", keep_openmp, METH_NOARGS, keep_openmp_doc},
    {NULL, NULL, 0, NULL},
};

int goproc_init_openmp(PyObject *module) {
    inherited = was_forked();
    if (goproc_on_fork_child(in_forked_child) < 0)
        return -1;
    return PyModule_AddFunctions(module, methods);
}
