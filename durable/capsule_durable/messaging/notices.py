"""Notices: what the kernel has to say to the user, on stderr of a cell."""

from __future__ import annotations

from collections.abc import Callable

from capsule_worker.protocol.messages import StreamOutput


class Notices:
    """Shows each text below the running cell, or keeps it for the next one."""

    def __init__(self) -> None:
        self._stream: Callable[[str, StreamOutput], None] | None = None
        self._waiting: list[str] = []
        #: The execution whose cell shows notices; None while no cell runs.
        self.cell: str | None = None

    def connect(self, stream: Callable[[str, StreamOutput], None]) -> None:
        """Show notices through a capability from now on.

        Args:
            stream: shows text below the cell of an execution.
        """
        self._stream = stream

    def add(self, text: str) -> None:
        """Show a text now, or keep it until a cell runs.

        Args:
            text: one line, without the end of the line.
        """
        if self.cell is None or self._stream is None:
            self._waiting.append(text)
        else:
            self._stream(self.cell, StreamOutput(name="stderr", text=f"capsule: {text}\n"))

    def set_cell(self, execution_id: str | None) -> None:
        """Show notices below the cell of an execution from now on.

        Args:
            execution_id: the execution; None to keep notices for the next cell.
        """
        self.cell = execution_id

    def drain(self) -> None:
        """Show the texts that were kept below the cell that runs now."""
        waiting, self._waiting = self._waiting, []
        for text in waiting:
            self.add(text)
