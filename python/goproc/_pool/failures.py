"""How an exception travels from a worker to the main program, which raises it again.

packed() turns the exception into a tuple, in the worker. unpacked() turns the tuple into an exception again. It is the
exception that was raised; or, if that cannot be pickled or unpickled, a MaybeEncodingError that describes it.

An exception from one of the program's functions becomes a task's result. An exception from one of its signal handlers,
such as Ctrl-C, is raised in the thread that waits. interrupts() distinguishes them.

A spawned worker imports this module, so it imports little.
"""

from .._common import picklers
from .._common.own_pickler import CONNECTIONS, ORIGINAL, QUEUES, dumped

__all__ = [
    "add_note",
    "cannot_be_sent",
    "import_ahead",
    "interrupts",
    "packed",
    "raised_by_handler",
    "undecodable",
    "unpacked",
]

#: The note that is added to an error when a worker does not find a function.
NOT_FOUND = (
    "goproc: a function travels to a worker by its name. A process that is started by spawn or forkserver imports the "
    "program's main module again, and finds only what the module defines at its top level. A function that is defined "
    'at a prompt, in a notebook\'s cell, or below `if __name__ == "__main__":` is not there: move it into a module, or '
    "use fork."
)


#: Whether this process is a worker whose exceptions are pickled by value if they cannot be pickled by name.
by_value = False


class Text(str):
    """A str whose repr is the str itself, without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def add_note(error: BaseException, text: str) -> None:
    """Add a note to an exception, which is printed below its traceback. Python 3.10 has no notes: then do nothing."""
    if hasattr(error, "add_note"):
        try:
            error.add_note(text)
        except Exception:
            pass  # its class refuses the note


def import_ahead():
    """Import what exceptions need later: the program's initializer may shut a worker off from files, or change root."""
    for name in ("multiprocessing.pool", "functools", "pickle", "signal", "threading", "traceback"):
        __import__(name)
    try:
        raise RuntimeError
    except RuntimeError as error:
        packed(error, True)  # printing a traceback imports more, from Python 3.13 on


def packed(error, wrap, offset=None, unread=False):
    """Return the tuple to send for an exception, which unpacked() turns into an exception again:

    offset      the offset of the item in its chunk that raised the exception, None if that is not known
    unread      whether the task itself could not be unpickled
    shown       the repr of the exception, in case it cannot be unpickled
    traceback   its traceback as a text, which is its __cause__ in the main program; None if wrap is false
    pickled     the pickled exception, None if it cannot be pickled
    reason      the repr of the error in pickling it, or None
    """
    text = pickled = reason = None
    if wrap:
        try:
            from multiprocessing.pool import ExceptionWithTraceback

            text = ExceptionWithTraceback(error, error.__traceback__).tb
        except BaseException:
            pass  # it cannot be formatted, as its __str__ raises; or the task has shut this process off from files
    error.__traceback__ = None
    if unread and isinstance(error, AttributeError):
        add_note(error, NOT_FOUND)
        if not by_value:
            picklers.explain(error)
    try:
        own = QUEUES.own()
        pickled = bytes(ORIGINAL.dumps(error, 5)) if own is None else dumped(own, error)
    except BaseException as why:
        reason = _shown(why)
        if by_value:
            pickled = _by_value(error)
    return offset, unread, _shown(error), text, pickled, reason


def unpacked(failure):
    """Return the exception for packed()'s tuple: the exception that was raised, or one that describes it."""
    from multiprocessing.pool import MaybeEncodingError, RemoteTraceback

    _, _, shown, text, pickled, reason = failure
    try:
        error = MaybeEncodingError(Text(reason), Text(shown)) if pickled is None else CONNECTIONS.loads(pickled)
        if not issubclass(type(error), BaseException):
            error = TypeError(f"a task failed with {_shown_here(error)}, which is not an exception")
    except BaseException as why:
        if _is_interrupt(why):
            raise
        error = MaybeEncodingError(Text(_shown_here(why)), Text(shown))
    if text is not None:
        error.__cause__ = RemoteTraceback(text)
    return error


def _by_value(error):
    """Pickle an exception by value. Return None if it cannot be pickled so either."""
    from .._common.by_value import dumps

    try:
        return dumps(error)
    except BaseException:
        return None


def cannot_be_sent(error, value):
    """Return the exception to send for a value that could not be pickled because of error."""
    from multiprocessing.pool import MaybeEncodingError

    try:
        encoding_error = MaybeEncodingError(error, value)
    except BaseException:  # the repr of error or value raises
        encoding_error = MaybeEncodingError(type(error).__name__, f"<{type(value).__qualname__} object>")
    if not by_value and picklers.is_about_names(error):
        if hasattr(encoding_error, "add_note"):
            picklers.advise(encoding_error)
        else:
            encoding_error.exc += "\n" + picklers.ADVICE  # its text ends with it
    return encoding_error


def undecodable(error, payload):
    """Return the exception for a payload whose unpickling raised error. An exception as payload is returned itself."""
    from multiprocessing.pool import MaybeEncodingError

    if isinstance(payload, BaseException):
        return payload
    size = len(payload[0]) if type(payload) is tuple else len(payload)
    try:
        wrapped = MaybeEncodingError(error, f"a pickle of {size} bytes")
    except BaseException as reason:  # the repr of error raises
        if _is_interrupt(reason):
            raise
        wrapped = MaybeEncodingError(type(error).__name__, f"a pickle of {size} bytes")
    wrapped.__cause__ = error
    return wrapped


def _shown(value):
    """Return repr(value), or a text in its place if that raises. For a worker, where any exception is the task's."""
    try:
        return repr(value)
    except BaseException:
        return f"<{type(value).__qualname__} object>"


def _shown_here(value):
    """Do what _shown() does, in the main program: an exception of a signal handler is raised."""
    try:
        return repr(value)
    except BaseException as error:
        if _is_interrupt(error):
            raise
        return f"<{type(value).__qualname__} object>"


def _is_interrupt(error):
    """Whether an exception in the main program is Ctrl-C, or comes from a signal handler."""
    return raised_by_handler(error) or isinstance(error, KeyboardInterrupt)


def interrupts(error):
    """Whether an exception that passed through the program's code is an interrupt, and not an error of that code.

    Interrupts are KeyboardInterrupt and the like, and any exception that a signal handler has raised.
    """
    return not isinstance(error, Exception) or raised_by_handler(error)


def raised_by_handler(error):
    """Whether a signal handler written in Python has raised the exception, and not the code that was interrupted."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        return False
    codes = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in codes:
            return True
        traceback = traceback.tb_next
    return False


def _code_of(handler):
    """Return the code object of a signal handler, None if it has none."""
    import functools

    while isinstance(handler, functools.partial):
        handler = handler.func
    if not callable(handler):
        return None  # SIG_DFL is a member of an Enum, whose class can be called
    if not hasattr(handler, "__code__") and not hasattr(handler, "__func__"):
        handler = type(handler).__call__
    return getattr(getattr(handler, "__func__", handler), "__code__", None)
