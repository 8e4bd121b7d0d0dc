/* pickling.h - which pickler the program uses: multiprocessing's, or one that it has put in its place.
 *
 * A watch is an object of Python's type _native.PicklerWatch. All functions need the GIL.
 */
#ifndef GOPROC_PICKLING_H
#define GOPROC_PICKLING_H

#include "native.h"

extern PyTypeObject goproc_pickler_watch;

/* Returns the program's own pickler, which has dumps() and loads(); None if there is none. NULL with an exception set. */
PyObject *goproc_own_pickler(PyObject *watch);

/* Pickles an object by the program's own pickler. Returns a list of one bytes object; None if there is no such pickler;
 * NULL with an exception set. */
PyObject *goproc_own_dumps(PyObject *watch, PyObject *sent);

/* Unpickles an object by the program's own pickler, or by pickle.loads if there is none. */
PyObject *goproc_loads(PyObject *watch, PyObject *pickled);

/* Unpickles an object from a stream and a list of buffers by pickle.loads: only goproc's own picklers have buffers. */
PyObject *goproc_loads_parts(PyObject *watch, PyObject *stream, PyObject *buffers);

#endif
