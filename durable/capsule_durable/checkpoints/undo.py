"""How far back some cells are. Pure: the caller says which checkpoints there are, and which cells ran."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from capsule_durable.checkpoints.models import Entry

#: How a command to the kernel begins.
COMMAND = "%capsule"


def back(
    head: Entry, entries: Mapping[str, Entry], cells: int, ran: Collection[int], session: str
) -> tuple[Entry | None, int]:
    """Find the checkpoint before the last cells: as the checkpoints' parents tell, not as their numbers do.

    A checkpoint may stand for several cells, and one that was made on request stands for none. Where none was made
    between two cells, what is found is the one before both.

    Args:
        head: the checkpoint at which the session stands.
        entries: all checkpoints, by id.
        cells: how many cells are to be undone.
        ran: the numbers of the cells whose effects are in the variables now.
        session: the session's id.

    Returns:
        The checkpoint, None where there is none, and how many cells there are between it, or the oldest one, and now.
    """
    at: Entry = head
    gone = sum(number > head.execution_count for number in ran) if head.session == session else 0
    while gone < cells:
        before = entries.get(at.parent or "")
        if before is None:
            return None, gone
        gone += _cells_between(before, at, ran, session)
        at = before
    return at, gone


def _cells_between(before: Entry, after: Entry, ran: Collection[int], session: str) -> int:
    first = before.execution_count if before.session == session else 0
    known = [number for number in ran if first < number <= after.execution_count] if after.session == session else []
    return len(known) or int(not is_command(after.code))


def is_command(code: str) -> bool:
    """Return whether a cell is a command to the kernel, and so nothing that a person would undo."""
    lines = [line.strip() for line in code.splitlines() if line.strip()]
    return bool(lines) and all(line.startswith(COMMAND) for line in lines)
