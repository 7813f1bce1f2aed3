"""Tasks whose end no coroutine awaits, until everything is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class BackgroundTasks:
    """Starts tasks and holds them until they have ended: the loop itself holds only weak references."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, coro: Coroutine[Any, Any, Any]) -> None:
        """Start a task at once: the coroutine runs until it waits for the first time before this returns."""
        task = asyncio.Task(coro, loop=asyncio.get_running_loop(), eager_start=True)
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def wait(self) -> None:
        """Wait until all tasks have ended, also those that start meanwhile."""
        while self._tasks:
            # Not gather: where all are done already it would not let the loop remove them from the set.
            await asyncio.wait(self._tasks)
