/* title.c - the title of a helper process: what ps and top show in the place of the program's command line.
 *
 * A server has the command line with which its interpreter was executed. A standby is a fork of a server, a template a
 * fork of the program. Each has the command line of the process that it was forked from. ps reads it from the process's
 * own memory, from where the kernel has put the arguments. So the title is written there, and the rest is filled with
 * null bytes. top shows the name of the main thread, of at most 15 bytes. A process that becomes the user's gets both
 * back.
 *
 * Limits: a title that is longer than the command line is cut. A command line above 64 KiB stays as it is, and so does
 * any command line if /proc cannot be read. The thread's name is set in all cases.
 */
#include "native.h"
#include "dump/waits.h"
#include "proc.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

enum { LONGEST = 64 << 10, NAME_SIZE = 16 };

static struct {
    bool disabled, taken;
    char name[NAME_SIZE]; /* the name of the thread before */
    char *arguments;      /* where the arguments are; used only if size is not 0 */
    size_t size;
    char *original; /* a copy of the arguments */
} title;

/* Finds the arguments in this process's memory. Returns how many bytes they have, 0 if that is not known. */
static size_t find_arguments(char **arguments) {
    enum { ARGUMENTS = 48 }; /* a field of /proc/self/stat; the next one is their end */
    goproc_stat stat;
    const char *field = goproc_read_stat(0, &stat) == 0 ? goproc_stat_field(&stat, ARGUMENTS) : NULL;
    unsigned long start, end;
    if (field == NULL || sscanf(field, "%lu %lu", &start, &end) != 2 || start == 0 || end <= start)
        return 0;
    *arguments = (char *)start; /* NOLINT: the kernel tells addresses as numbers */
    return end - start;
}

static void save(void) {
    title.taken = true;
    prctl(PR_GET_NAME, title.name);
    title.size = find_arguments(&title.arguments);
    title.original = title.size > 0 && title.size <= LONGEST ? malloc(title.size) : NULL;
    if (title.original == NULL)
        title.size = 0;
    else
        memcpy(title.original, title.arguments, title.size);
}

void goproc_take_title(const char *text) {
    goproc_note_helper(text);
    if (title.disabled)
        return;
    if (!title.taken)
        save();
    prctl(PR_SET_NAME, text);
    if (title.size > 0) {
        memset(title.arguments, 0, title.size);
        memcpy(title.arguments, text, strnlen(text, title.size - 1));
    }
}

void goproc_give_title_back(void) {
    goproc_note_helper(NULL);
    if (!title.taken)
        return;
    title.taken = false;
    if (title.size > 0)
        memcpy(title.arguments, title.original, title.size);
    prctl(PR_SET_NAME, title.name);
    free(title.original);
    title.original = NULL;
}

PyDoc_STRVAR(take_title_doc, "take_title(title)\n--\n\n"
                             "Have ps and top show a title in the place of this process's command line.");

static PyObject *take_title(PyObject *Py_UNUSED(module), PyObject *args) {
    const char *text;
    if (!PyArg_ParseTuple(args, "s:take_title", &text))
        return NULL;
    goproc_take_title(text);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(give_title_back_doc, "give_title_back()\n--\n\n"
                                  "Have ps and top show the command line again. Without a title this does nothing.");

static PyObject *give_title_back(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    goproc_give_title_back();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(refuse_titles_doc, "refuse_titles()\n--\n\n"
                                "Have take_title() do nothing, in this process and in processes that it forks.");

static PyObject *refuse_titles(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    title.disabled = true;
    Py_RETURN_NONE;
}

/* ---- the module's part ------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"take_title", take_title, METH_VARARGS, take_title_doc},
    {"give_title_back", give_title_back, METH_NOARGS, give_title_back_doc},
    {"refuse_titles", refuse_titles, METH_NOARGS, refuse_titles_doc},
    {NULL, NULL, 0, NULL},
};

int goproc_init_title(PyObject *module) {
    return PyModule_AddFunctions(module, methods);
}
