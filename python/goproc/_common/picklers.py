"""Which pickler a pool, an executor or a process uses, and the advice in errors that another one would prevent.

    "pickle"         functions and classes travel by their names, as with multiprocessing
    "cloudpickle"    those that the other process would not find by their names travel by value (by_value.py)

The first of these that is given decides: the argument pickler=, the context, GOPROC_PICKLER. The default is "pickle".
docs/design/pickler.md says more. A spawned worker imports this module, so it imports little.
"""

import os

__all__ = ["ADVICE", "advise", "checked", "chosen", "dump_process", "explain", "for_context", "is_about_names"]

_NAMES = ("pickle", "cloudpickle")
_VARIABLE = "GOPROC_PICKLER"

#: The line at the end of an error that another pickler would prevent.
ADVICE = (
    'goproc: cloudpickle can send it: pip install "goproc[cloudpickle]", then give pickler="cloudpickle" to Pool, '
    "ProcessPoolExecutor or get_context, or set GOPROC_PICKLER=cloudpickle."
)

#: How the texts of pickle's errors begin if it cannot find a function or a class by its name: the last two from Python
#: 3.14 on.
_OF_NAMES = ("Can't pickle ", "Can't get attribute ", "Can't get local ", "Can't resolve path ", "module '")


def checked(name, source="pickler"):
    """Return the name of a pickler, None for None. source: where the name comes from, for errors.

    Raises ValueError for an unknown name, ImportError if cloudpickle is asked for and cannot be imported.
    """
    if name is None:
        return None
    if name not in _NAMES:
        raise ValueError(f"{source} must be one of {', '.join(map(repr, _NAMES))}, not {name!r}")
    if name == "cloudpickle":
        try:
            import cloudpickle  # noqa: F401
        except ImportError as error:
            raise ImportError(
                f"{source}={name!r} needs the package cloudpickle ({error}): "
                'install it by pip install "goproc[cloudpickle]"',
                name="cloudpickle",
            ) from error
    return name


def for_context(name, context):
    """Return the pickler that a program has asked for by an argument, or by its context; None if it has not."""
    name = checked(name)
    return name if name is not None else getattr(context, "_pickler", None)


def chosen(name):
    """Return "pickle" or "cloudpickle". name: the one that the program has asked for, None for the environment's."""
    if name is None:
        value = os.environ.get(_VARIABLE)
        name = checked(value, _VARIABLE) if value else "pickle"
    return name


def dump_process(process_obj, reduction, file):
    """Pickle a process object into a file, by the pickler of its context or pool.

    reduction: the program's module of that name, whose own dump() is used for "pickle".
    """
    if chosen(getattr(process_obj, "_goproc_pickler", None)) == "cloudpickle":
        from . import by_value

        by_value.dump(process_obj, file)
        return
    try:
        reduction.dump(process_obj, file)
    except Exception as error:
        explain(error)
        raise


def explain(error):
    """Add the advice to an error of pickle, if it is about a function or a class that cannot be found by its name."""
    if is_about_names(error) and os.environ.get(_VARIABLE) != "cloudpickle":
        advise(error)


def is_about_names(error):
    """Whether an error of pickle is about a function or a class that cannot be found by its name."""
    from pickle import PicklingError

    try:
        text = str(error)
        is_of_module = not text.startswith("module '") or " has no attribute '" in text
        return isinstance(error, (AttributeError, PicklingError)) and text.startswith(_OF_NAMES) and is_of_module
    except Exception:
        return False  # its __str__ raises


def advise(error):
    """Add the advice to an exception, once: as a note. In Python 3.10, which has no notes, at the end of its text."""
    if hasattr(error, "add_note"):
        if ADVICE not in getattr(error, "__notes__", ()):
            error.add_note(ADVICE)
    elif len(error.args) == 1 and type(error.args[0]) is str and not error.args[0].endswith(ADVICE):
        error.args = (f"{error.args[0]}\n{ADVICE}",)
