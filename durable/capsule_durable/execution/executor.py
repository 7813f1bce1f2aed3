"""Whether a cell runs at all, and how often: as part of a run, and by its policy."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from capsule_durable.config.settings import Settings
from capsule_durable.errors import (
    CapsuleError,
    EngineUnavailable,
    ExecutionFailed,
    InternalError,
    OutputDrainTimeout,
    WorkerDied,
)
from capsule_durable.execution.retry_policy import RetryPolicy, from_metadata, is_permanent, split
from capsule_durable.execution.runs import RunCoordinator, RunStepStart
from capsule_durable.history.cells import CellRecord
from capsule_durable.history.recorder import HistoryStores, Recorder
from capsule_durable.history.runs import LEASE, RunCell, RunTaken
from capsule_durable.storage.process_identity import this_process
from capsule_durable.telemetry.events import CellReplayed, CellRetried, Event
from capsule_worker.protocol import messages as m

#: Seconds for which a run that another process has is waited for, and between two looks.
RUN_TIMEOUT, RUN_POLL_INTERVAL = 5.0, 0.1


class Host(Protocol):
    """What runs cells."""

    @property
    def latest(self) -> str | None:
        """The checkpoint that the worker wrote last; None where there is none."""

    async def attempt(self, request: m.ExecuteMessage, inputs: str | None = None) -> m.ResultMessage:
        """Run a person's cell, and have the record keep what becomes of it.

        Args:
            request: the cell.
            inputs: names its inputs, if another attempt is to have their answers.

        Raises:
            ExecutionFailed: there is no result.
        """

    async def save(self, description: str) -> str | None:
        """Save the variables, and return the checkpoint; None where no checkpoints are kept."""

    async def go_back(self, checkpoint: str | None) -> None:
        """Bring the variables to the state of a checkpoint; leave them, without one."""

    async def keeping(self) -> bool:
        """Whether checkpoints are kept."""

    def attend(self, execution_id: str | None) -> None:
        """Show what is to be said below the cell of an execution from now on; without one, below the next."""

    def ran(self, outcome: m.ResultMessage, code: str) -> None:
        """Take notice of a cell whose effects are in the variables now."""

    def publish(self, kind: type[Event], execution_id: str | None = None, **fields: Any) -> None:
        """Publish an event."""

    def warn(self, text: str) -> None:
        """Tell a person something."""


class CellExecutor:
    """Runs a person's cells, as often as it takes.

    Args:
        settings: the configuration.
        record: what is kept of cells.
        host: runs them.
    """

    def __init__(self, settings: Settings, record: Recorder, host: Host) -> None:
        self._settings, self._record, self._host = settings, record, host
        self._usual = RetryPolicy(settings.retries, settings.retry_delay)
        #: The notebook as a whole, if it is executed under an id.
        self._run: RunCoordinator | None = None
        self._renewing: asyncio.Task[None] | None = None
        #: Set to end the pause before another attempt at a cell, while there is one.
        self._pausing: asyncio.Event | None = None
        #: Whether the latest outcome came from the record.
        self.recorded = False

    async def execute(self, request: m.ExecuteMessage, said: Any = None) -> m.ResultMessage:
        """Run a cell, or bring its outcome back; try again if it fails, as often as that is wanted.

        Args:
            request: the cell.
            said: what its metadata says for this kernel.

        Raises:
            ExecutionFailed: there is no result.
        """
        usual = self._usual
        try:
            usual = from_metadata(said, usual)
        except ValueError as error:
            self._host.warn(f"the cell's metadata is ignored: {error}")
        policy, code = split(request.code, usual)
        if code is not request.code:
            request = request.model_copy(update={"code": code})
        if self._settings.run_id is not None:
            return await self._go_through(request, policy)
        if policy.retries:
            return await self._run_with_retries(request, policy, await self._alone(request))
        return await self._host.attempt(request)

    def interrupt(self) -> bool:
        """End the pause before another attempt; return whether there was one."""
        if self._pausing is None:
            return False
        self._pausing.set()
        return True

    async def close(self) -> None:
        """Let another process go on with the run.

        Raises:
            StoreError: that cannot be said.
        """
        if self._renewing is not None:
            self._renewing.cancel()
        run = self._run
        if run is not None:
            await self._record.act(lambda _: run.close())

    # -- runs ------------------------------------------------------------------------------------------------

    async def _go_through(self, request: m.ExecuteMessage, policy: RetryPolicy) -> m.ResultMessage:
        """Run a cell of a run, unless that was done already."""
        self.recorded = False
        try:
            run = await self._get_run()
            coming = await self._record.act(lambda _: run.next(request.code))
            if isinstance(coming, CellRecord):
                return self._repeat(coming, request.id)
            if coming.notice is not None:
                self._host.warn(coming.notice)
            await self._host.go_back(coming.restore)
        except ExecutionFailed:
            self._host.attend(None)
            raise
        except (CapsuleError, OSError) as error:
            self._host.attend(None)
            raise InternalError(f"the run cannot go on: {error}", request.id) from error
        return await self._run_with_retries(request, policy, coming)

    async def _get_run(self) -> RunCoordinator:
        run_id = self._settings.run_id
        assert run_id is not None
        if self._run is None:
            if not await self._host.keeping():
                raise EngineUnavailable("a run needs checkpoints, and none are kept")
            owner, until = str(this_process()), asyncio.get_running_loop().time() + RUN_TIMEOUT
            options = {"retries": self._settings.retries, "retry_delay": self._settings.retry_delay}
            while self._run is None:
                try:
                    self._run = await self._record.act(lambda stores: RunCoordinator(stores, run_id, owner, options))
                except RunTaken:
                    # Its kernel may be about to end.
                    if asyncio.get_running_loop().time() > until:
                        raise
                    await asyncio.sleep(RUN_POLL_INTERVAL)
            self._renewing = asyncio.get_running_loop().create_task(self._renew(self._run), name="run")
        return self._run

    async def _renew(self, run: RunCoordinator) -> None:
        """Say now and then that this process lives, for those of other machines."""
        while True:
            await asyncio.sleep(LEASE / 4)
            with contextlib.suppress(CapsuleError):
                await self._record.act(lambda _: run.renew())

    def _repeat(self, cell: CellRecord, shown_as: str) -> m.ResultMessage:
        """Show again what a cell has shown, and return its outcome."""
        self._host.publish(CellReplayed, cell.execution_id, run_id=self._settings.run_id)
        self.recorded = True
        self._host.attend(None)
        for output in cell.outputs:
            self._record.show(shown_as, output)
        assert cell.outcome is not None
        self._host.ran(cell.outcome, cell.code)
        return cell.outcome.model_copy(update={"execution_id": shown_as})

    # -- attempts --------------------------------------------------------------------------------------------

    async def _alone(self, request: m.ExecuteMessage) -> RunStepStart:
        """Return the first attempt at a cell that is no run's, and save what the others begin with."""
        checkpoint = None
        try:
            checkpoint = await self._host.save("before a cell with attempts")
        except ExecutionFailed as error:
            self._host.warn(f"another attempt will begin with what this one leaves: {error}")
        return RunStepStart(RunCell(0, b"", request.id, 1, checkpoint), request.id, checkpoint, None)

    async def _run_with_retries(
        self, request: m.ExecuteMessage, policy: RetryPolicy, coming: RunStepStart
    ) -> m.ResultMessage:
        """Run a cell; try again if it fails, as often as that is wanted."""
        run, pause = self._run, policy.delay
        for left in range(policy.retries, -1, -1):
            attempt = request.model_copy(update={"id": coming.step.execution_id})
            self._record.begin(attempt.id, request.id)
            outcome: m.ResultMessage | ExecutionFailed
            try:
                outcome = await self._host.attempt(attempt, coming.inputs)
            except (WorkerDied, OutputDrainTimeout) as error:
                if not left:
                    raise
                outcome, failure = error, str(error)
            else:
                if outcome.status == "ok" and run is not None:
                    await self._record.act(partial(_note_success, run, coming, self._host.latest))
                if outcome.status == "ok" or not left or is_permanent(outcome.ename):
                    return outcome
                failure = f"{outcome.ename}: {outcome.evalue}."
            self._host.attend(attempt.id)
            self._host.publish(CellRetried, attempt.id, attempt=policy.retries - left + 1, failure=failure[:1000])
            self._record.show(attempt.id, m.ClearOutput())
            self._host.warn(f"{failure} Tried again in {pause:g} s; attempts left: {left}")
            if await self._was_interrupted(pause):
                self._host.attend(None)
                if isinstance(outcome, ExecutionFailed):
                    raise outcome
                return outcome
            coming = await self._next(run, coming, request.id)
            await self._host.go_back(coming.restore)
            pause *= 2
        raise AssertionError("the last attempt has returned")

    async def _next(self, run: RunCoordinator | None, failed: RunStepStart, request_id: str) -> RunStepStart:
        """Return another attempt."""
        if run is not None:
            return await self._record.act(lambda _: run.again(failed))
        turn = failed.step.turn + 1
        return replace(failed, step=replace(failed.step, execution_id=f"{request_id}-{turn}", turn=turn))

    async def _was_interrupted(self, seconds: float) -> bool:
        """Wait; return whether somebody did not want to."""
        self._pausing = asyncio.Event()
        try:
            await asyncio.wait_for(self._pausing.wait(), seconds)
        except TimeoutError:
            return False
        finally:
            self._pausing = None
        return True


def _note_success(run: RunCoordinator, done: RunStepStart, checkpoint: str | None, _: HistoryStores) -> None:
    if checkpoint is not None:
        run.succeeded(done, checkpoint)
