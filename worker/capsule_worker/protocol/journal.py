"""Text on its way out, kept in shared memory: what a worker printed just before it died is not lost.

A worker sends text in batches. Until a batch is sent, its text also stands in a piece of memory that the front shares;
when the worker dies, the front reads there what was still waiting. There are two halves, one being written and one
being sent, each with a generation and a length in front.

Pure but for the memory that it is given. The reader trusts nothing that it reads.
"""

from __future__ import annotations

import struct
from typing import Literal

#: The size of the shared memory, in bytes.
SIZE = 4 * 1024 * 1024
_HALF = SIZE // 2
_HEADER = struct.Struct("<II")  # generation, length of the records behind it
_RECORD = struct.Struct("<BI")  # stream, length of the text in bytes

StreamName = Literal["stdout", "stderr"]
_CODES = {"stdout": 1, "stderr": 2}
_NAMES: dict[int, StreamName] = {1: "stdout", 2: "stderr"}


class Journal:
    """The writing end. Its caller sees to it that one thread uses it at a time.

    Args:
        memory: writable memory of ``SIZE`` bytes, shared with the reader.
    """

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._generation = 1
        self._base = 0
        self._length = 0
        _HEADER.pack_into(memory, self._base, self._generation, 0)

    def write(self, name: StreamName, text: str) -> None:
        """Keep ``text``; where there is no room it is not kept."""
        data = text.encode("utf-8", "backslashreplace")
        size = len(data)
        start = self._base + _HEADER.size + self._length
        end = start + _RECORD.size + size
        if end > self._base + _HALF:
            return
        _RECORD.pack_into(self._memory, start, _CODES[name], size)
        self._memory[start + _RECORD.size : end] = data
        self._length += _RECORD.size + size
        # The length last: a record counts only when it is whole.
        _HEADER.pack_into(self._memory, self._base, self._generation, self._length)

    def switch(self) -> int:
        """Write into the other half from now on; return the mark of this one, for ``clear``."""
        full = self._base
        self._generation += 1
        self._base = _HALF - self._base
        self._length = 0
        _HEADER.pack_into(self._memory, self._base, self._generation, 0)
        return full

    def clear(self, mark: int) -> None:
        """Forget a half: its text has been sent."""
        _HEADER.pack_into(self._memory, mark, 0, 0)


def read(memory: bytes) -> list[tuple[StreamName, str]]:
    """Return what a journal holds, oldest first, runs of one stream joined.

    Whatever does not fit together is left out.
    """
    halves = []
    for base in (0, _HALF):
        if len(memory) >= base + _HEADER.size:
            generation, length = _HEADER.unpack_from(memory, base)
            if generation and length <= _HALF - _HEADER.size:
                start = base + _HEADER.size
                halves.append((generation, memory[start : start + length]))
    found: list[tuple[StreamName, str]] = []
    for _, records in sorted(halves):
        offset = 0
        while offset + _RECORD.size <= len(records):
            code, size = _RECORD.unpack_from(records, offset)
            offset += _RECORD.size
            name = _NAMES.get(code)
            if name is None or offset + size > len(records):
                break
            text = records[offset : offset + size].decode("utf-8", "replace")
            offset += size
            if found and found[-1][0] == name:
                found[-1] = (name, found[-1][1] + text)
            else:
                found.append((name, text))
    return found
