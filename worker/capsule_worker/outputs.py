"""Order and batching of output text. Pure: the thread that calls it, and the socket, are elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Literal, NamedTuple

StreamName = Literal["stdout", "stderr"]

#: The longest text of one message, in characters. Longer runs are sent in pieces of about this size.
CHUNK = 1 << 20


class Piece(NamedTuple):
    """Text that one ``write`` gave, or that several gave in a row."""

    execution_id: str
    name: StreamName
    text: str


_origin = itemgetter(0, 1)


class OutputBuffer:
    """Holds text until it is sent. The caller sees to it that one thread uses it at a time.

    Order is kept within and across streams: a run of pieces of the same cell and stream becomes one piece.
    """

    def __init__(self, chunk: int = CHUNK) -> None:
        self._pieces: list[Piece] = []
        self._chunk = chunk
        #: How many characters wait.
        self.size = 0

    def append(self, piece: Piece) -> None:
        """Add text behind all that is there."""
        self._pieces.append(piece)
        self.size += len(piece.text)

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def take(self) -> list[Piece]:
        """Remove what waits, and return it as few pieces, none longer than the chunk size by more than a character."""
        waiting, self._pieces = self._pieces, []
        self.size = 0
        taken: list[Piece] = []
        for (execution_id, name), run in groupby(waiting, key=_origin):
            taken.extend(self._split(execution_id, name, "".join(piece.text for piece in run)))
        return taken

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
