"""Reads another process: its memory, its mappings, and the record in its _native (capi/native/dump/record.h).

All that is read may change meanwhile, or be overwritten. So each address and length may be nonsense: Unreadable is
raised then, or the text is cut.
"""

import os
import struct
from types import SimpleNamespace

from .. import _native

__all__ = ["NotGoproc", "OtherVersion", "Process", "Unreadable", "Wait", "printable"]

_MAGIC = b"goproc\x01\x02record\n"
_VERSION = 1
_RECORD = struct.Struct("@16s4I3Q4QQ2I48s")
_NOTES = struct.Struct("@2Q")
_MOST_LAYOUT = 96
_WAIT = struct.Struct("@2I4QI40s4x")
_CLAIMED = 0xFFFFFFFF
_LONGEST_TEXT = 4096


class Unreadable(Exception):
    """An address of the other process that cannot be read, or that holds nonsense."""


class NotGoproc(Exception):
    """The process has not loaded goproc."""


class OtherVersion(Exception):
    """The process runs another version of goproc."""


class Wait:
    """What a thread waits for, as it has noted it (capi/native/dump/waits.h).

    place: the number of the note. thread: the thread's id. since, deadline: in nanoseconds of CLOCK_MONOTONIC; deadline
    is 0 if the wait has no timeout. where: identifies the object in all processes alike; None if that is not known.
    """

    def __init__(self, place, raw):
        self.place, self.raw = place, raw
        self.thread, self.kind, self.object, self.number, self.since, self.deadline, self.asleep, what = _WAIT.unpack(
            raw
        )
        self.what = _text(what)
        self.where = None


def printable(text):
    """Return text of another process for the terminal: a name may contain anything."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)


def _text(data):
    return printable(data.partition(b"\0")[0].decode("utf-8", "replace"))


class Process:
    """Another process that runs on goproc. Raises OSError, NotGoproc, OtherVersion or Unreadable.

    pid: its process id. noting: whether its threads note what they wait for. is_forked: whether it is a fork of the
    process that has loaded goproc. helper: its title, if it is a helper. control, slot: of a worker, see record.h.
    layout: the offsets in its structures.
    """

    def __init__(self, pid):
        self.pid = pid
        self.mappings = _mappings(pid)
        regions = [at for at in self.mappings if at.is_native and at.writable]
        if not regions:
            raise NotGoproc
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        self._read_record(self._find_record(regions))

    def close(self):
        """Close the other process's memory."""
        os.close(self._memory)

    def _find_record(self, regions):
        for region in regions:
            data = self.read(region.start, region.end - region.start)
            at = data.find(_MAGIC)
            if at >= 0:
                return region.start + at
        raise OtherVersion

    def _read_record(self, address):
        fields = _RECORD.unpack(self.read(address, _RECORD.size))
        version, off, pid, helper_pid = fields[1:5]
        if version != _VERSION:
            raise OtherVersion
        self.is_forked = pid != self.pid
        self.helper = _text(fields[15]) if helper_pid == self.pid else ""
        self.threads, self.gil_holder, self.gil_locked = fields[5:8]
        self.types = fields[8:12]
        self._notes, self._wait_count, wait_size = fields[12:15]
        self.noting = bool(self._notes) and not off
        self.control = self.slot = 0
        if self._notes:
            self.control, self.slot = _NOTES.unpack(self.read(self._notes, _NOTES.size))
        numbers = struct.unpack(f"@{_MOST_LAYOUT}i", self.read(address + _RECORD.size, 4 * _MOST_LAYOUT))
        self.layout = SimpleNamespace(**dict(zip(_native.layout_names(), numbers, strict=False)))
        if wait_size != _WAIT.size or self._wait_count > 4096:
            raise OtherVersion

    # ---- memory

    def read(self, address, size):
        """Return size bytes of the process's memory. Raises Unreadable."""
        try:
            data = os.pread(self._memory, size, address)
        except (OSError, OverflowError, ValueError) as error:
            raise Unreadable(f"0x{address:x}: {error}") from None
        if len(data) != size:
            raise Unreadable(f"0x{address:x}: only {len(data)} of {size} bytes")
        return data

    def number(self, address, form="Q"):
        """Return the number at the address, of a struct format: an unsigned word of eight bytes by default."""
        return struct.unpack("@" + form, self.read(address, struct.calcsize("@" + form)))[0]

    def text_at(self, address, size=64):
        """Return the text at the address, which ends with a zero, or after size bytes."""
        return _text(self.read(address, size))

    def where(self, address):
        """Return the device, the file and the offset in it of an address in shared memory; None for private memory."""
        for at in self.mappings:
            if at.start <= address < at.end:
                return (at.device, at.inode, address - at.start + at.offset) if at.shared and at.inode else None
        return None

    # ---- notes

    def waits(self):
        """Return the notes of the threads that wait, the oldest of each thread first."""
        if not self._notes:
            return []
        raw = self.read(self._notes + _NOTES.size, self._wait_count * _WAIT.size)
        found = []
        for place in range(self._wait_count):
            wait = Wait(place, raw[place * _WAIT.size : (place + 1) * _WAIT.size])
            if wait.thread not in (0, _CLAIMED):
                wait.where = self.where(wait.object) if wait.object else None
                found.append(wait)
        return sorted(found, key=lambda wait: wait.since)

    def wait_at(self, place):
        """Return the note at a place, as it is now."""
        return Wait(place, self.read(self._notes + _NOTES.size + place * _WAIT.size, _WAIT.size))

    # ---- objects of Python

    def string(self, address):
        """Return the text of a str object."""
        layout = self.layout
        length = self.number(address + layout.text_length, "q")
        state = self.number(address + layout.text_state, "I")
        if not 0 <= length <= _LONGEST_TEXT:
            raise Unreadable(f"0x{address:x}: a text of {length} characters")
        bits = layout.text_kind_bits
        size = (state & bits) // (bits & -bits)
        if state & layout.text_ascii_bit:
            return printable(self.read(address + layout.text_ascii_size, length).decode("latin-1"))
        if size not in (1, 2, 4):
            raise Unreadable(f"0x{address:x}: no text")
        encoding = {1: "latin-1", 2: "utf-16", 4: "utf-32"}[size]
        if size > 1:
            encoding += "-le" if struct.pack("=H", 1)[0] else "-be"
        return printable(self.read(address + layout.text_size, length * size).decode(encoding, "replace"))

    def bytes(self, address):
        """Return the content of a bytes object."""
        size = self.number(address + self.layout.object_size, "q")
        if not 0 <= size <= 1 << 20:
            raise Unreadable(f"0x{address:x}: {size} bytes")
        return self.read(address + self.layout.bytes_data, size)

    def strings(self, address):
        """Return the texts of a tuple of str."""
        size = self.number(address + self.layout.object_size, "q")
        if not 0 <= size <= 1000:
            raise Unreadable(f"0x{address:x}: a tuple of {size}")
        items = struct.unpack(f"@{size}Q", self.read(address + self.layout.tuple_items, 8 * size))
        return [self.string(item) for item in items]

    def callable_name(self, address):
        """Return a name for a function, a class or another object that can be called."""
        layout = self.layout
        kind = self.number(address + layout.object_type)
        _, function, builtin, metaclass = self.types
        if kind == function:
            return self.string(self.number(address + layout.function_name))
        if kind == builtin:
            definition = self.number(address + layout.builtin_definition)
            return self.text_at(self.number(definition + layout.definition_name))
        if kind == metaclass:
            return self.text_at(self.number(address + layout.type_name))
        return f"an object of type {self.text_at(self.number(kind + layout.type_name))}"


class _Mapping:
    """A line of /proc/PID/maps."""

    def __init__(self, line):
        span, rights, offset, self.device, inode, *path = line.split(maxsplit=5)
        self.start, self.end = (int(part, 16) for part in span.split("-"))
        self.writable, self.shared = rights[1] == "w", rights[3] == "s"
        self.offset, self.inode = int(offset, 16), int(inode)
        folder, _, name = (path[0].strip() if path else "").rpartition("/")
        self.is_native = name.startswith("_native.") and ".so" in name and folder.endswith("goproc")


def _mappings(pid):
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
        return [_Mapping(line) for line in file]
