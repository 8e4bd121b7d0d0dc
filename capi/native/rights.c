/* rights.c - a fingerprint of the rights that a forked child would have from the calling thread.
 *
 * A pool's workers may be clones of a template that was forked earlier (clone/nursery.c). They must not have rights
 * that the program has given up since. So for each worker, nursery.py compares the present fingerprint with that of the
 * fork. A fingerprint is made from system calls and few files. The comparison for servers, core/sys/circumstances.go,
 * is more thorough and takes several times as long.
 *
 * Limits: seccomp filters are only counted, and only the first Landlock domain is seen. So two threads cannot be told
 * apart if each has added filters of its own, and both the same number, or if each has entered a domain of its own.
 */
#include "native.h"

#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef uint64_t hash;

static hash add(hash h, const void *data, size_t size) {
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++)
        h = (h ^ bytes[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
    return h;
}

static hash add_number(hash h, long number) {
    return add(h, &number, sizeof number);
}

/* Reads a file of the folder, at most size - 1 bytes, and ends it with 0. Returns how many bytes, or -1. */
static ssize_t read_file(int folder, const char *name, char *content, size_t size) {
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    size_t used = 0;
    ssize_t got;
    while (used < size - 1 && (got = read(fd, content + used, size - 1 - used)) > 0)
        used += (size_t)got;
    close(fd);
    content[used] = 0;
    return (ssize_t)used;
}

/* Adds the lines of the thread's status that are inherited. */
static hash add_status(hash h, const char *status) {
    static const char *const inherited[] = {
        "Umask:",  "Uid:",    "Gid:",          "Groups:",      "NSpgid:",     "NSsid:",   "CapInh:",
        "CapPrm:", "CapEff:", "CapBnd:",       "CapAmb:",      "NoNewPrivs:", "Seccomp:", "Seccomp_filters:",
        "SigBlk:", "SigIgn:", "Cpus_allowed:", "Mems_allowed:"};
    for (const char *line = status, *end; (end = strchr(line, '\n')); line = end + 1)
        for (size_t i = 0; i < Py_ARRAY_LENGTH(inherited); i++)
            if (strncmp(line, inherited[i], strlen(inherited[i])) == 0)
                h = add(h, line, (size_t)(end - line));
    return h;
}

static hash add_namespaces(hash h, int folder) {
    static const char *const names[] = {"ns/cgroup",           "ns/ipc",  "ns/mnt", "ns/net",
                                        "ns/pid_for_children", "ns/user", "ns/uts"};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        char link[64];
        ssize_t size = readlinkat(folder, names[i], link, sizeof link);
        h = add(h, link, size < 0 ? 0 : (size_t)size);
    }
    return h;
}

static hash add_calls(hash h) {
    struct stat root;
    if (stat("/", &root) == 0)
        h = add_number(add_number(h, (long)root.st_dev), (long)root.st_ino);
    for (int resource = 0; resource < RLIM_NLIMITS; resource++) {
        struct rlimit limit = {0, 0};
        getrlimit((__rlimit_resource_t)resource, &limit);
        h = add(h, &limit, sizeof limit);
    }
    char attributes[56] = {0}; /* struct sched_attr */
    syscall(SYS_sched_getattr, 0, attributes, sizeof attributes, 0);
    h = add(h, attributes, sizeof attributes);
    int mode = 0;
    unsigned long nodes[64] = {0};
    syscall(SYS_get_mempolicy, &mode, nodes, 8 * sizeof nodes, 0, 0);
    h = add(add_number(h, mode), nodes, sizeof nodes);
    h = add_number(h, syscall(SYS_ioprio_get, 1, 0));
    h = add_number(h, syscall(SYS_personality, 0xffffffffUL));
    h = add_number(h, prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
    h = add_number(h, prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0));
    h = add_number(h, prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    /* Whether this thread may look into the parent process: it may not once it has entered a Landlock domain. */
    void *head;
    size_t size;
    return add_number(h, syscall(SYS_get_robust_list, getppid(), &head, &size));
}

PyDoc_STRVAR(rights_doc,
             "rights() -> int | None\n\n"
             "A fingerprint of what a forked child would have from the calling thread: credentials, capabilities, "
             "seccomp filters,\nnamespaces, control group, scheduling, limits and the like. Only compare it. None "
             "where there is no /proc.");

static PyObject *rights(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    char content[8192];
    int folder = open("/proc/thread-self", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        Py_RETURN_NONE;
    hash h = UINT64_C(0xcbf29ce484222325);
    int known = read_file(folder, "status", content, sizeof content) > 0;
    if (known)
        h = add_status(h, content);
    static const char *const files[] = {"cgroup", "oom_score_adj", "../../coredump_filter"};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(files); i++) {
        ssize_t size = read_file(folder, files[i], content, sizeof content);
        h = add(h, content, size < 0 ? 0 : (size_t)size);
    }
    h = add_namespaces(h, folder);
    close(folder);
    if (!known)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(add_calls(h));
}

static PyMethodDef methods[] = {
    {"rights", rights, METH_NOARGS, rights_doc},
    {NULL, NULL, 0, NULL},
};

int goproc_init_rights(PyObject *module) {
    return PyModule_AddFunctions(module, methods);
}
