"""Which tasks this process holds: the SDK's heartbeat, without a request of its own for each task."""

from __future__ import annotations


class Leases:
    """Tasks that are being run, for ``Resonate(heartbeat=...)``. The connection prolongs their leases.

    The SDK's own sends a request as soon as a task begins, and so two for every short workflow.
    """

    def __init__(self) -> None:
        #: Versions by the tasks' ids.
        self.held: dict[str, int] = {}

    def start(self, task_id: str, task_version: int) -> None:
        """Prolong a task's lease from now on."""
        self.held[task_id] = task_version

    def stop(self, task_id: str) -> None:
        """Let a task's lease end."""
        self.held.pop(task_id, None)

    def shutdown(self) -> None:
        """Let all end."""
        self.held.clear()
