"""A buffer in shared memory for text that was printed and not sent yet, so that a crash of the worker does not lose it.

A worker sends text in batches. Until a batch is sent it is in memory that the front shares, and reads when the worker
dies. The memory has two halves, one that is written and one that is sent.

A half has its generation (0: empty) and the length of what follows; then runs of one stream each: the stream, the
length of the text, the text in UTF-8. The last run is open, and has the rest of the length.

This module has no state but the memory. The reader checks everything that it reads.
"""

from __future__ import annotations

import mmap
import struct
from typing import Literal, NamedTuple

#: The size of the shared memory, in bytes.
SIZE = 4 * 1024 * 1024
_HALF = SIZE // 2
_HEADER = struct.Struct("<II")
_RUN = struct.Struct("<BI")
#: The longest text, in bytes, that an empty half holds.
ROOM = _HALF - _HEADER.size - _RUN.size

StreamName = Literal["stdout", "stderr"]
_CODES = {"stdout": 1, "stderr": 2}
_NAMES: dict[int, StreamName] = {1: "stdout", 2: "stderr"}

_pack_header = _HEADER.pack_into


class Piece(NamedTuple):
    """Text that one cell wrote to one stream, in one run.

    Args:
        execution_id: the cell.
        name: the stream.
        text: the text.
    """

    execution_id: str
    name: StreamName
    text: str


class OutputBuffer:
    """The writing end: keeps text until it is sent. Only one thread may use it at a time.

    Args:
        memory: writable memory of ``SIZE`` bytes, shared with the reader.
    """

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._generation = 0
        self._base = _HALF
        self._end = self._limit = 0
        self._execution_id = self._name = ""
        self._runs: list[tuple[str, StreamName, int]] = []
        self._switch()

    def __len__(self) -> int:
        """Return how many bytes are not in a batch yet."""
        return self._end - self._base - _HEADER.size

    def write(self, execution_id: str, name: StreamName, text: str) -> int:
        """Append text, and return how many bytes are not in a batch yet; -1 if there was no room for it.

        Args:
            execution_id: the cell that wrote it.
            name: the stream.
            text: the text.
        """
        try:
            data = text.encode()
        except UnicodeEncodeError:  # half of a surrogate pair
            data = text.encode("utf-8", "backslashreplace")
        start = self._end
        # Most writes continue the run of the one before.
        if name != self._name or execution_id != self._execution_id:
            start += _RUN.size
        end = start + len(data)
        if end > self._limit:
            return -1
        if start != self._end:
            self._begin_run(execution_id, name, start)
        self._memory[start:end] = data
        self._end = end
        # The length last, so that it covers only whole text.
        waiting = end - self._base - 8
        _pack_header(self._memory, self._base, self._generation, waiting)
        return waiting

    def next_batch(self) -> tuple[list[Piece], int]:
        """Start a new batch; return the text before it, one piece a run, and a mark for ``clear``."""
        memory, mark = self._memory, self._base
        pieces = []
        end = self._end
        for execution_id, name, start in reversed(self._runs):
            pieces.append(Piece(execution_id, name, str(memory[start:end], "utf-8", "replace")))
            end = start - _RUN.size
        pieces.reverse()
        self._switch()
        return pieces, mark

    def clear(self, mark: int) -> None:
        """Remove a batch, which has been sent.

        Args:
            mark: from ``next_batch``.
        """
        _pack_header(self._memory, mark, 0, 0)

    def _switch(self) -> None:
        self._generation += 1
        self._base = _HALF - self._base
        self._end = self._base + _HEADER.size
        self._limit = self._base + _HALF
        self._runs = []
        self._execution_id = self._name = ""
        _pack_header(self._memory, self._base, self._generation, 0)

    def _begin_run(self, execution_id: str, name: StreamName, start: int) -> None:
        memory = self._memory
        if self._runs:
            _, before, before_start = self._runs[-1]
            _RUN.pack_into(memory, before_start - _RUN.size, _CODES[before], self._end - before_start)
        _RUN.pack_into(memory, start - _RUN.size, _CODES[name], 0)
        self._runs.append((execution_id, name, start))
        self._execution_id, self._name = execution_id, name


def map_buffer(fd: int) -> OutputBuffer:
    """Return the buffer in the shared memory of a descriptor.

    Args:
        fd: of ``SIZE`` bytes.
    """
    return OutputBuffer(memoryview(mmap.mmap(fd, SIZE)))


def read(memory: bytes) -> list[tuple[StreamName, str]]:
    """Return the streams and texts in a buffer, oldest first, without those that are damaged.

    Args:
        memory: the bytes of the buffer.
    """
    halves = []
    for base in (0, _HALF):
        if len(memory) >= base + _HEADER.size:
            generation, length = _HEADER.unpack_from(memory, base)
            if generation and length <= _HALF - _HEADER.size:
                start = base + _HEADER.size
                halves.append((generation, memory[start : start + length]))
    found: list[tuple[StreamName, str]] = []
    for _, runs in sorted(halves):
        offset = 0
        while offset + _RUN.size <= len(runs):
            code, size = _RUN.unpack_from(runs, offset)
            offset += _RUN.size
            size = size or len(runs) - offset
            name = _NAMES.get(code)
            if name is None or offset + size > len(runs):
                break
            found.append((name, runs[offset : offset + size].decode("utf-8", "replace")))
            offset += size
    return found
