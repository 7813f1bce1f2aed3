"""Subshells: threads in which a client's requests run beside the cells of the main thread (JEP 91).

They share the notebook's variables. A thread is there only while it has something to do: what a subshell is, beyond its
id, the front knows.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

#: What the names of the threads begin with.
THREAD = "subshell-"
#: Seconds between two looks, while tasks of the notebook are pending.
_LOOK = 0.02

Job = Callable[[], Awaitable[Any]]


class Subshells:
    """Runs jobs of each subshell one after the other."""

    def __init__(self) -> None:
        self._lanes: dict[str, _SubshellQueue] = {}

    def put(self, subshell: str, job: Job) -> None:
        """Have a subshell do something when it has done what it was given before. For any one thread."""
        self._lanes.setdefault(subshell, _SubshellQueue(subshell)).put(job)

    @property
    def busy(self) -> bool:
        """Whether any has something to do."""
        return any(lane.busy for lane in self._lanes.values())

    def forget(self) -> None:
        """Begin anew, in a copy of the process, which has none of the threads."""
        self._lanes = {}


class _SubshellQueue:
    """The thread of one subshell, and what it is to do."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: deque[Job] = deque()
        self._lock = threading.Lock()
        self.busy = False

    def put(self, job: Job) -> None:
        with self._lock:
            self._jobs.append(job)
            if not self.busy:
                self.busy = True
                threading.Thread(target=self._run, name=THREAD + self._name, daemon=True).start()

    def _run(self) -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            while (job := self._next(loop)) is not None:
                try:
                    loop.run_until_complete(job())
                # The next job is not to suffer from it.
                except BaseException:
                    traceback.print_exc(file=sys.__stderr__)
        finally:
            loop.close()

    def _next(self, loop: asyncio.AbstractEventLoop) -> Job | None:
        """Return what is to be done; None when that is all, and no tasks of the notebook are pending."""
        while True:
            with self._lock:
                if self._jobs:
                    return self._jobs.popleft()
                if not asyncio.all_tasks(loop):
                    self.busy = False
                    return None
            loop.call_later(_LOOK, loop.stop)
            loop.run_forever()
