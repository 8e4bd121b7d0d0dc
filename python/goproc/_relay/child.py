"""What a child process does so that its log records, warnings and tracebacks reach the main program. Used by state.py.

The handlers that the child has from its parent, or from importing the main module, are replaced: the main program's
handlers write each record, once. Those that the child sets up later are called as well.
"""

import copy
import logging
import logging.handlers
import queue
import sys
import threading

from .._common import start_methods
from . import records
from .channel import LARGEST, Gone, WriteEnd
from .reader import IN_FILE, RECORD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "begin",
    "get_levels",
    "machine_name",
    "name_functions",
    "name_machine",
    "note",
    "run_noting",
    "set_levels",
    "unname_functions",
]

#: The logger of the tracebacks that would otherwise be printed.
TRACEBACKS = "goproc.tracebacks"

_standard_call_handlers = logging.Logger.callHandlers
_handler: "RelayHandler | None" = None  # in a child that sends its records
_function: object = None  # the function that this process runs for its parent
_machine = ""  # the name of the cluster's machine that this process runs on
_replaced: list = []  # handlers that are not used: if they were collected, files would be written to once more


class RelayHandler(logging.handlers.QueueHandler):
    """Sends records to the main program; if that is gone, to standard error, as without any handler."""

    def __init__(self, writing: WriteEnd) -> None:
        super().__init__(queue.SimpleQueue())  # not used: records are not put, but sent
        self.writing = writing

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Return a copy without what cannot be sent. The traceback stays apart from the message, as text."""
        text = record.exc_text
        if record.exc_info and not text:
            text = _formatter.formatException(record.exc_info)
        stack = record.stack_info
        if text or stack:
            record = copy.copy(record)
            record.exc_info = record.exc_text = record.stack_info = None
        sent = super().prepare(record)
        sent.exc_text, sent.stack_info = text, stack
        if "taskFunction" not in vars(sent):  # the program has set a record factory of its own
            sent.taskFunction, sent.machineName = current_function(), _machine
        return sent

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record; wait for room. After the return the record is safe, even if the process is killed then."""
        try:
            sent = self.prepare(record)
            encoded = records.encode(sent)
            try:
                if len(encoded) <= LARGEST:
                    self.writing.send(RECORD + encoded)
                else:
                    self.writing.send(IN_FILE + records.in_short(sent), encoded)
            except Gone:
                last = logging.lastResort
                if last is not None and record.levelno >= last.level:
                    last.handle(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Close the handler, not the channel: exit functions that run later may log, too."""
        logging.Handler.close(self)


class _Placeholder(logging.NullHandler):
    """In the root logger of a child, so that logging.basicConfig() adds no handler: all is set up already."""


_formatter = logging.Formatter()


def begin(writing: WriteEnd) -> None:
    """Send this process's records from now on. May be called again, to replace handlers that came since."""
    global _handler
    if _handler is None or _handler.writing is not writing:
        _handler = RelayHandler(writing)
    logging.Logger.callHandlers = _call_handlers  # type: ignore[method-assign]
    for logger in (logging.root, *list(logging.root.manager.loggerDict.values())):
        if isinstance(logger, logging.Logger):  # else it stands for one that may be made
            _replaced.extend(logger.handlers)
            logger.handlers = []
    logging.root.addHandler(_Placeholder())
    logging.captureWarnings(True)
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _log_thread
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _log_error
    name_functions()


def _call_handlers(self, record):
    if _handler is not None:
        _handler.handle(record)
    if self.hasHandlers():
        _standard_call_handlers(self, record)


# ---- levels


def get_levels() -> "tuple[int, dict[str, tuple[int, bool]]]":
    """Return the levels of this process's loggers, for set_levels() in another one."""
    root = logging.root
    levels = {"root": (root.level, root.disabled)}
    for name, logger in list(root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and (logger.level or logger.disabled):
            levels[name] = logger.level, logger.disabled
    return root.manager.disable, levels


def set_levels(levels: "tuple[int, dict[str, tuple[int, bool]]]") -> None:
    """Give this process's loggers the levels of another one, so that it sends what that one would log."""
    below, by_name = levels
    logging.disable(below)
    for name, (level, disabled) in by_name.items():
        logger = logging.root if name == "root" else logging.getLogger(name)
        logger.setLevel(level)
        logger.disabled = disabled


# ---- tracebacks


def run_noting(process_obj: "Any") -> None:
    """Let a process object log the exception that its run() raises, instead of printing it."""
    is_worker = start_methods.worker_end(process_obj) is not None
    target = getattr(process_obj, "_target", None)
    internal = (getattr(target, "__module__", None) or "").startswith(("multiprocessing.", "concurrent.futures."))
    note(None if is_worker or internal else target)
    run = process_obj.run

    def run_and_log():
        try:
            run()
        except SystemExit:
            raise
        except BaseException as error:
            traceback = error.__traceback__ and error.__traceback__.tb_next  # without this function
            if not _log(f"Process {process_obj.name}:", (type(error), error, traceback)):
                raise
            raise SystemExit(1) from None

    process_obj.run = run_and_log


def _log(text, exc_info):
    """Log an exception that ends a process or a thread. Return False if the levels let nothing through."""
    logger = logging.getLogger(TRACEBACKS)
    if _handler is None or logger.disabled or not logger.isEnabledFor(logging.ERROR):
        return False
    logger.error(text, exc_info=exc_info)
    return True


def _log_thread(args):
    if args.exc_type is SystemExit:
        return
    name = "?" if args.thread is None else args.thread.name
    if not _log(f"Exception in thread {name}:", (args.exc_type, args.exc_value, args.exc_traceback)):
        threading.__excepthook__(args)


def _log_error(exc_type, exc_value, exc_traceback):
    if not _log("Exception:", (exc_type, exc_value, exc_traceback)):
        sys.__excepthook__(exc_type, exc_value, exc_traceback)


# ---- the name of the function that runs


def note(function: object) -> None:
    """Note which function this process runs for its parent; None for none. Called by a worker for each task."""
    global _function
    _function = function


def current_function() -> str:
    """Return the name of the function that was noted, "" for none."""
    function = _function
    return "" if function is None else records.function_name(function)


def name_machine(name: str) -> None:
    """Note the name of the cluster's machine that this process runs on; "" for none."""
    global _machine
    _machine = name


def machine_name() -> str:
    """Return the name that was noted by name_machine()."""
    return _machine


class _Factory:
    """A factory of log records that adds taskFunction and machineName to what the program's own factory makes."""

    def __init__(self, made_by):
        self.made_by = made_by

    def __call__(self, *arguments, **options):
        record = self.made_by(*arguments, **options)
        record.taskFunction, record.machineName = current_function(), _machine
        return record


def name_functions() -> None:
    """Give all records of this process the attributes taskFunction and machineName, so that formats may have them."""
    present = logging.getLogRecordFactory()
    if not isinstance(present, _Factory):
        logging.setLogRecordFactory(_Factory(present))


def unname_functions() -> None:
    """Undo name_functions(), unless the program has set another factory since."""
    present = logging.getLogRecordFactory()
    if isinstance(present, _Factory):
        logging.setLogRecordFactory(present.made_by)
