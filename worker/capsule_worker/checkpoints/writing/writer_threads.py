"""Two threads that write checkpoints: one hands them to the system, the other waits until they are on disk."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

_Step = Callable[[], None]


class WriterThreads:
    """Takes the steps of one checkpoint after the other. The threads start with the first."""

    def __init__(self) -> None:
        self._stages: queue.SimpleQueue[tuple[_Step, _Step]] | None = None
        self._commits: queue.SimpleQueue[_Step] = queue.SimpleQueue()

    def write(self, stage: _Step, commit: _Step) -> None:
        """Have a checkpoint written.

        Args:
            stage: its first step, which takes little time. Neither may raise.
            commit: the second one, which waits for the disk, and for its turn.
        """
        if self._stages is None:
            self._stages = queue.SimpleQueue()
            threading.Thread(target=self._stage_forever, args=[self._stages], name="capsule-stage", daemon=True).start()
            threading.Thread(target=self._commit_forever, name="capsule-commit", daemon=True).start()
        self._stages.put((stage, commit))

    def _stage_forever(self, stages: queue.SimpleQueue[tuple[_Step, _Step]]) -> None:
        while True:
            stage, commit = stages.get()
            stage()
            self._commits.put(commit)

    def _commit_forever(self) -> None:
        while True:
            self._commits.get()()
