"""The stacks of another process's Python threads, read from the structures of its interpreter.

The process runs on meanwhile. The stack of a thread that waits is exact. The stack of a running thread may change while
it is read; then it is read again. If it changes each time, the longest stack that was read is taken, up to the first
frame that is nonsense.
"""

from .record import Unreadable

__all__ = ["Frame", "Thread", "read_threads"]

_MOST_THREADS, _MOST_FRAMES = 1000, 5000

_TRIES = 20


class Frame:
    """A call. filename, line, name: as in a traceback; name is the qualified name from Python 3.11 on."""

    def __init__(self, process, address, code):
        self._process, self._address, self._code = process, address, code
        self.filename, self.name, self.line = code.filename, code.name, code.line(process, address)

    def local(self, name):
        """Return the address of the object that a local variable has, 0 for none."""
        layout = self._process.layout
        index = self._process.strings(self._process.number(self._code.address + layout.code_names)).index(name)
        # From Python 3.14 on the lowest bits are a tag.
        return self._process.number(self._address + layout.frame_locals + 8 * index) & ~3


class Thread:
    """A Python thread.

    id: the kernel's id. frames: the innermost first. has_gil: whether it holds the GIL.
    """

    def __init__(self, id, frames, has_gil):
        self.id, self.frames, self.has_gil = id, frames, has_gil


class _Code:
    """A code object."""

    def __init__(self, process, address):
        layout = process.layout
        self.address = address
        self.filename = process.string(process.number(address + layout.code_filename))
        self.name = process.string(process.number(address + layout.code_name))
        self._first_line = process.number(address + layout.code_first_line, "i")
        self._table = process.bytes(process.number(address + layout.code_lines))

    def line(self, process, frame):
        """Return the number of the line that a frame of this code is at."""
        layout = process.layout
        if layout.code_code < 0:  # Python 3.10
            at = 2 * process.number(frame + layout.frame_instruction, "i")
            return _line_by_pairs(self._table, self._first_line, at)
        at = process.number(frame + layout.frame_instruction) - self.address - layout.code_code
        return _line_by_entries(self._table, self._first_line, at)


def _line_by_pairs(table, line, at):
    """Look a line up in the table of Python 3.10: PEP 626."""
    if at < 0:
        return line
    end = 0
    for i in range(0, len(table) - 1, 2):
        end += table[i]
        if table[i + 1] != 128:
            line += table[i + 1] - (256 if table[i + 1] > 128 else 0)
        if at < end:
            break
    return line


def _line_by_entries(table, line, at):
    """Look a line up in the table of Python 3.11 and later: Objects/locations.md of CPython."""
    if at < 0:
        return line
    end = i = 0
    while i < len(table):
        kind = table[i] >> 3 & 15
        end += 2 * ((table[i] & 7) + 1)
        if kind in (13, 14):
            line += _signed(table, i + 1)
        elif 10 <= kind <= 12:
            line += kind - 10
        if at < end:
            break
        i += 1
        while i < len(table) and not table[i] & 0x80:
            i += 1
    return line


def _signed(table, i):
    value = shift = 0
    while i < len(table):
        value |= (table[i] & 63) << shift
        shift += 6
        if not table[i] & 64:
            break
        i += 1
    return -(value >> 1) if value & 1 else value >> 1


def read_threads(process):
    """Return the Python threads of a record.Process, the oldest first. Raises Unreadable."""
    layout = process.layout
    codes: dict[int, _Code] = {}
    threads: list[Thread] = []
    holder = process.number(process.gil_holder) if process.number(process.gil_locked, "i") == 1 else 0
    at = process.number(process.threads)
    while at and len(threads) < _MOST_THREADS:
        threads.append(Thread(_kernel_id(process, at), _stack(process, at, codes), at == holder))
        at = process.number(at + layout.thread_next)
    return threads[::-1]


def _kernel_id(process, thread):
    layout = process.layout
    if layout.thread_native_id >= 0:
        return process.number(thread + layout.thread_native_id)
    if layout.id_in_thread < 0:
        return process.pid  # Python 3.10 with a C library that does not tell: all threads look like the main one
    return process.number(process.number(thread + layout.thread_id) + layout.id_in_thread, "I")


def _stack(process, thread, codes):
    """Return the frames of a thread."""
    longest: list[Frame] = []
    for _ in range(_TRIES):
        frames, is_whole = _frames(process, thread, codes)
        if is_whole:
            return frames
        longest = max(longest, frames, key=len)  # the outermost calls, which say what the process is, are not lost
    return longest


def _frames(process, thread, codes):
    """Return the frames, and whether the stack was the same before and afterwards."""
    layout = process.layout
    frames: list[Frame] = []
    try:
        at = first = _innermost(process, thread)
        for _ in range(2 * _MOST_FRAMES):  # half of them may be the interpreter's own
            if not at or len(frames) == _MOST_FRAMES:
                break
            code = process.number(at + layout.frame_code) & ~3
            if _is_of_python(process, at, code):
                if code not in codes:
                    codes[code] = _Code(process, code)
                frames.append(Frame(process, at, codes[code]))
            at = process.number(at + layout.frame_previous)
        return frames, _innermost(process, thread) == first
    except Unreadable:
        return frames, False


def _innermost(process, thread):
    layout = process.layout
    at = process.number(thread + layout.thread_frame)
    return process.number(at + layout.frame_in) if layout.frame_in >= 0 and at else at


def _is_of_python(process, frame, code):
    """Whether a frame is of Python code, and not one that the interpreter itself needs."""
    layout = process.layout
    if not code or process.number(code + layout.object_type) != process.types[0]:
        return False
    return layout.owned_by_c < 0 or process.number(frame + layout.frame_owner, "B") != layout.owned_by_c
