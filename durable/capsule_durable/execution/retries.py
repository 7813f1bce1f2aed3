"""Attempts at a cell: one, or as many as its policy allows, each from the same state of the variables."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from capsule_durable.checkpoints.service import CheckpointService
from capsule_durable.errors import CapsuleError, ExecutionFailed, InternalError, OutputDrainTimeout, WorkerDied
from capsule_durable.execution.durable_cells import DurableCells
from capsule_durable.execution.retry_policy import RetryPolicy, is_permanent
from capsule_durable.execution.runs import RunCoordinator, RunStepStart
from capsule_durable.history.recorder import HistoryStores, Recorder
from capsule_durable.history.runs import RunCell
from capsule_durable.messaging.notices import Notices
from capsule_durable.telemetry.bus import EventBus
from capsule_durable.telemetry.events import CellRetried, CellStarted
from capsule_durable.workers.supervisor import WorkerSupervisor
from capsule_durable.workers.variables import WorkerVariables
from capsule_worker.protocol import messages as m


class RetryLoop:
    """Runs a cell once or several times, and records each attempt.

    Args:
        durable: runs an attempt.
        workers: provide the worker whose variables are saved and restored.
        variables: saves and restores them.
        checkpoints: know the latest checkpoint, and which cells have changed the variables.
        recorder: records the attempts.
        notices: tells the user about failed attempts.
        bus: gets ``CellStarted``, ``CellEnded`` and ``CellRetried``.
        session_id: the session, for events.
        timeout: seconds that an attempt may take.
    """

    def __init__(
        self,
        durable: DurableCells,
        workers: WorkerSupervisor,
        variables: WorkerVariables,
        checkpoints: CheckpointService,
        recorder: Recorder,
        notices: Notices,
        bus: EventBus,
        session_id: str,
        timeout: float,
    ) -> None:
        self._durable = durable
        self._workers = workers
        self._variables = variables
        self._checkpoints = checkpoints
        self._recorder = recorder
        self._notices = notices
        self._bus = bus
        self._session_id = session_id
        self._timeout = timeout
        #: Set to end the delay before another attempt, while there is one.
        self._interrupted: asyncio.Event | None = None

    async def attempt(
        self,
        request: m.ExecuteMessage,
        inputs_key: str | None = None,
        shown_as: str | None = None,
        *,
        must_record: bool = False,
    ) -> m.ResultMessage:
        """Run a cell once, and record how it ends. Notices are shown below it meanwhile.

        Args:
            request: the cell.
            inputs_key: names its inputs, if another attempt is to get their answers.
            shown_as: the id by which the client knows it, if that is another one.
            must_record: whether to wait until the attempt is recorded.

        Raises:
            ExecutionFailed: there is no result.
            CapsuleError: the attempt cannot be recorded; only with ``must_record``.
        """
        self._recorder.begin(request.id, shown_as)
        self._bus.publish(
            CellStarted(
                session_id=self._session_id,
                execution_id=request.id,
                execution_count=request.execution_count,
                cell_id=request.cell_id,
            )
        )
        try:
            result = (await self._durable.run(request, self._timeout, inputs_key)).result
        finally:
            self._notices.set_cell(None)
        self._bus.publish(self._recorder.end(request, self._session_id, result))
        if must_record:
            await self._recorder.written()
        if isinstance(result, ExecutionFailed):
            raise result
        self._checkpoints.cells.add(result.execution_count, request.code)
        return result

    async def run(self, request: m.ExecuteMessage, policy: RetryPolicy) -> m.ResultMessage:
        """Run a cell that does not belong to a run, until it succeeds or the policy allows no more attempts.

        Args:
            request: the cell.
            policy: how often, and after which delays.

        Raises:
            ExecutionFailed: the last attempt has no result.
        """
        checkpoint = None
        try:
            await self._workers.ready()
            checkpoint = await self._variables.save("before a cell with attempts")
        except ExecutionFailed as error:
            self._notices.add(f"another attempt starts from the state that this one leaves: {error}")
        cell = RunCell(0, b"", request.id, 1, checkpoint)
        return await self._repeat(request, policy, RunStepStart(cell, request.id, checkpoint, None), None)

    async def run_step(
        self, request: m.ExecuteMessage, policy: RetryPolicy, start: RunStepStart, run: RunCoordinator
    ) -> m.ResultMessage:
        """Run a cell of a run, until it succeeds or the policy allows no more attempts.

        Args:
            request: the cell.
            policy: how often, and after which delays.
            start: the first attempt.
            run: the run.

        Raises:
            ExecutionFailed: the last attempt has no result, or it cannot be recorded.
        """
        return await self._repeat(request, policy, start, run)

    def interrupt(self) -> bool:
        """End the delay before another attempt; return whether there was one. The cell fails as it did."""
        if self._interrupted is None:
            return False
        self._interrupted.set()
        return True

    async def _repeat(
        self, request: m.ExecuteMessage, policy: RetryPolicy, start: RunStepStart, run: RunCoordinator | None
    ) -> m.ResultMessage:
        """Make attempts, whose errors are all ``ExecutionFailed``."""
        try:
            return await self._make_attempts(request, policy, start, run)
        except ExecutionFailed:
            raise
        except (CapsuleError, OSError) as error:
            raise InternalError(f"the cell cannot be tried again, or recorded: {error}", request.id) from error
        finally:
            self._notices.set_cell(None)

    async def _make_attempts(
        self, request: m.ExecuteMessage, policy: RetryPolicy, start: RunStepStart, run: RunCoordinator | None
    ) -> m.ResultMessage:
        delay = policy.delay
        for left in range(policy.retries, -1, -1):
            attempt = request.model_copy(update={"id": start.step.execution_id})
            self._notices.set_cell(attempt.id)
            outcome: m.ResultMessage | ExecutionFailed
            try:
                outcome = await self.attempt(attempt, start.inputs, request.id, must_record=run is not None)
            except (WorkerDied, OutputDrainTimeout) as error:
                if not left:
                    raise
                outcome, failure = error, str(error)
            else:
                if outcome.status == "ok" and run is not None:
                    await self._recorder.act(partial(_record_success, run, start, self._checkpoints.latest))
                if outcome.status == "ok" or not left or is_permanent(outcome.ename):
                    return outcome
                failure = f"{outcome.ename}: {outcome.evalue}."
            self._report(attempt.id, policy.retries - left + 1, failure, delay, left)
            if await self._was_interrupted(delay):
                if isinstance(outcome, ExecutionFailed):
                    raise outcome
                return outcome
            start = await self._next(run, start, request.id)
            await self.restore(start.restore)
            delay *= 2
        raise AssertionError("the last attempt has returned")

    def _report(self, execution_id: str, attempt: int, failure: str, delay: float, left: int) -> None:
        """Replace the outputs of a failed attempt by the reason for the next one."""
        self._notices.set_cell(execution_id)
        self._bus.publish(
            CellRetried(session_id=self._session_id, execution_id=execution_id, attempt=attempt, failure=failure[:1000])
        )
        self._recorder.show(execution_id, m.ClearOutput())
        self._notices.add(f"{failure} Tried again in {delay:g} s; attempts left: {left}")

    async def _next(self, run: RunCoordinator | None, failed: RunStepStart, request_id: str) -> RunStepStart:
        """Return the attempt after a failed one."""
        if run is not None:
            return await self._recorder.act(lambda _: run.again(failed))
        turn = failed.step.turn + 1
        return replace(failed, step=replace(failed.step, execution_id=f"{request_id}-{turn}", turn=turn))

    async def restore(self, checkpoint: str | None) -> None:
        """Restore the variables of a checkpoint as soon as there is a worker; None to leave them as they are.

        Args:
            checkpoint: id of the checkpoint, of any session.

        Raises:
            CapsuleError: there is no worker, or the checkpoint cannot be restored.
        """
        await self._workers.ready()
        if checkpoint is not None:
            await self._variables.restore_to(checkpoint)

    async def _was_interrupted(self, seconds: float) -> bool:
        """Wait; return whether the user has interrupted that."""
        self._interrupted = asyncio.Event()
        try:
            await asyncio.wait_for(self._interrupted.wait(), seconds)
        except TimeoutError:
            return False
        finally:
            self._interrupted = None
        return True


def _record_success(run: RunCoordinator, start: RunStepStart, checkpoint: str | None, _: HistoryStores) -> None:
    if checkpoint is not None:
        run.succeeded(start, checkpoint)
