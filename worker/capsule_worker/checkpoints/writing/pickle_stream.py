"""Cuts pickles into chunks while they are written."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from typing import Any

from capsule_worker.checkpoints.storage.chunking import cuts
from capsule_worker.checkpoints.storage.pack_format import Chunk
from capsule_worker.checkpoints.storage.pack_writer import PackWriter

#: Told the number of bytes written so far and, before it is pickled, what comes next; None for the same as before.
Progress = Callable[[int, "str | None"], None]

#: How a pickle begins, and the head of a frame in it.
_PROTOCOL, _FRAME = pickle.PROTO + b"\x05", struct.Struct("<cQ")
#: Bytes of a pickle that are collected before they are cut.
_COLLECT = 1 << 20


class PickleStream:
    """A file for a pickler: cuts what is written into chunks, and keeps them.

    Frames are left out: they only tell a reader how much to fetch at a time, and where they begin shifts with
    everything that comes before them, so that one longer number would make all that follows look different.

    Args:
        pack: gets the chunks.
        progress: called with the number of bytes written so far.
    """

    def __init__(self, pack: PackWriter, progress: Progress | None) -> None:
        self._pack = pack
        self._progress = progress
        self._data = bytearray()
        self._chunks: list[Chunk] = []
        self._begun = False
        #: How the piece before ended.
        self._end = b""

    def write(self, data: Any) -> int:
        """Add a piece of the pickle; return its size in bytes.

        Args:
            data: bytes, or an object with a buffer.
        """
        view = memoryview(data)
        for part in self._unframed(view):
            # Piece by piece: a long text is in memory once already.
            for start in range(0, len(part), _COLLECT):
                self._data += part[start : start + _COLLECT]
                if len(self._data) > _COLLECT:
                    if self._progress is not None:
                        self._progress(self._pack.written, None)
                    self._cut(last=False)
        return len(view)

    def _unframed(self, view: memoryview) -> list[memoryview]:
        """Return a piece in parts, without the frame with which it may begin."""
        size = len(view)
        # A text or bytes that make a piece of their own are announced by their length, and are not to be looked into.
        announced = self._end.endswith(size.to_bytes(8, "little")[:4]) or self._end == size.to_bytes(8, "little")
        at = 0 if self._begun else len(_PROTOCOL)
        head = bytes(view[at : at + _FRAME.size])
        self._begun, self._end = True, bytes(view[-8:])
        if announced or len(head) < _FRAME.size:
            return [view]
        opcode, length = _FRAME.unpack(head)
        if opcode != pickle.FRAME or length > size - at - _FRAME.size:
            return [view]
        return [view[:at], view[at + _FRAME.size :]]

    def finish(self) -> list[Chunk]:
        """Return all chunks, once the pickle is complete."""
        self._cut(last=True)
        return self._chunks

    def _cut(self, *, last: bool) -> None:
        data = bytes(self._data)
        end = 0
        for start, end in cuts(data, last=last):
            self._chunks.append(self._pack.chunk(data[start:end], compress=True))
        del self._data[:end]
