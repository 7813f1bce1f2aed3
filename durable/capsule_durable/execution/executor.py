"""Decides for each cell how it runs: on a subshell, for a program, as a step of a run, with retries, or once."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from capsule_durable.checkpoints.service import CheckpointService
from capsule_durable.config.settings import Settings
from capsule_durable.errors import CapsuleError, EngineUnavailable, ExecutionFailed, InternalError
from capsule_durable.execution.durable_cells import DEFAULT_TIMEOUT_SECONDS, DurableCells
from capsule_durable.execution.retries import RetryLoop
from capsule_durable.execution.retry_policy import MAGIC, RetryPolicy, from_metadata, split
from capsule_durable.execution.runs import RunCoordinator
from capsule_durable.history.cells import CellRecord
from capsule_durable.history.recorder import Recorder
from capsule_durable.history.runs import LEASE, RunTaken
from capsule_durable.messaging.notices import Notices
from capsule_durable.storage.process_identity import this_process
from capsule_durable.telemetry.bus import EventBus
from capsule_durable.telemetry.events import CellReplayed
from capsule_durable.workers.supervisor import WorkerSupervisor
from capsule_durable.workers.variables import WorkerVariables
from capsule_worker.protocol import messages as m

#: Seconds for which the end of another process's run is waited for, and between two attempts to get it.
RUN_TIMEOUT, RUN_POLL_INTERVAL = 5.0, 0.1
#: Seconds after its limit at which a cell is rejected whose worker still runs: the limit should have ended it.
TIMEOUT_RESERVE = 60.0


class CellExecutor:
    """Runs cells.

    Args:
        settings: the configuration.
        durable: runs a cell.
        workers: provide the worker that is interrupted.
        variables: saves and restores its variables.
        checkpoints: the checkpoints of the kernel.
        recorder: the history, with the outcomes of runs.
        notices: tells the user what to know about a cell.
        bus: gets the events of cells.
        session_id: the session, for events.
    """

    def __init__(
        self,
        settings: Settings,
        durable: DurableCells,
        workers: WorkerSupervisor,
        variables: WorkerVariables,
        checkpoints: CheckpointService,
        recorder: Recorder,
        notices: Notices,
        bus: EventBus,
        session_id: str,
    ) -> None:
        self._settings = settings
        self._durable = durable
        self._workers = workers
        self._checkpoints = checkpoints
        self._recorder = recorder
        self._notices = notices
        self._bus = bus
        self._session_id = session_id
        self._default_policy = RetryPolicy(settings.retries, settings.retry_delay)
        self._timeout = DEFAULT_TIMEOUT_SECONDS
        if settings.execution_timeout is not None:
            # The watchdog ends the worker before: this is for a case in which that has no effect.
            self._timeout = settings.execution_timeout + TIMEOUT_RESERVE
        self._retries = RetryLoop(
            durable, workers, variables, checkpoints, recorder, notices, bus, session_id, self._timeout
        )
        #: The notebook as a whole, if it is executed under an id.
        self._run: RunCoordinator | None = None
        self._renewing: asyncio.Task[None] | None = None
        #: Whether the latest outcome was replayed.
        self.replayed = False
        #: The number of the first cell, which an earlier process of this kernel may have advanced.
        self.next_count = 1

    async def execute(self, request: m.ExecuteMessage, metadata: Any = None) -> m.ResultMessage:
        """Run a cell, or replay its recorded outcome.

        Args:
            request: the cell.
            metadata: the part of its metadata that is for this kernel.

        Raises:
            ExecutionFailed: there is no result; the class says why.
        """
        self.replayed = False
        if request.subshell is not None or not request.store_history:
            return await self._execute_unrecorded(request)
        self._notices.set_cell(request.id)
        self._notices.drain()
        policy = self._default_policy
        if metadata is not None:
            try:
                policy = from_metadata(metadata, policy)
            except ValueError as error:
                self._notices.add(f"the cell's metadata is ignored: {error}")
        if request.code.startswith(MAGIC):
            policy, code = split(request.code, policy)
            request = request.model_copy(update={"code": code})
        if self._settings.run_id is not None:
            return await self._execute_step(request, policy, self._settings.run_id)
        if policy.retries:
            return await self._retries.run(request, policy)
        return await self._retries.attempt(request)

    def interrupt(self) -> bool:
        """End the delay before another attempt at a cell, which fails as it did; return whether there was one."""
        return self._retries.interrupt()

    async def close(self) -> None:
        """Let another process continue the run.

        Raises:
            StoreError: that cannot be recorded.
        """
        if self._renewing is not None:
            self._renewing.cancel()
        run = self._run
        if run is not None:
            await self._recorder.act(lambda _: run.close())

    async def _execute_unrecorded(self, request: m.ExecuteMessage) -> m.ResultMessage:
        """Run a cell that is not part of the notebook's history: a subshell's, or one that a program sends."""
        is_main = request.subshell is None
        if is_main:
            self._notices.set_cell(request.id)
        try:
            result = (await self._durable.run(request, self._timeout)).result
        finally:
            if is_main:
                self._notices.set_cell(None)
        if isinstance(result, ExecutionFailed):
            raise result
        return result

    # -- runs ------------------------------------------------------------------------------------------------

    async def _execute_step(self, request: m.ExecuteMessage, policy: RetryPolicy, run_id: str) -> m.ResultMessage:
        """Run a cell of a run, or replay its recorded outcome."""
        try:
            run = await self._get_run(run_id)
            step = await self._recorder.act(lambda _: run.next(request.code))
            if isinstance(step, CellRecord):
                return self._replay(step, request.id, run_id)
            if step.notice is not None:
                self._notices.add(step.notice)
            await self._retries.restore(step.restore)
        except ExecutionFailed:
            self._notices.set_cell(None)
            raise
        except (CapsuleError, OSError) as error:
            self._notices.set_cell(None)
            raise InternalError(f"the run cannot continue: {error}", request.id) from error
        return await self._retries.run_step(request, policy, step, run)

    async def _get_run(self, run_id: str) -> RunCoordinator:
        if self._run is None:
            if not await self._checkpoints.is_enabled():
                raise EngineUnavailable("a run needs checkpoints, and none are saved")
            owner, until = str(this_process()), asyncio.get_running_loop().time() + RUN_TIMEOUT
            options = {"retries": self._settings.retries, "retry_delay": self._settings.retry_delay}
            while self._run is None:
                try:
                    self._run = await self._recorder.act(lambda stores: RunCoordinator(stores, run_id, owner, options))
                except RunTaken:
                    # Its kernel may be about to end.
                    if asyncio.get_running_loop().time() > until:
                        raise
                    await asyncio.sleep(RUN_POLL_INTERVAL)
            self._renewing = asyncio.get_running_loop().create_task(self._renew(self._run), name="run")
        return self._run

    async def _renew(self, run: RunCoordinator) -> None:
        """Extend the lease of the run, for processes on other machines."""
        while True:
            await asyncio.sleep(LEASE / 4)
            with contextlib.suppress(CapsuleError):
                await self._recorder.act(lambda _: run.renew())

    def _replay(self, cell: CellRecord, shown_as: str, run_id: str) -> m.ResultMessage:
        """Show the recorded outputs of a cell, and return its recorded outcome."""
        self._bus.publish(CellReplayed(session_id=self._session_id, execution_id=cell.execution_id, run_id=run_id))
        self.replayed = True
        self._notices.set_cell(None)
        for output in cell.outputs:
            self._recorder.show(shown_as, output)
        assert cell.outcome is not None
        self._checkpoints.cells.add(cell.outcome.execution_count, cell.code)
        return cell.outcome.model_copy(update={"execution_id": shown_as})
