"""Subshells: threads that run a client's requests while the main thread runs cells (JEP 91).

They share the notebook's variables. A subshell has a thread only while it has jobs; the front keeps the rest of its
state.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

#: The beginning of the names of the threads.
THREAD_PREFIX = "subshell-"
#: Seconds between two looks for jobs, while tasks of the notebook are pending.
_POLL_INTERVAL_SECONDS = 0.02

Job = Callable[[], Awaitable[Any]]


class Subshells:
    """Runs the jobs of each subshell one after the other."""

    def __init__(self) -> None:
        self._queues: dict[str, _SubshellQueue] = {}

    def put(self, subshell: str, job: Job) -> None:
        """Give a subshell a job, which runs after those before it. Only one thread may call this at a time.

        Args:
            subshell: the id of the subshell.
            job: an async function.
        """
        self._queues.setdefault(subshell, _SubshellQueue(subshell)).put(job)

    @property
    def busy(self) -> bool:
        """Whether a subshell has a job."""
        return any(one.busy for one in self._queues.values())

    def forget(self) -> None:
        """Forget the threads in a fork of the process, which has none of them."""
        self._queues = {}


class _SubshellQueue:
    """The thread of one subshell, and its jobs."""

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
                threading.Thread(target=self._run, name=THREAD_PREFIX + self._name, daemon=True).start()

    def _run(self) -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            while (job := self._next(loop)) is not None:
                try:
                    loop.run_until_complete(job())
                # The next job runs whatever happened.
                except BaseException:
                    traceback.print_exc(file=sys.__stderr__)
        finally:
            loop.close()

    def _next(self, loop: asyncio.AbstractEventLoop) -> Job | None:
        """Return the next job; None when there are no jobs, and no tasks of the notebook are pending."""
        while True:
            with self._lock:
                if self._jobs:
                    return self._jobs.popleft()
                if not asyncio.all_tasks(loop):
                    self.busy = False
                    return None
            loop.call_later(_POLL_INTERVAL_SECONDS, loop.stop)
            loop.run_forever()
