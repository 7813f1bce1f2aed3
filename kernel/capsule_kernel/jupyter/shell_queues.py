"""The cells that wait for a shell, and how they are numbered. Cells of one shell run one after the other."""

from __future__ import annotations

from collections import deque
from typing import Any

#: A request: the identities of its client, the message, and the channel that it came by.
Request = tuple[Any, Any, str]


class ShellQueue:
    """The cells of one shell, the main one or a subshell."""

    def __init__(self) -> None:
        self.waiting: deque[Request] = deque()
        #: The request of the cell that runs.
        self.executing: Any = None
        #: Whether a task takes cells from the queue.
        self.is_active = False

    def take_all(self) -> list[Request]:
        """Remove and return the cells that wait."""
        waiting = list(self.waiting)
        self.waiting.clear()
        return waiting


class ShellQueues:
    """The queues of the main shell and of the subshells, and the numbers of their cells."""

    def __init__(self) -> None:
        self.main = ShellQueue()
        self._queues: dict[str | None, ShellQueue] = {None: self.main}
        #: The number of the next cell.
        self.next_count = 1
        #: The number of the cell of the main shell that runs, or ran last.
        self._main_count = 1

    @property
    def subshells(self) -> list[str]:
        """The ids of the open subshells."""
        return [each for each in self._queues if each is not None]

    def get(self, subshell: Any) -> ShellQueue | None:
        """Return the queue of the main shell (None) or of a subshell; None for an id that does not exist.

        Args:
            subshell: the id as a client has sent it; None for the main shell.
        """
        return self._queues.get(subshell) if subshell is None or isinstance(subshell, str) else None

    def open(self, subshell: str) -> None:
        """Add a queue for a new subshell."""
        self._queues[subshell] = ShellQueue()

    def close(self, subshell: str) -> list[Request]:
        """Remove the queue of a subshell and return the cells that waited in it.

        Args:
            subshell: id of an open subshell.
        """
        return self._queues.pop(subshell).take_all()

    def number(self, request: Any) -> int:
        """Return the number of a cell. The number of a main shell's cell is used up when it has run; others at once.

        Args:
            request: its ``execute_request``.
        """
        count = self.next_count
        if request["header"].get("subshell_id") is None:
            self._main_count = count
            return count
        if self.main.executing is not None:
            count = max(count, self._main_count + 1)
        if not request["content"].get("silent", False):
            self.next_count = count + 1
        return count

    def advance(self, count: int, following: int) -> None:
        """Record that a cell of the main shell has run. Subshells may have numbered cells meanwhile.

        Args:
            count: its number.
            following: the number that follows.
        """
        self.next_count = max(following, self.next_count) if self.next_count > count else following
