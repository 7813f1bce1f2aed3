"""Cells and comm messages of subshells, which run in threads while the main thread runs other cells."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from capsule_worker.cell_task import CellServices
from capsule_worker.checkpoints.checkpointer import Checkpointer
from capsule_worker.isolation import resource_limits
from capsule_worker.process.subshells import Subshells
from capsule_worker.protocol import messages as m
from capsule_worker.takeover import Takeover

#: Seconds without another change after which changes from outside the main shell's cells are saved.
SAVE_DELAY_SECONDS = 2.0


class DeferredSave:
    """Saves what comm messages and subshells changed, once they pause. They come in bursts.

    Args:
        loop: the main thread's loop.
        checkpointer: saves.
        takeover: forks a standby afterwards.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, checkpointer: Checkpointer, takeover: Takeover) -> None:
        self._loop = loop
        self._checkpointer = checkpointer
        self._takeover = takeover
        self._timer: asyncio.TimerHandle | None = None

    def schedule(self) -> None:
        """Save after a pause. Call it in the main thread."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(SAVE_DELAY_SECONDS, self._save)

    def _save(self) -> None:
        self._timer = None
        self._checkpointer.after_comm()
        if self._checkpointer.schedule.is_due:
            self._loop.stop()
        self._takeover.schedule()


class SubshellJobs:
    """Runs the cells and comm messages of subshells.

    Args:
        services: what cells run with.
        loop: the main thread's loop.
        checkpointer: loads variables before code needs them.
        subshells: the threads.
        save: saves what the jobs changed.
    """

    def __init__(
        self,
        services: CellServices,
        loop: asyncio.AbstractEventLoop,
        checkpointer: Checkpointer,
        subshells: Subshells,
        save: DeferredSave,
    ) -> None:
        self._services = services
        self._loop = loop
        self._checkpointer = checkpointer
        self._subshells = subshells
        self._save = save

    def run_cell(self, subshell: str, message: m.ExecuteMessage, *, main_is_idle: bool) -> None:
        """Run a cell in a subshell.

        Args:
            subshell: the id of the subshell.
            message: the cell.
            main_is_idle: whether the main thread runs no cell.
        """
        self._put(subshell, partial(self._run_cell, message), main_is_idle)

    def deliver(self, subshell: str, message: m.CommMessage, *, main_is_idle: bool) -> None:
        """Deliver a comm message to its comm in a subshell.

        Args:
            subshell: the id of the subshell.
            message: the comm message.
            main_is_idle: whether the main thread runs no cell.
        """
        self._put(subshell, partial(self._deliver, message), main_is_idle)

    def _put(self, subshell: str, job: Callable[[], Awaitable[None]], main_is_idle: bool) -> None:
        if main_is_idle and (self._checkpointer.loading.is_active or not self._services.shell.has_started):
            # Only the main thread loads variables and runs startup files.
            self._loop.call_soon_threadsafe(self._prepare_and_put, subshell, job)
        else:
            self._subshells.put(subshell, job)

    def _prepare_and_put(self, subshell: str, job: Callable[[], Awaitable[None]]) -> None:
        self._services.shell.run_startup()
        self._checkpointer.before_comm()
        self._subshells.put(subshell, job)

    async def _run_cell(self, message: m.ExecuteMessage) -> None:
        services = self._services
        result = await services.run(message, services.runner.run_in_subshell)
        services.send_result(result, _do_nothing)
        self._loop.call_soon_threadsafe(self._save.schedule)

    async def _deliver(self, message: m.CommMessage) -> None:
        with resource_limits.enforced():
            self._services.deliver(message)
        self._loop.call_soon_threadsafe(self._save.schedule)


def _do_nothing() -> None:
    """The main shell does not wait for the result of a subshell."""
