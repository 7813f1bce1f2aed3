"""Puts the parts together: engine, session, bridge, workers. What a front holds, and all that it talks to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from resonate.error import ResonateError

from capsule_durable import ids
from capsule_durable.checkpoints.recovery import RecoveredState, Recovery
from capsule_durable.checkpoints.service import CheckpointService
from capsule_durable.checkpoints.texts import not_restored
from capsule_durable.config.settings import Settings
from capsule_durable.engines.base import EMBEDDED, FILE, Engine, MemoryEngine, open_engine
from capsule_durable.errors import (
    CapsuleError,
    EngineUnavailable,
    ExecutionFailed,
)
from capsule_durable.execution import functions
from capsule_durable.execution.bridge import Bridge
from capsule_durable.execution.executor import CellExecutor
from capsule_durable.history.recorder import Recorder
from capsule_durable.messaging.capabilities import Capabilities, InputPrompt
from capsule_durable.messaging.debug_state import DebugState
from capsule_durable.messaging.requests import RequestDispatcher
from capsule_durable.messaging.session import Session
from capsule_durable.sandbox.resource_monitor import RunningCell
from capsule_durable.storage.errors import StoreError
from capsule_durable.workers.launcher import Launcher, WorkerHandle
from capsule_durable.workers.process import Exit
from capsule_durable.workers.standby_pool import Standby
from capsule_durable.workers.supervisor import WorkerSupervisor
from capsule_worker.protocol import Message
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol import messages as m
from capsule_worker.protocol.output_buffer import StreamName

logger = logging.getLogger(__name__)

#: Seconds that bringing variables back may take.
RESTORE_TIMEOUT = 600.0
#: Seconds; what an object does at the client's word is waited for as long as the worker lives.
_NO_TIMEOUT = 30 * 86400.0
#: Seconds after its limit at which a cell is given up whose worker is still there.
TIMEOUT_RESERVE = 60.0
#: Seconds after which an engine is tried again that could not be had.
ENGINE_RETRY = 30.0
#: Seconds after the start at which old records are forgotten: it must not compete with the first cells.
FORGET_DELAY = 5.0


class Runtime:
    """A running kernel session. Create it on the loop that it is to live on.

    Args:
        session_id: names the session.
        settings: the configuration.
        capabilities: the ways to the client.
        launcher: starts workers.
    """

    def __init__(self, session_id: str, settings: Settings, capabilities: Capabilities, launcher: Launcher) -> None:
        self.settings = settings
        self._record = Recorder(Path(settings.home) / FILE if settings.engine == EMBEDDED else None, capabilities)
        self._capabilities = capabilities = self._record.capabilities
        self._attempts = CellExecutor(settings, self._record, self)
        self._running: str | None = None
        self._launcher = launcher
        #: What the person is told with the next cell.
        self._notices: list[str] = []
        self._kernel = ids.slug(session_id)
        #: When to try the engine again that could not be had, in the loop's seconds; None while it can.
        self._retry_engine: float | None = None
        self._engine = self._open_engine()
        self.bridge = Bridge(
            self._engine,
            capabilities,
            lambda: self.workers.ready(),  # noqa: PLW0108  # the workers come later
            timedelta(seconds=settings.input_timeout),
            self._could_not_keep,
            self.warn,
        )
        self.session = Session(session_id, replace(capabilities, display=self._shown), self._ask_input)
        self.bridge.connect(self.session)
        self._notebook = os.environ.get("JPY_SESSION_NAME") or None
        #: Comms that are open, as far as the client knows; and how many messages for them are under way.
        self._comms: dict[str, str] = {}
        self._telling = 0
        self._debugging = DebugState()
        self.checkpoints = CheckpointService(settings, session_id, self._notebook, self.warn, launcher.session)
        self._recovery = Recovery(self.checkpoints)
        #: What the next worker begins with.
        self._recovered: RecoveredState | None = None
        #: Takes what earlier processes have left, while the first worker starts.
        self._beginning: asyncio.Task[None] | None = None
        self._forgetting: asyncio.TimerHandle | None = None
        #: The number of the next cell, where an earlier process of this kernel ran some.
        self.next_count = 1
        self.session.add_message_interceptor(self._intercept)
        self.workers = WorkerSupervisor(self.session, launcher, self, spare=settings.spare_worker)
        self._requests: RequestDispatcher | None = None
        self._furnish(self._engine)
        #: What the current worker said of itself; None until the first is ready.
        self.ready: m.ReadyMessage | None = None
        self._closing: asyncio.Task[None] | None = None

    def start(self, first: WorkerHandle | None = None) -> None:
        """Start the engine and the workers; ``first`` is a worker that is on its way already."""
        self._engine.resonate.start()
        self.checkpoints.start()
        self.workers.start(first)
        loop = asyncio.get_running_loop()
        self._beginning = loop.create_task(self._begin(), name="begin")
        age, size = self.settings.history_days, self.settings.history_size
        self._forgetting = loop.call_later(FORGET_DELAY, self._record.forget, age, size)

    async def execute(self, request: m.ExecuteMessage, said: Any = None) -> m.ResultMessage:
        """Run one cell durably.

        Args:
            request: the cell.
            said: what its metadata says for this kernel.

        Raises:
            ExecutionFailed: there is no result; the class says why.
        """
        if request.subshell is not None:
            # Beside the cells of the notebook, whose record and checkpoints go by their order.
            try:
                return await self._run(request)
            finally:
                self._engine.forget(ids.execution(request.id))
        self._running = request.id
        if not request.store_history:  # what a program asks beside a person's cells
            try:
                return await self._run(request)
            finally:
                self._over(request.id)
        notices, self._notices = self._notices, []
        for notice in notices:
            self.warn(notice)
        return await self._attempts.execute(request, said)

    @property
    def cell(self) -> RunningCell | None:
        """The cell that runs in the worker, if one does."""
        return self.bridge.cell

    @property
    def isolation(self) -> str:
        """How cells are kept apart, in a line."""
        return self._launcher.isolation

    @property
    def recorded(self) -> bool:
        """Whether the latest outcome came from the record."""
        return self._attempts.recorded

    # -- for attempts ----------------------------------------------------------------------------------------

    async def attempt(self, request: m.ExecuteMessage, inputs: str | None = None) -> m.ResultMessage:
        """Run a person's cell, and keep what becomes of it."""
        self._running = request.id
        outcome: m.ResultMessage | ExecutionFailed
        if request.id not in self._record:
            self._record.begin(request.id)
        self.note("cell started", execution=request.id, cell=request.execution_count)
        try:
            outcome = await self._run(request, inputs)
        except ExecutionFailed as error:
            outcome = error
        finally:
            self._over(request.id)
        self._record.end(request, self.checkpoints.session_id or self.session.id, outcome)
        if self.settings.run_id is not None:
            await self._record.written()
        if isinstance(outcome, ExecutionFailed):
            raise outcome
        self.ran(outcome, request.code)
        return outcome

    async def save(self, description: str) -> str | None:
        """Save the variables, and return the checkpoint; None where none are kept."""
        await self.workers.ready()
        if not await self.keeping():
            return None
        message = m.CheckpointMessage(id=self.session.next_request_id(), description=description)
        checkpoint: str = (await self.session.ask(message, RESTORE_TIMEOUT)).checkpoint_id
        return checkpoint

    async def go_back(self, checkpoint: str | None) -> None:
        """Bring the variables to the state of a checkpoint; leave them, without one."""
        await self.workers.ready()
        if checkpoint is not None:
            await self._restore(await self.checkpoints.fetch(checkpoint), clear=True)

    async def keeping(self) -> bool:
        """Whether checkpoints are kept."""
        return await self.checkpoints.is_enabled()

    @property
    def latest(self) -> str | None:
        """The checkpoint that the worker wrote last."""
        return self.checkpoints.latest

    def attend(self, execution_id: str | None) -> None:
        """Show what is to be said below the cell of an execution from now on; without one, below the next."""
        self._running = execution_id

    def ran(self, outcome: m.ResultMessage, code: str) -> None:
        """Take notice of a cell whose effects are in the variables now."""
        self.checkpoints.cells.add(outcome.execution_count, code)

    def note(self, what: str, **data: object) -> None:
        """Have something put into the ledger."""
        self._record.note(self.checkpoints.session_id or self.session.id, what, **data)

    async def _ask_input(self, execution_id: str, prompt: str, password: bool) -> str:
        self.note("input asked", execution=execution_id, password=password)
        answer = await self.bridge.ask(execution_id, prompt, password)
        self.note("input answered", execution=execution_id)
        return answer

    def _over(self, execution_id: str) -> None:
        self._running = None
        self._engine.forget(ids.execution(execution_id))

    # -- the engine ------------------------------------------------------------------------------------------

    def _open_engine(self) -> Engine:
        """Open the engine that is configured; where its store cannot be used, one that keeps nothing."""
        try:
            return open_engine(self.settings.engine, Path(self.settings.home), self._kernel)
        except StoreError as error:
            self._do_without(error)
            return MemoryEngine()

    def _do_without(self, error: Exception) -> None:
        """Say that outcomes are not kept, and try again later."""
        self._retry_engine = asyncio.get_running_loop().time() + ENGINE_RETRY
        self.warn(f"what comes of cells is not kept: {error}. Cells run; a death of the kernel forgets them")

    def _furnish(self, engine: Engine) -> None:
        """Give an engine what its functions need."""
        for dependency in (self.session, self.bridge, self._capabilities):
            engine.resonate.with_dependency(dependency)
        functions.register(engine.resonate)

    async def _change_engine(self, engine: Engine) -> None:
        """Go on with another engine."""
        before, self._engine = self._engine, engine
        self._furnish(engine)
        self.bridge.use(engine)
        engine.resonate.start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(before.close(), self.settings.shutdown_timeout)

    async def _try_engine_again(self) -> None:
        try:
            engine = open_engine(self.settings.engine, Path(self.settings.home), self._kernel)
        except StoreError:
            self._retry_engine = asyncio.get_running_loop().time() + ENGINE_RETRY
            return
        self._retry_engine = None
        await self._change_engine(engine)
        self.warn("what comes of cells is kept again")

    async def _run(self, request: m.ExecuteMessage, inputs: str | None = None) -> m.ResultMessage:
        """Run a cell on the engine; if it cannot take the cell, on one that keeps nothing."""
        loop = asyncio.get_running_loop()
        if self._retry_engine is not None and loop.time() >= self._retry_engine:
            await self._try_engine_again()
        timeout = functions.DEFAULT_TIMEOUT
        if self.settings.execution_timeout is not None:
            # The worker is ended before: this is for where that does not help.
            timeout = self.settings.execution_timeout + TIMEOUT_RESERVE
        while True:
            try:
                return await functions.run_cell(self._engine.resonate, self.bridge, request, timeout, inputs)
            except EngineUnavailable as error:
                self._do_without(error)
                await self._change_engine(MemoryEngine())

    def _could_not_keep(self, execution_id: str) -> None:
        """Say that the engine does not have the outcome of the running cell."""
        if execution_id == self._running:
            self.warn("what came of this cell is not kept: the store of promises could not be written")

    async def ask(self, make: Callable[[str], Any]) -> Any:
        """Ask the worker a question about code or names.

        Args:
            make: makes the message for a request id.

        Raises:
            ExecutionFailed: no answer, in time or at all.
        """
        await self.workers.ready()
        return await self.session.ask(make(self.session.next_request_id()), self.settings.request_timeout)

    async def interrupt(self) -> None:
        """Interrupt the running cell, if one runs; one that waits for another attempt fails as it did."""
        if self._attempts.interrupt():
            return
        running, worker = self._running, self.workers.current
        if worker is None or (running is None and not self._telling):
            return
        # A signal needs nobody's leave, not even the interpreter's, and one that comes late hits nothing: the next
        # cell is sent only after this one's result has been read.
        try:
            worker.interrupt()
        except PermissionError:
            message = m.InterruptMessage(id=self.session.next_request_id(), execution_id=running)
            with contextlib.suppress(ExecutionFailed):
                await self.session.ask(message, self.settings.request_timeout)
        if self._debugging.stopped:
            # The interrupt waits where the cell has stopped.
            with contextlib.suppress(ExecutionFailed):
                go_on = {"type": "request", "command": "continue", "arguments": {"threadId": 0}}
                await self._debug(go_on, self.settings.request_timeout)

    # -- comms -----------------------------------------------------------------------------------------------

    async def tell(self, make: Callable[[str], m.CommMessage]) -> None:
        """Tell an object of the notebook's what the client says to it, and wait until it has taken it.

        That may take as long as a cell: in a worker that runs one it comes after that.

        Args:
            make: makes the message for a request id.

        Raises:
            ExecutionFailed: the worker cannot take it.
        """
        message = make(self.session.next_request_id())
        if message.event == "close":
            self._comms.pop(message.comm_id, None)
        elif message.event == "open":
            self._comms[message.comm_id] = message.target_name or ""
        self._telling += 1
        try:
            await self.session.ask(message, _NO_TIMEOUT)
        finally:
            self._telling -= 1

    @property
    def comms(self) -> dict[str, str]:
        """The comms that are open: the names of their targets, by id."""
        return dict(self._comms)

    def _shown(self, execution_id: str, output: m.Output) -> None:
        """Take notice of comms that the worker opens and closes."""
        if isinstance(output, m.CommOutput):
            if output.event == "open":
                self._comms[output.comm_id] = output.target_name or ""
            elif output.event == "close":
                self._comms.pop(output.comm_id, None)
        elif isinstance(output, m.DebugOutput):
            self._debugging.happened(output.event)
        self._capabilities.display(execution_id, output)

    async def _close_lost_comms(self) -> None:
        """Tell the client which comms ended with the worker before this one."""
        if not self._comms:
            return
        known = await self.session.ask(m.CommInfoMessage(id=self.session.next_request_id()), RESTORE_TIMEOUT)
        lost = [comm_id for comm_id in self._comms if comm_id not in known.targets]
        for comm_id in lost:
            self._shown("", m.CommOutput(event="close", comm_id=comm_id))
        if lost:
            what = "a widget, or another comm," if len(lost) == 1 else f"{len(lost)} widgets, or other comms,"
            self.warn(f"{what} ended with the process: run the cells that show them again")

    # -- debugging -------------------------------------------------------------------------------------------

    async def debug(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the debugger's response to a request; that may take until the running cell stops.

        Args:
            request: a request of the Debug Adapter Protocol.

        Raises:
            ExecutionFailed: the worker cannot take it.
        """
        reply = await self._debug(request, _NO_TIMEOUT)
        self._debugging.asked(request, reply)
        return reply

    async def _debug(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        message = m.DebugMessage(id=self.session.next_request_id(), request=request)
        reply: dict[str, Any] = (await self.session.ask(message, timeout)).reply
        return reply

    async def _debug_again(self) -> None:
        """Go on debugging in a new worker, with the breakpoints that the one before had."""
        for event in self._debugging.left():
            self._capabilities.display("", m.DebugOutput(event=event))
        for request in self._debugging.requests():
            await self._debug(request, RESTORE_TIMEOUT)

    def answer(self, question: InputPrompt, value: str) -> None:
        """Take the client's answer to a question."""
        self.bridge.answer(question, value)

    def answer_secret(self, input_id: str, value: str) -> bool:
        """Take the answer to a password prompt from another terminal; return whether it waits here."""
        return self.bridge.answer_secret(input_id, value)

    async def close(self) -> None:
        """End everything: let the worker leave in order, end what stays, settle what is pending. Idempotent."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(), name="close")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for waiting in (self._beginning, self._forgetting):
            if waiting is not None:
                waiting.cancel()
        await self.checkpoints.mark_ended()
        self.workers.stop_supervising()
        if self.workers.current is not None and self.ready is not None and self._running is None:
            with contextlib.suppress(ExecutionFailed):
                message = m.ShutdownMessage(id=self.session.next_request_id())
                await self.session.ask(message, self.settings.shutdown_timeout)
        await self.workers.close()
        await self.bridge.close()
        self.note("session ended")
        with contextlib.suppress(CapsuleError):
            await self._attempts.close()
        await self._record.close()
        if self._requests is not None:
            await self._requests.close()
        await self.session.close()
        await self.checkpoints.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._engine.close(), self.settings.shutdown_timeout)
        # Its last look ends what the cells started and what is still there.
        warden = self._launcher.close()
        if warden is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(warden.process.wait, self.settings.shutdown_timeout)

    # -- the lives of workers --------------------------------------------------------------------------------

    async def prepare(self, ready: m.ReadyMessage) -> None:
        """Remember what the worker said of itself; have it keep checkpoints, and give it a dead one's variables."""
        self.ready = ready
        if self._beginning is not None:
            await asyncio.wait({self._beginning})
        keep = await self.checkpoints.configure()
        self.note("worker started", process=ready.pid)
        if keep is not None:
            self.session.send(keep)
            recovered, self._recovered = self._recovered, None
            if recovered is not None and recovered.manifest is not None:
                await self._restore(recovered.manifest)
        with contextlib.suppress(ExecutionFailed):
            await self._close_lost_comms()
            await self._debug_again()

    async def _begin(self) -> None:
        """Begin the session, and take what earlier processes have left: nothing of it needs a worker."""
        try:
            if self._engine.durable:
                await self.bridge.settle_abandoned()
        except ResonateError as error:
            logger.warning("what an earlier process of this kernel was doing stays unsettled: %s", error)
        keep = await self.checkpoints.configure()
        self.note("session started", notebook=self._notebook, kernel=self.session.id)
        if keep is not None and self.settings.run_id is None:
            try:
                await self._inherit()
            # A kernel without its variables is better than none.
            except Exception:
                logger.exception("what an earlier process has left could not be taken")

    async def _inherit(self) -> None:
        """Take what an earlier process of this kernel, or of this notebook, has left."""
        recovered = self._recovered = await self._recovery.at_start()
        if recovered is not None:
            self.warn(recovered.text)
            if recovered.manifest is not None:
                self.next_count = recovered.manifest.execution_count + 1

    async def _restore(self, manifest: mf.Manifest, *, clear: bool = False) -> None:
        """Bring variables back; say which do not come, beyond those that were not saved."""
        self.note("variables restored", checkpoint=manifest.id)
        message = m.RestoreMessage(id=self.session.next_request_id(), manifest=mf.dump(manifest), clear_existing=clear)
        try:
            reply = await self.session.ask(message, RESTORE_TIMEOUT)
        except ExecutionFailed as error:
            self.warn(f"the variables could not be restored: {error}")
            if clear:
                raise
            return
        announced = {each.name for each in manifest.variables if each.reason is not None}
        failed = {name: reason for name, reason in reply.failed.items() if name not in announced}
        if failed or reply.notes:
            problem = not_restored(manifest, failed, self.checkpoints.session_id or "")
            self.warn(" ".join([*([problem] if problem else []), *(f"Not restored: {note}." for note in reply.notes)]))

    async def recover(self) -> str:
        """Find out what comes back of a dead worker's variables."""
        self._recovered = await self._recovery.after_death()
        return self._recovered.text

    def succeed(self, standby: Standby) -> str:
        """Take notice that a copy of the dead worker takes its place."""
        self._recovered = None
        self.note("standby took over", cell=standby.execution_count)
        return self._recovery.took_over(standby.execution_count).text

    def warn(self, text: str) -> None:
        """Tell a person something: below the running cell, or below the next one."""
        if self._running is not None:
            self._capabilities.stream(self._running, m.StreamOutput(name="stderr", text=f"capsule: {text}\n"))
        else:
            self._notices.append(text)

    def _intercept(self, message: Message) -> None:
        match message:
            case m.CheckpointSavedMessage():
                self.checkpoints.record_saved(message)
                self.note("checkpoint made", checkpoint=message.checkpoint_id)
            case m.RestoreFinishedMessage():
                self.checkpoints.record_restored(message)
                self.note("variables restored", checkpoint=message.checkpoint_id)
            case m.RequestMessage():
                self._get_requests().dispatch(message)

    def _get_requests(self) -> RequestDispatcher:
        """Return the dispatcher of requests. Most of what it needs is imported with the first request."""
        if self._requests is None:
            from capsule_durable.execution import checkpoint_requests

            context = checkpoint_requests.RequestContext(
                self.checkpoints, self._recovery, self.workers, self._launcher, self._capabilities
            )
            self._requests = RequestDispatcher(self.session.send, self._capabilities.render)
            checkpoint_requests.register(self._requests, context)
        return self._requests

    def worker_wrote(self, name: StreamName, text: str) -> None:
        """Show what a mute worker wrote, below the cell that runs."""
        if self._running is not None:
            self._capabilities.stream(self._running, m.StreamOutput(name=name, text=text))

    def worker_died(self, end: Exit, error: Callable[[str], ExecutionFailed]) -> None:
        """Show the worker's last words below the cell, and reject the execution; if none was sent, tell the next."""
        execution_id = self._running
        self.note("worker died", status=end.returncode, execution=execution_id)
        if execution_id is not None and self.bridge.is_running(execution_id):
            for name, text in end.last_words:
                self._capabilities.stream(execution_id, m.StreamOutput(name=name, text=text))
            if end.stack:
                self._capabilities.stream(execution_id, m.StreamOutput(name="stderr", text=end.stack))
        else:
            self.warn(str(error("")))
        self.bridge.worker_died(error)
