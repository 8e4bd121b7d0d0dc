"""The standard library's modules, and its private names that goproc uses.

First, the modules of multiprocessing itself, which can be found here even if install() has replaced them by goproc's.
Then, all private names that goproc uses, that is, names that begin with an underscore. No other file uses such a name.
Python may change them at any time; tests/unit/test_private_names.py finds out which names are gone. The functions
import modules only when they are called, because each child imports this module before any other.
"""

import multiprocessing
import sys
from _frozen_importlib_external import PathFinder  # as importlib.machinery has it, without the imports of that module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["import_module", "install_again", "other_name", "standard_module", "submodule_finder"]

#: The submodules of multiprocessing that multiprocessing itself imports when it needs them.
_SUBMODULES = frozenset({"connection", "forkserver", "heap", "managers", "pool", "popen_fork", "popen_forkserver"})
_SUBMODULES |= {"popen_spawn_posix", "process", "queues", "reduction", "resource_sharer", "resource_tracker"}
_SUBMODULES |= {"shared_memory", "sharedctypes", "spawn", "synchronize", "util"}

#: By name: the standard library's modules that goproc's have replaced, or that goproc's use.
replaced: dict = {}

#: Whether install() has been called, in this process or in an ancestor.
installed = False

#: Whether install(futures=True) has been called, likewise.
installed_futures = False

#: Whether multiprocessing's fork server imports `__main__`. Earlier versions look for its path under a wrong name.
PRELOADS_MAIN = sys.version_info >= (3, 13, 8)

#: install.install, for a child whose parent has called it. install.py sets it, because it imports this module.
install_again: "Callable[..., None]"


def import_module(name):
    """Import a module and return it. name: the full name, such as "multiprocessing.pool"."""
    __import__(name)
    return sys.modules[name]


def submodule_finder(package: str):
    """Return a module's __getattr__ for a package, which imports multiprocessing's submodules at the first access.

    A program may use `multiprocessing.connection` without importing it, because a call of multiprocessing has imported
    it. goproc's call may not import it.
    """

    def __getattr__(name):
        if name in _SUBMODULES:
            return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return __getattr__


def other_name(module: str, standard, name: str):
    """Return what multiprocessing's module `standard` has under a name that `module` lacks; module: a full name."""
    if name.startswith("__") or not hasattr(standard, name):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    return getattr(standard, name)


def configured_cpu_count() -> "int | None":
    """Return the number of CPUs that -X cpu_count or PYTHON_CPU_COUNT sets, None if it is not set, or before 3.13."""
    count = getattr(sys, "_get_cpu_count_config", lambda: -1)()
    return count if count > 0 else None


def standard_module(name: str):
    """Return the standard library's own module multiprocessing.<name>, even if goproc's has replaced it.

    Each call returns the same module object. If the program imported the module before install(), it is that object.
    """
    name = "multiprocessing." + name
    module = sys.modules.get(name) if installed else import_module(name)
    if module is None or module.__name__ != name:
        module = replaced.get(name)
    if module is None:
        from importlib.util import module_from_spec

        spec = PathFinder.find_spec(name, multiprocessing.__path__)
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    replaced[name] = module
    return module


#: The private names, by module. After a colon: the first version that has the name; with "<", the first that has not.
NAMES = {
    "atexit": ("_clear", "_ncallbacks", "_run_exitfuncs"),
    "concurrent.futures": ("_base",),
    "concurrent.futures.process": (
        "_ExecutorManagerThread",
        "_RemoteTraceback",
        "_global_shutdown",
        "_process_chunk",
        "_process_worker",
        "_threads_wakeups",
    ),
    "multiprocessing.context": (
        "_concrete_contexts",
        "_default_context",
        "_get_platform_default_context:3.14.10",
        "_default_context._default_context:<3.14",
        "_default_context._actual_context",
    ),
    "multiprocessing.connection": ("_ForkingPickler", "_ConnectionBase._handle"),
    "multiprocessing.managers": ("BaseManager._finalize_manager",),
    "multiprocessing.pool": ("_helper_reraises_exception",),
    "multiprocessing.popen_fork": ("Popen._launch", "Popen._send_signal"),
    "multiprocessing.process": ("BaseProcess._bootstrap", "BaseProcess._Popen", "BaseProcess._after_fork"),
    "multiprocessing.queues": ("_ForkingPickler",),
    "multiprocessing.reduction": ("ForkingPickler._copyreg_dispatch_table", "ForkingPickler._extra_reducers"),
    "multiprocessing.resource_tracker": (
        "_resource_tracker",
        "_resource_tracker._fd",
        "_resource_tracker._lock",
        "_resource_tracker._pid",
        "_resource_tracker._send",
        "_resource_tracker._stop",
    ),
    "multiprocessing.spawn": ("_fixup_main_from_path", "_main"),
    "multiprocessing.util": (
        "_args_from_interpreter_flags",
        "_close_stdin",
        "_exit_function",
        "_flush_std_streams",
        "_log_to_stderr",
        "_logger",
        "_run_finalizers",
    ),
    "pickle": ("_Unpickler",),
    "runpy": ("_run_module_as_main",),
    "subprocess": ("_args_from_interpreter_flags",),
    "threading": ("_profile_hook", "_start_joinable_thread:3.13", "_start_new_thread:<3.13", "_trace_hook"),
}


# ---- util: the streams, the log, finalizers and exit functions


def flush_streams():
    """Flush stdout and stderr: a forked child would write the buffered text a second time."""
    from multiprocessing import util

    util._flush_std_streams()


def close_stdin():
    """Redirect standard input to the null device."""
    from multiprocessing import util

    util._close_stdin()


def logger():
    """Return multiprocessing's logger, None if the program has not asked for one."""
    from multiprocessing import util

    return util._logger


def is_tracing():
    """Return whether the log goes to standard error at level DEBUG, as after log_to_stderr(DEBUG)."""
    util = sys.modules.get("multiprocessing.util")
    if util is None or not util._log_to_stderr or sys.__stderr__ is None:
        return False
    return util._logger.isEnabledFor(10)  # logging.DEBUG


def interpreter_flags():
    """Return the options of this interpreter's command line that its children must have, too."""
    from multiprocessing import util

    return util._args_from_interpreter_flags()


def flags_without_subprocess():
    """Return a stand-in for subprocess._args_from_interpreter_flags, which imports subprocess when it is called."""

    def _args_from_interpreter_flags():
        import subprocess

        return subprocess._args_from_interpreter_flags()

    return _args_from_interpreter_flags


def run_finalizers():
    """Call all finalizers of multiprocessing.util.Finalize objects."""
    from multiprocessing import util

    util._run_finalizers()


def forget_exit_functions():
    """Unregister all exit functions except multiprocessing's own."""
    import atexit
    from multiprocessing import util

    atexit._clear()
    atexit.register(util._exit_function)


def run_exit_functions():
    """Call all exit functions, as the end of the interpreter does."""
    import atexit

    atexit._run_exitfuncs()


def count_exit_functions():
    """Return how many exit functions are registered."""
    import atexit

    return atexit._ncallbacks()


# ---- the resource tracker, and processes


def tracker():
    """Return the resource tracker object. _fd: the write end of its pipe. _pid: None if an ancestor has started it."""
    from multiprocessing import resource_tracker

    return resource_tracker._resource_tracker


def inherit_tracker(fd):
    """Use the resource tracker that reads, or will read, from the pipe fd, which this process has inherited."""
    ours = tracker()
    ours._is_late = True
    ours._fd = fd
    import_module("goproc.resource_tracker")


def tracker_pipe():
    """Return the descriptor of the resource tracker's pipe, for a child to inherit. See goproc.resource_tracker."""
    import_module("goproc.resource_tracker")
    return tracker().pipe()


def is_inheriting(yes):
    """Set whether this process is unpickling the data that its parent has sent."""
    from multiprocessing import process

    if yes:
        process.current_process()._inheriting = True
    else:
        del process.current_process()._inheriting


#: The names of main functions: of spawned children in multiprocessing.spawn, of workers in concurrent.futures.process.
MAIN_OF_SPAWN, WORKER_OF_FUTURES = "_main", "_process_worker"


def fix_main(main_path):
    """Import the program's main module as this process's `__main__`, as multiprocessing.spawn does."""
    from multiprocessing import spawn

    spawn._fixup_main_from_path(main_path)


def module_runner():
    """Return the function that `python -m` calls: it takes a module's name, and runs the module as `__main__`."""
    import runpy

    return runpy._run_module_as_main


# ---- connections and temporary folders


def detach(connection):
    """Return the descriptor of a connection of multiprocessing's, which does not own it any more."""
    fd = connection._handle
    connection._handle = None
    return fd


def place_of_pickler(module):
    """Return where a module keeps the pickler that it uses: its dict, the name, and the pickler.

    module: multiprocessing.queues or connection. The pickler is None if the module is still being imported.
    """
    return vars(module), "_ForkingPickler", vars(module).get("_ForkingPickler")


def context_of(manager):
    """Return the context by which a manager starts its server."""
    return manager._ctx


def replace_end_of_managers(replacement):
    """Replace the function that a manager calls at its end. replacement: given the function, it returns the new one."""
    from multiprocessing import managers

    managers.BaseManager._finalize_manager = staticmethod(replacement(managers.BaseManager._finalize_manager))


def temp_dir():
    """Return the path of this process's folder for temporary files, None if it has none."""
    from multiprocessing import process

    return process.current_process()._config.get("tempdir")


def forget_temp_dir():
    """Have this process make a folder of its own when it needs one, in place of its parent's."""
    from multiprocessing import process

    process.current_process()._config.pop("tempdir", None)


# ---- threads


def has_thread_hooks():
    """Return whether new threads are traced or profiled."""
    import threading

    return threading._trace_hook is not None or threading._profile_hook is not None


def are_threads_real():
    """Return whether new threads are threads of the system, which can wait in C. With gevent they are greenlets."""
    import threading

    start = getattr(threading, "_start_joinable_thread", None) or getattr(threading, "_start_new_thread", None)
    return type(start) is type(len)


# ---- contexts


def default_context():
    """Return multiprocessing's default context. Its _actual_context is None until a start method is set or used."""
    from multiprocessing import context

    return context._default_context


def replace_contexts(default, concrete, kind):
    """Replace multiprocessing's contexts.

    default: the new default context. The old default context object, to which programs may hold references, shares its
    state from now on, and gets the class kind. concrete: the other contexts, by start method.
    """
    from multiprocessing import context

    theirs = context._default_context
    theirs.__class__ = kind
    theirs.__dict__ = default.__dict__
    context._default_context = default
    context._concrete_contexts.update(concrete)


def interpreters_default():
    """Return multiprocessing's start method for a program that sets none; None if finding it out takes long."""
    from multiprocessing import context

    if hasattr(context, "_get_platform_default_context"):
        return None
    return context._default_context._default_context._name


def find_interpreters_default():
    """Return multiprocessing's start method for a program that sets none.

    From Python 3.14.10 on this makes a temporary file to find it out.
    """
    from multiprocessing import context

    return context._get_platform_default_context()._name


# ---- pickles, pools and executors


def reducers_of(pickler):
    """Return a new dict of the reducers that are registered for a ForkingPickler, by class."""
    return pickler._copyreg_dispatch_table | pickler._extra_reducers


def python_unpickler() -> "Any":
    """Return pickle's Unpickler class that is written in Python."""
    import pickle

    return pickle._Unpickler


def executors_manager() -> "Any":
    """Return the class of the thread that receives the results of a ProcessPoolExecutor's workers."""
    from concurrent.futures.process import _ExecutorManagerThread

    return _ExecutorManagerThread


def futures_base() -> "Any":
    """Return the module concurrent.futures._base: the states of futures, TimeoutError, InvalidStateError."""
    from concurrent.futures import _base

    return _base


def remote_traceback(text):
    """Return the exception that concurrent.futures makes the cause of a worker's exception. text: the traceback."""
    from concurrent.futures.process import _RemoteTraceback

    return _RemoteTraceback(text)


def process_chunk():
    """Return the function that runs a chunk of a map in a worker of concurrent.futures."""
    from concurrent.futures.process import _process_chunk

    return _process_chunk


def wait_at_exit(thread, wakeup):
    """Have concurrent.futures, at the end of the program, call wakeup.wakeup(), and then wait for the thread."""
    from concurrent.futures import process

    process._threads_wakeups[thread] = wakeup


def forget_at_exit(thread):
    """Undo wait_at_exit()."""
    from concurrent.futures import process

    process._threads_wakeups.pop(thread, None)


def is_after_exit():
    """Return whether the program is ending, so that executors accept no further calls."""
    return sys.modules["concurrent.futures.process"]._global_shutdown


def reraises(function):
    """Return whether multiprocessing's Pool reports an error in reading an iterable by this function."""
    module = sys.modules.get("multiprocessing.pool")
    return function is getattr(module, "_helper_reraises_exception", None)
