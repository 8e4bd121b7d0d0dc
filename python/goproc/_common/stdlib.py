"""What goproc has to know of the standard library's inside.

First, the modules of multiprocessing itself, also where install() has put goproc's in their place. Then, all names that
goproc uses and that begin with an underscore: no other file touches such a name. Python may change them at any time:
tests/unit/test_private_names.py says which is gone. The functions import what they need when they are called, for a
child imports this module first of all.
"""

import multiprocessing
import sys
from _frozen_importlib_external import PathFinder  # importlib.machinery's, without what that imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["import_module", "install_again", "is_installed", "standard_module", "submodule_finder"]

#: The modules of multiprocessing that it imports itself when they are needed.
_SUBMODULES = frozenset({"connection", "forkserver", "heap", "managers", "pool", "popen_fork", "popen_forkserver"})
_SUBMODULES |= {"popen_spawn_posix", "process", "queues", "reduction", "resource_sharer", "resource_tracker"}
_SUBMODULES |= {"shared_memory", "sharedctypes", "spawn", "synchronize", "util"}

#: Those that have been replaced, or are used by the replacement.
replaced: dict = {}

#: Whether install() has been called, here or in an ancestor that handed it on.
installed = False

#: install(), for a child whose parent has called it. It changes what the modules are that this one finds.
install_again: "Callable[[], None]"


def import_module(name):
    """Import a module, and return it, also if it is in a package."""
    __import__(name)
    return sys.modules[name]


def submodule_finder(package: str):
    """Return the __getattr__ of a package for which multiprocessing's submodules are imported when they are asked for.

    Programs use `multiprocessing.connection`, say, without importing it, after a call that has always imported it.
    goproc does without some of these imports.
    """

    def __getattr__(name):
        if name in _SUBMODULES:
            return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return __getattr__


def is_installed() -> bool:
    """Return whether install() has been called, here or in an ancestor that handed it on."""
    return installed


def standard_module(name: str):
    """Return the standard library's own module multiprocessing.<name>, also where goproc's has taken its place.

    It is the same one each time, and the one that the program has imported before install(), if it has.
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


#: The names, by module. After a colon: from which version on, or before which one, there is such a name.
NAMES = {
    "atexit": ("_clear", "_ncallbacks", "_run_exitfuncs"),
    "concurrent.futures.process": ("_ExecutorManagerThread",),
    "multiprocessing.context": (
        "_concrete_contexts",
        "_default_context",
        "_get_platform_default_context:3.14.10",
        "_default_context._default_context:<3.14",
        "_default_context._actual_context",
    ),
    "multiprocessing.pool": ("_helper_reraises_exception",),
    "multiprocessing.popen_fork": ("Popen._launch", "Popen._send_signal"),
    "multiprocessing.process": ("BaseProcess._bootstrap", "BaseProcess._Popen", "BaseProcess._after_fork"),
    "multiprocessing.reduction": ("ForkingPickler._copyreg_dispatch_table", "ForkingPickler._extra_reducers"),
    "multiprocessing.resource_tracker": ("_resource_tracker", "_resource_tracker._fd", "_resource_tracker._pid"),
    "multiprocessing.spawn": ("_fixup_main_from_path",),
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


# ---- util: the streams, the log, and what is done at the end


def flush_streams():
    """Write out what is buffered in stdout and stderr, which a child must not write as well."""
    from multiprocessing import util

    util._flush_std_streams()


def close_stdin():
    """Have standard input read from the null device."""
    from multiprocessing import util

    util._close_stdin()


def logger():
    """Return multiprocessing's logger, None if the program has not asked for one."""
    from multiprocessing import util

    return util._logger


def is_tracing():
    """Whether all that is logged goes to standard error, as after log_to_stderr(DEBUG)."""
    util = sys.modules.get("multiprocessing.util")
    if util is None or not util._log_to_stderr or sys.__stderr__ is None:
        return False
    return util._logger.isEnabledFor(10)  # logging.DEBUG


def interpreter_flags():
    """Return the options of this interpreter's command line that children must have, too."""
    from multiprocessing import util

    return util._args_from_interpreter_flags()


def flags_without_subprocess():
    """Return a function like subprocess's of that name, which imports subprocess when it is called."""

    def _args_from_interpreter_flags():
        import subprocess

        return subprocess._args_from_interpreter_flags()

    return _args_from_interpreter_flags


def run_finalizers():
    """Call the finalizers of multiprocessing.util.Finalize objects."""
    from multiprocessing import util

    util._run_finalizers()


def forget_exit_functions():
    """Forget all exit functions but multiprocessing's own."""
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
    """Return the resource tracker. _fd is this process's end of its pipe, _pid None if it is an ancestor's."""
    from multiprocessing import resource_tracker

    return resource_tracker._resource_tracker


def is_inheriting(yes):
    """Say whether this process is unpickling what its parent has sent it."""
    from multiprocessing import process

    if yes:
        process.current_process()._inheriting = True
    else:
        del process.current_process()._inheriting


def fix_main(main_path):
    """Make the program's main module this process's, as multiprocessing.spawn does."""
    from multiprocessing import spawn

    spawn._fixup_main_from_path(main_path)


def module_runner():
    """Return what `python -m` itself calls: it runs a module, given its name, in the present `__main__`."""
    import runpy

    return runpy._run_module_as_main


# ---- threads


def has_thread_hooks():
    """Whether threads are to be traced or profiled."""
    import threading

    return threading._trace_hook is not None or threading._profile_hook is not None


def are_threads_real():
    """Whether a thread can wait in C while others run. gevent makes all later threads greenlets, which cannot."""
    import threading

    start = getattr(threading, "_start_joinable_thread", None) or getattr(threading, "_start_new_thread", None)
    return type(start) is type(len)


# ---- contexts


def default_context():
    """Return multiprocessing's default context; its _actual_context is None while no start method is settled."""
    from multiprocessing import context

    return context._default_context


def replace_contexts(default, concrete, kind):
    """Put contexts in the place of multiprocessing's.

    default: the default one. What others hold as multiprocessing's shares its state from now on, and is one of kind.
    concrete: the others, by start method.
    """
    from multiprocessing import context

    theirs = context._default_context
    theirs.__class__ = kind
    theirs.__dict__ = default.__dict__
    context._default_context = default
    context._concrete_contexts.update(concrete)


def interpreters_default():
    """Return the start method of a program that sets none, with multiprocessing; None if finding out takes long."""
    from multiprocessing import context

    if hasattr(context, "_get_platform_default_context"):
        return None
    return context._default_context._default_context._name


def find_interpreters_default():
    """Return the same, whatever it takes: from Python 3.14.10 on it makes a temporary file to find out."""
    from multiprocessing import context

    return context._get_platform_default_context()._name


# ---- pickles, pools and executors


def reducers_of(pickler):
    """Return the registered reducers for a ForkingPickler, by class: a new dict."""
    return pickler._copyreg_dispatch_table | pickler._extra_reducers


def python_unpickler() -> "Any":
    """Return the class Unpickler that is written in Python."""
    import pickle

    return pickle._Unpickler


def executors_manager() -> "Any":
    """Return the class of the thread that takes the results of a ProcessPoolExecutor's workers."""
    from concurrent.futures.process import _ExecutorManagerThread

    return _ExecutorManagerThread


def reraises(function):
    """Whether it is what multiprocessing's Pool has called to raise what reading an iterable has raised."""
    module = sys.modules.get("multiprocessing.pool")
    return function is getattr(module, "_helper_reraises_exception", None)
