"""How far back some cells are. Pure: the caller says which checkpoints exist, and which cells ran."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from capsule_durable.checkpoints.models import Entry

#: How a command to the kernel begins.
COMMAND = "%capsule"


class UndoStep(NamedTuple):
    """The way back to a checkpoint.

    Args:
        entry: the checkpoint; None if there is none so far back.
        cells: how many cells are between that checkpoint, or the oldest one, and the present state.
    """

    entry: Entry | None
    cells: int


class RanCells:
    """The cells whose effects are in the variables now, in the order in which they ran."""

    def __init__(self) -> None:
        self._lines: dict[int, str] = {}

    @property
    def numbers(self) -> list[int]:
        """The numbers of the cells, as in ``In [number]``."""
        return list(self._lines)

    def add(self, number: int, code: str) -> None:
        """Record a cell that has ended. One that is a command to the kernel has no effects of its own.

        Args:
            number: as in ``In [number]``.
            code: the code of the cell.
        """
        if not is_command(code):
            self._lines[number] = next((line for line in code.splitlines() if line.strip()), "")

    def after(self, number: int) -> dict[int, str]:
        """Return the cells after a number: their first lines, by their numbers."""
        return {each: line for each, line in self._lines.items() if each > number}

    def restore_to(self, number: int) -> list[int]:
        """Drop the cells after a number, and return their numbers."""
        dropped = self.after(number)
        for each in dropped:
            del self._lines[each]
        return list(dropped)


def back(head: Entry, entries: Mapping[str, Entry], cells: int, ran: Collection[int], session: str) -> UndoStep:
    """Find the checkpoint before the last cells, along the parents of checkpoints, not along their numbers.

    A checkpoint may stand for several cells, and one that was made on request stands for none. Where none was made
    between two cells, the one before both is found.

    Args:
        head: the session's current checkpoint.
        entries: all checkpoints, by id.
        cells: how many cells are to be undone.
        ran: the numbers of the cells whose effects are in the variables now.
        session: the session's id.
    """
    at: Entry = head
    gone = sum(number > head.execution_count for number in ran) if head.session == session else 0
    while gone < cells:
        before = entries.get(at.parent or "")
        if before is None:
            return UndoStep(None, gone)
        gone += _cells_between(before, at, ran, session)
        at = before
    return UndoStep(at, gone)


def _cells_between(before: Entry, after: Entry, ran: Collection[int], session: str) -> int:
    first = before.execution_count if before.session == session else 0
    known = [number for number in ran if first < number <= after.execution_count] if after.session == session else []
    return len(known) or int(not is_command(after.code))


def is_command(code: str) -> bool:
    """Return whether a cell only has commands to the kernel, which a user does not mean to undo.

    Args:
        code: the code of the cell.
    """
    lines = [line.strip() for line in code.splitlines() if line.strip()]
    return bool(lines) and all(line.startswith(COMMAND) for line in lines)
