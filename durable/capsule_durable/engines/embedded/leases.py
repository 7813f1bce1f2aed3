"""The tasks that this process has leased: the SDK's heartbeat, without a request for each task."""

from __future__ import annotations


class Leases:
    """Tasks that are running, for ``Resonate(heartbeat=...)``. The network renews their leases.

    The SDK's own heartbeat sends a request as soon as a task begins, which doubles the requests of a short workflow.
    """

    def __init__(self) -> None:
        #: The versions of the tasks, by their ids.
        self.held: dict[str, int] = {}

    def start(self, task_id: str, task_version: int) -> None:
        """Renew the lease of a task from now on.

        Args:
            task_id: the task, which this process has acquired.
            task_version: the version under which it was acquired; older versions are refused.
        """
        self.held[task_id] = task_version

    def stop(self, task_id: str) -> None:
        """Stop renewing the lease of a task."""
        self.held.pop(task_id, None)

    def shutdown(self) -> None:
        """Stop renewing all leases."""
        self.held.clear()
