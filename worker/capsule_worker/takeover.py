"""The standby: a fork of this worker that waits, and that takes its place when it dies or when a cell is undone."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import socket
import sys
import traceback
from collections.abc import Iterator

from IPython.core.inputtransformer2 import TransformerManager

from capsule_worker.cell_task import CellServices, CellTask
from capsule_worker.checkpoints.analysis.background_activity import background_activity, fork_unsafe_threads
from capsule_worker.checkpoints.checkpointer import Checkpointer
from capsule_worker.frontend.debug_session import DebugSession
from capsule_worker.process import standby_fork
from capsule_worker.process.subshells import Subshells
from capsule_worker.protocol.output_buffer import map_buffer

#: Seconds without a cell after which a standby is forked, so that cells in quick succession do not wait for a fork.
STANDBY_DELAY_SECONDS = 0.1


class Takeover:
    """Forks a standby while the worker is idle, and makes the fork the worker once the front asks for it.

    Args:
        services: what cells run with.
        loop: the main thread's loop. It stops when a fork is due, and ``fork`` is called outside it: a standby must
            not start in the middle of it.
        checkpointer: knows what is saved.
        debugger: a worker that is debugged is not forked.
        subshells: a worker with a busy subshell is not forked.
        writers: the pipe that the front sees closed when no process writes a checkpoint any more.
        standby: the socket by which the front learns of standbys.
    """

    def __init__(
        self,
        services: CellServices,
        loop: asyncio.AbstractEventLoop,
        checkpointer: Checkpointer,
        debugger: DebugSession,
        subshells: Subshells,
        writers: int,
        standby: socket.socket,
    ) -> None:
        self._services = services
        self._loop = loop
        self._checkpointer = checkpointer
        self._debugger = debugger
        self._subshells = subshells
        self._writers, self._standby = writers, standby
        self._last_execution_id, self._last_execution_count = "", 0
        self._timer: asyncio.TimerHandle | None = None
        #: Whether a fork is due, outside the loop.
        self.is_due = False
        #: Whether this process is being forked for a standby, and not by a cell.
        self.is_forking = False
        self._is_cell_running = False

    def before_cell(self) -> None:
        """Fork no standby until ``after_cell``: a cell that awaits may be suspended anywhere."""
        self._is_cell_running = True

    def after_cell(self, cell: CellTask) -> None:
        """Fork a standby soon, or at once if much unsaved work is at risk.

        Args:
            cell: the cell that has ended.
        """
        self._is_cell_running = False
        self._last_execution_id = cell.execution_id
        self._last_execution_count = cell.execution_count or self._last_execution_count
        if self._checkpointer.schedule.is_due and self._checkpointer.should_fork_standby:
            self.is_due = True
        self.schedule()

    def schedule(self) -> None:
        """Fork a standby when the worker has been idle for a while."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(STANDBY_DELAY_SECONDS, self._fork_if_idle)

    def _fork_if_idle(self) -> None:
        self._timer = None
        if self._is_cell_running:
            return
        if not self._checkpointer.is_settled:
            self.schedule()
            return
        self.is_due = True
        self._loop.stop()

    def fork(self) -> bool:
        """Fork a standby. In the standby this returns when the front asks it to take over.

        Returns:
            Whether this process is a standby that has taken over. Its output threads run; the caller starts the reader.
        """
        self.is_due = False
        if not self._checkpointer.is_enabled:
            return False
        self.is_forking = True
        try:
            taken_over = self._fork()
        except (standby_fork.CannotFork, OSError) as error:
            self._checkpointer.standby = str(error)
            return False
        finally:
            self.is_forking = False
        self._checkpointer.standby = None
        if taken_over is None:
            self._prewarm()
            return False
        try:
            self._take_over(taken_over.fds)
        except BaseException:
            # The front restores the latest checkpoint instead.
            traceback.print_exc(file=sys.__stderr__)
            os._exit(1)
        return True

    def _fork(self) -> standby_fork.TakeoverFds | None:
        """Fork, if a standby would be as good as this process.

        Raises:
            CannotFork: it would not.
            OSError: no process can be started.
        """
        reason = "a debugger is attached" if self._debugger.attached else background_activity(self._loop)
        reason = reason or fork_unsafe_threads()
        if reason is not None:
            raise standby_fork.CannotFork(reason)
        note = {
            "execution_id": self._last_execution_id,
            "execution_count": self._last_execution_count,
            "checkpoint": self._checkpointer.changes.head,
            "current": self._checkpointer.changes.is_up_to_date,
        }
        return standby_fork.fork_standby(self._standby, note, self._own_fds(), self._quiet(), self._close_inherited)

    def _prewarm(self) -> None:
        """Run an empty cell up to its checkpoint, while the worker is idle.

        After a fork the two processes share their memory, and each page is copied when one of them first writes to it.
        Python writes to every object that it uses. This pays for the copies now; the next cell would take milliseconds
        longer.
        """
        code = "pass\n"
        try:
            exec(compile(TransformerManager().transform_cell(code), "<prewarm>", "exec"), {})  # noqa: S102  # our code
            self._checkpointer.prewarm(code)
        # Nothing depends on it.
        except Exception:
            traceback.print_exc(file=sys.__stderr__)

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """Stop our threads at a point where nothing is half done, for the length of the fork."""
        services = self._services
        with (
            services.channel.handling,
            services.capture.quiet(),
            services.output.quiet(),
            services.channel.quiet(),
        ):
            if self._is_cell_running or self._subshells.busy:
                raise standby_fork.CannotFork("a cell runs")
            yield

    def _own_fds(self) -> set[int]:
        """Return the descriptors that belong to the worker and not to the notebook."""
        return {
            self._services.channel.fileno(),
            self._writers,
            self._standby.fileno(),
            *self._services.capture.fileno(),
            *standby_fork.sockets_of(self._loop),
        }

    def _close_inherited(self) -> None:
        """Close, in a standby, what belongs to the worker that it was forked from."""
        self._services.channel.close()
        self._services.capture.close()
        self._standby.close()
        os.close(self._writers)

    def _take_over(self, fds: dict[str, int]) -> None:
        """Take the place of the worker that this process was forked from."""
        services = self._services
        standby_fork.renew_thread_id()
        for number, name in ((1, "stdout_writing"), (2, "stderr_writing")):
            os.dup2(fds[name], number)
            os.close(fds[name])
        faulthandler.enable(open(fds["crash"], "wb", buffering=0))  # noqa: SIM115, PTH123  # open until the next one
        standby_fork.renew_loop(self._loop)
        services.channel.renew(socket.socket(fileno=fds["channel"]))
        services.output.renew(map_buffer(fds["output_buffer"]))
        services.capture.renew(fds["stdout"], fds["stderr"])
        self._writers, self._standby = fds["writers"], socket.socket(fileno=fds["standby"])
        self._subshells.forget()
        services.shell.history_manager.renew()
        self._checkpointer.renew()
