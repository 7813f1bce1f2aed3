"""Order and batching of output text. Pure: the thread that calls it, and the socket, are elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Literal, NamedTuple

StreamName = Literal["stdout", "stderr"]

#: The longest text of one message, in characters. Longer runs are sent in pieces of about this size.
CHUNK = 1 << 20


class Piece(NamedTuple):
    """Text that one ``write`` gave, or that several gave in a row."""

    execution_id: str
    name: StreamName
    text: str


class OutputBuffer:
    """Holds text until it is sent. ``append`` may be called from any thread, ``take`` by one at a time.

    Order is kept within and across streams: a run of pieces of the same cell and stream becomes one piece.
    """

    def __init__(self, chunk: int = CHUNK) -> None:
        self._pieces: deque[Piece] = deque()
        self._chunk = chunk
        #: About how many characters wait. Threads may race on it, so it is a hint and not a sum.
        self.size = 0

    def append(self, piece: Piece) -> None:
        """Add text behind all that is there. Atomic: neither a thread nor a signal can tear it."""
        self._pieces.append(piece)
        self.size += len(piece.text)

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def take(self) -> Iterator[Piece]:
        """Remove what waits now, and yield it as few pieces, none longer than the chunk size by more than one."""
        pieces = self._pieces
        waiting = len(pieces)
        self.size = 0
        run: list[str] = []
        length = 0
        execution_id, name = "", "stdout"
        for _ in range(waiting):
            piece = pieces.popleft()
            if run and (piece.execution_id != execution_id or piece.name != name):
                yield from self._split(execution_id, name, "".join(run))
                run, length = [], 0
            execution_id, name = piece.execution_id, piece.name
            run.append(piece.text)
            length += len(piece.text)
            if length >= self._chunk and not piece.text.endswith("\r"):
                yield from self._split(execution_id, name, "".join(run))
                run, length = [], 0
        if run:
            yield from self._split(execution_id, name, "".join(run))

    def _split(self, execution_id: str, name: StreamName, text: str) -> Iterator[Piece]:
        start = 0
        while len(text) - start > self._chunk:
            end = start + self._chunk
            # A carriage return and the line feed after it stay together: apart they would mean two lines.
            if text[end - 1] == "\r" and text[end] == "\n":
                end += 1
            yield Piece(execution_id, name, text[start:end])
            start = end
        if start < len(text):
            yield Piece(execution_id, name, text[start:] if start else text)
