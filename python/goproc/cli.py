"""The command python -m goproc: runs an unchanged program with `import multiprocessing` meaning goproc.

    python -m goproc [--start-method METHOD] [--futures] [--stats] [--cluster ADDRESS] SCRIPT [ARGS...]
    python -m goproc [...] -m MODULE [ARGS...]
    python -m goproc [...] -c CODE [ARGS...]
    python -m goproc [...] - [ARGS...]          the program is read from standard input
    python -m goproc dump PID                   no program is run: _dump/ prints what a running one waits for
    python -m goproc cluster [ADDRESS]          no program is run: _cluster_program/ prints the machines of a cluster

The program finds the same as under plain python: sys.argv, sys.path[0], and a module `__main__` with the same
attributes, from which spawned children learn what to import. Tracebacks show the program's own frames only.
"""

import builtins
import io
import os
import pkgutil
import sys
import types
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader

from . import context
from ._common import clusters, counters
from ._common.stdlib import module_runner
from .install import install

__all__ = ["main"]

_USAGE = """usage: {name} [--start-method METHOD] [--futures] [--stats] [--cluster ADDRESS] [--ship WHAT]
           (SCRIPT | -m MODULE | -c CODE | -) [ARGS...]
       {name} dump PID
       {name} cluster [ADDRESS]"""

_HELP = """{usage}

Run a Python program with `import multiprocessing` meaning goproc, in it and in all its children.

  SCRIPT                  a file, a folder or zip archive with a __main__.py, or - for standard input
  -m MODULE               a module, as python -m runs it
  -c CODE                 code in one argument
  --start-method METHOD   the default start method: fork, spawn or forkserver
  --futures               concurrent.futures.ProcessPoolExecutor is goproc's, too
  --stats                 print the engine's counters to stderr at the end
  --cluster ADDRESS       pools and executors use the machines of a cluster of Dask: tcp://HOST:PORT, the path of a
                          scheduler file, or local:2x4, which is 2 machines of 4 cores on this one
  --ship WHAT             copy a package, a module or a folder to the machines; may be given several times
  cluster [ADDRESS]       print the machines of a cluster (cluster --help)
  dump PID                print what the processes of a running program wait for (dump --help)
  --version               print the version
  -h, --help              print this help

Environment: GOPROC_START_METHOD, GOPROC_STATS=1, GOPROC_CLUSTER and GOPROC_SHIP have the same effect as the options.
GOPROC_PYTHON is the command line of the interpreter for spawned processes and the fork server.
GOPROC_PICKLER=cloudpickle lets lambdas, closures and functions of notebooks travel to other processes."""


def main(argv: "list[str] | None" = None) -> None:
    """Run the command. The interpreter ends as the program ends.

    argv: the command's arguments, without its name; None for sys.argv[1:]. Raises the program's exception. Raises
    SystemExit with status 2 when the command line is wrong, or the script cannot be opened.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["dump"]:  # a script of that name is run by ./dump
        _dump(arguments[1:])
    if arguments[:1] == ["cluster"]:
        _cluster(arguments[1:])
    options, program = _parse(arguments)
    if options["stats"]:
        counters.print_at_exit()
    if options["start_method"] is not None:
        context.set_default_start_method(options["start_method"])
    _find_first_path()
    clusters.put_into_environment(options["cluster"], options["ship"])
    install(futures=options["futures"])
    _run_as_main(*program)


def _dump(arguments):
    """Run the command `dump`, and exit."""
    from ._dump import command

    status = command.main(arguments, _command_name())
    sys.stderr.flush()
    os._exit(status)  # a thread may still wait for the memory of a process


def _cluster(arguments):
    """Run the command `cluster`, and exit."""
    from ._cluster_program import command

    sys.exit(command.main(arguments, _command_name()))


def _parse(arguments):
    """Split the command line; return (options, (run, program)). run(module, program) runs the program."""
    ship: list[str] = []
    options = {"start_method": None, "stats": False, "futures": False, "cluster": None, "ship": ship}
    while arguments:
        argument = arguments.pop(0)
        if argument in ("-h", "--help"):
            print(_HELP.format(usage=_usage()))
            sys.exit(0)
        elif argument == "--version":
            from . import __version__

            print(f"goproc {__version__}")
            sys.exit(0)
        elif argument == "--stats":
            options["stats"] = True
        elif argument == "--futures":
            options["futures"] = True
        elif argument == "--start-method" or argument.startswith("--start-method="):
            method = argument.partition("=")[2] or _value_of(argument, arguments)
            if method not in context._concrete_contexts:
                _refuse(f"--start-method {method}: it must be one of {', '.join(context._concrete_contexts)}")
            options["start_method"] = method
        elif argument == "--cluster" or argument.startswith("--cluster="):
            options["cluster"] = argument.partition("=")[2] or _value_of(argument, arguments)
        elif argument == "--ship" or argument.startswith("--ship="):
            ship.append(argument.partition("=")[2] or _value_of(argument, arguments))
        elif argument == "-m" or argument == "-c":
            value = _value_of(argument, arguments)
            sys.argv = [argument, *arguments]
            return options, (_run_module if argument == "-m" else _run_code, value)
        elif argument == "-" or not argument.startswith("-"):
            sys.argv = [argument, *arguments]
            return options, (_run_stdin if argument == "-" else _run_script, argument)
        elif len(argument) > 2 and argument[1] in "mc":  # -cCODE and -mMODULE, which python accepts, too
            sys.argv = [argument[:2], *arguments]
            return options, (_run_module if argument[1] == "m" else _run_code, argument[2:])
        else:
            _refuse(f"unknown option {argument}")
    _refuse("no program to run")


def _value_of(option, arguments):
    if not arguments:
        _refuse(f"{option} needs a value")
    return arguments.pop(0)


def _usage():
    return _USAGE.format(name=_command_name())


def _command_name():
    command = os.path.basename(sys.argv[0]) if sys.argv else ""
    return "goproc" if command == "goproc" else "python -m goproc"


def _refuse(message):
    print(f"{_usage()}\ngoproc: error: {message}", file=sys.stderr)
    sys.exit(2)


def _run_as_main(run, program):
    """Call run(module, program) with a new module as `__main__`."""
    module = types.ModuleType("__main__")
    if sys.version_info < (3, 14):
        module.__annotations__ = {}
    module.__dict__.update(__builtins__=builtins, __loader__=BuiltinImporter)
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    try:
        run(module, program)
    except SystemExit:
        raise
    except BaseException as error:
        _hide_own_frames(error)
        raise


def _hide_own_frames(error):
    """Let the interpreter print error without the frames of this module, as if it had run the program itself."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals is globals():
        traceback = traceback.tb_next
    program_hook = sys.excepthook

    def excepthook(kind, value, _):
        sys.excepthook = program_hook
        value.__traceback__ = sys.last_traceback = traceback
        program_hook(kind, value, traceback)

    # While the exception propagates, these frames are added to its traceback again. Only the hook can remove them.
    sys.excepthook = excepthook


#: Whether python has added a folder at the front of sys.path. For python -m goproc this is the current folder, if it
#: exists; for the console command, the folder of the command.
_has_first_path = True


def _find_first_path():
    global _has_first_path
    if getattr(sys.flags, "safe_path", False) or sys.flags.isolated:
        _has_first_path = False
    elif getattr(sys.modules["__main__"], "__spec__", None) is not None:
        _has_first_path = _current_folder() is not None


def _current_folder():
    """Return the current folder, None if it has been deleted or cannot be accessed."""
    try:
        return os.getcwd()
    except OSError:
        return None


def _set_first_path(entry):
    """Put entry at the front of sys.path, where python puts a program's own folder."""
    if getattr(sys.flags, "safe_path", False) or sys.flags.isolated:
        return
    if _has_first_path and sys.path:
        sys.path[0] = entry
    else:
        sys.path.insert(0, entry)


def _without_folder():
    """Remove the folder that python has added at the front of sys.path: for this program python would add none."""
    if _has_first_path and sys.path:
        del sys.path[0]


def _absolute(path):
    """Return the path as python has it in `__file__`: behind the current folder, otherwise unchanged."""
    folder = _current_folder()
    return path if folder is None else os.path.join(folder, path)


def _folder_of(path):
    """Return the folder of a program, as python puts it into sys.path. path may be a pipe, such as /dev/fd/63."""
    try:
        return os.path.dirname(os.path.realpath(path, strict=True))
    except OSError:
        pass
    try:
        link = os.readlink(path)
    except OSError:
        link = path
    return os.path.dirname(link if os.path.isabs(link) else path)


def _run_script(module, path):
    full_path = _absolute(path)
    if pkgutil.get_importer(full_path) is not None:  # a folder, or an archive
        if _has_first_path:
            sys.path[0:1] = [full_path]
        else:
            sys.path.insert(0, full_path)
        module_runner()("__main__", alter_argv=False)
        return
    try:
        with io.open_code(full_path) as file:
            source = file.read()  # once: it may be a pipe
        compiled = pkgutil.read_code(io.BytesIO(source))
    except OSError as error:
        print(
            f"{sys.executable}: can't open file {full_path!r}: [Errno {error.errno}] {error.strerror}", file=sys.stderr
        )
        sys.exit(2)
    _set_first_path(_folder_of(full_path))
    loader = SourceFileLoader if compiled is None else SourcelessFileLoader
    module.__dict__.update(__file__=full_path, __loader__=loader("__main__", full_path))
    if sys.version_info < (3, 15):
        module.__dict__["__cached__"] = None
    if compiled is None:
        compiled = compile(source, full_path, "exec", dont_inherit=True)
    exec(compiled, module.__dict__)


def _run_module(module, name):
    folder = _current_folder()
    if folder is not None:
        _set_first_path(folder)
    else:
        _without_folder()
    module_runner()(name)


def _run_code(module, code):
    _set_first_path("")
    exec(compile(code, "<string>", "exec", dont_inherit=True), module.__dict__)


def _run_stdin(module, _):
    _set_first_path("")
    module.__file__ = "<stdin>"
    if sys.version_info < (3, 15):
        module.__dict__["__cached__"] = None
    exec(compile(sys.stdin.buffer.read(), "<stdin>", "exec", dont_inherit=True), module.__dict__)
