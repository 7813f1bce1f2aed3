"""A running kernel session: constructs its parts, starts them, and closes them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from capsule_durable import ids
from capsule_durable.checkpoints.recovery import Recovery
from capsule_durable.checkpoints.service import CheckpointService
from capsule_durable.config.settings import Settings
from capsule_durable.engines.base import EngineContext
from capsule_durable.engines.registry import open_engine
from capsule_durable.errors import CapsuleError, ExecutionFailed
from capsule_durable.execution.bridge import Bridge
from capsule_durable.execution.durable_cells import DurableCells
from capsule_durable.execution.engine_failover import FailoverEngine
from capsule_durable.execution.executor import CellExecutor
from capsule_durable.execution.inputs import InputBroker
from capsule_durable.history.recorder import Recorder
from capsule_durable.history.schema import FILE as HISTORY_FILE
from capsule_durable.messaging.capabilities import Capabilities
from capsule_durable.messaging.comm_registry import CommRegistry
from capsule_durable.messaging.debug_state import DebugRelay
from capsule_durable.messaging.notices import Notices
from capsule_durable.messaging.requests import RequestDispatcher
from capsule_durable.messaging.session import Session
from capsule_durable.telemetry import events
from capsule_durable.telemetry.bus import EventBus
from capsule_durable.telemetry.log_observer import LogObserver
from capsule_durable.workers.channels import WorkerHandle
from capsule_durable.workers.launcher import Launcher
from capsule_durable.workers.setup import WorkerSetup
from capsule_durable.workers.supervisor import WorkerSupervisor
from capsule_durable.workers.variables import WorkerVariables
from capsule_worker.protocol import Message
from capsule_worker.protocol import messages as m

logger = logging.getLogger(__name__)

#: Seconds after the start at which old records are deleted: that must not compete with the first cells.
FORGET_DELAY = 5.0


class Runtime:
    """A running kernel session. Create it on the loop that serves it.

    Args:
        kernel: identifies the kernel, also across its restarts.
        settings: the configuration.
        capabilities: reach the client.
        launcher: starts workers.
    """

    def __init__(self, kernel: str, settings: Settings, capabilities: Capabilities, launcher: Launcher) -> None:
        self.settings = settings
        self._launcher = launcher
        notebook = os.environ.get("JPY_SESSION_NAME") or None
        own_id = launcher.session or ids.new_session_id(time.time())
        #: The id of the session in the catalogue, the history and events.
        self.session_id = kernel if settings.checkpoints == "off" else own_id
        self.bus = EventBus()
        LogObserver(self.bus)
        publishing = self.bus, self.session_id
        self.notices = Notices()
        history = Path(settings.home) / HISTORY_FILE if settings.history_days else None
        self._recorder = Recorder(history, capabilities, self.bus, self.notices.add)
        capabilities = self._recorder.capabilities
        self.notices.connect(capabilities.stream)
        self._engine = FailoverEngine(
            partial(open_engine, settings.engine, EngineContext(Path(settings.home), ids.slug(kernel))),
            self.notices,
            *publishing,
            settings.shutdown_timeout,
        )
        #: The inputs that cells wait for.
        self.inputs = InputBroker(
            self._engine, capabilities.prompt, *publishing, timedelta(seconds=settings.input_timeout)
        )
        #: The open comms.
        self.comms = CommRegistry(capabilities.display)
        #: The client's debugger.
        self.debug = DebugRelay(self.comms.display)
        self._capabilities = capabilities = replace(capabilities, display=self.debug.display)
        self.session = Session(kernel, capabilities, self.inputs.ask)
        self.comms.connect(self.session)
        self.debug.connect(self.session)
        self.checkpoints = CheckpointService(settings, kernel, notebook, self.notices.add, self.session_id)
        self._recovery = Recovery(self.checkpoints)
        variables = WorkerVariables(self.session, self.checkpoints, self.notices, *publishing)
        self._setup = WorkerSetup(
            self.session,
            self.checkpoints,
            self._recovery,
            variables,
            self.comms,
            self.debug,
            self.notices,
            *publishing,
        )
        self.workers = WorkerSupervisor(
            self.session,
            launcher,
            self._setup,
            self._recovery,
            capabilities,
            self.notices,
            *publishing,
            spare=settings.spare_worker,
        )
        self.bridge = Bridge(self._engine, self.workers, self.inputs, capabilities, self.notices)
        self.bridge.connect(self.session)
        self.session.add_message_interceptor(
            self._intercept,
            m.CheckpointSavedMessage,
            m.CheckpointFailedMessage,
            m.RestoreFinishedMessage,
            m.RequestMessage,
        )
        #: Runs cells.
        self.cells = CellExecutor(
            settings,
            DurableCells(self._engine, self.bridge),
            self.workers,
            variables,
            self.checkpoints,
            self._recorder,
            self.notices,
            *publishing,
        )
        self._requests = RequestDispatcher(self.session.send, capabilities.render, self._load_handlers)
        self._starting: asyncio.Task[None] | None = None
        self._forgetting: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def isolation(self) -> str:
        """Which layers of the requested isolation are active and which are not, in a line."""
        return self._launcher.isolation

    @property
    def worker_info(self) -> m.ReadyMessage | None:
        """What the current worker has reported of itself; None until the first worker is ready."""
        return self._setup.ready

    def start(self, first: WorkerHandle | None = None) -> None:
        """Start the engine and the workers.

        Args:
            first: a worker that was started earlier; by default one is started.
        """
        self._engine.start(self.bridge, self.inputs)
        self.checkpoints.start()
        self.workers.start(first)
        loop = asyncio.get_running_loop()
        self._starting = loop.create_task(self._start_session(), name="start")
        days, size = self.settings.history_days, self.settings.history_size
        self._forgetting = loop.call_later(FORGET_DELAY, self._recorder.forget, days, size)

    async def _start_session(self) -> None:
        """Settle the work of earlier processes, and determine the first worker's variables; needs no worker."""
        try:
            if self._engine.current.durable:
                await self.bridge.settle_abandoned()
        # Cells run, whatever an earlier process has left.
        except Exception as error:
            logger.warning("the work of an earlier process of this kernel stays unsettled: %r", error)
        await self.checkpoints.is_enabled()
        self.bus.publish(
            events.KernelSessionStarted(
                session_id=self.session_id, notebook=self.checkpoints.notebook, kernel=self.session.id
            )
        )
        recovered = await self._setup.inherit(wanted=self.settings.run_id is None)
        if recovered is not None and recovered.manifest is not None:
            self.cells.next_count = recovered.manifest.execution_count + 1

    async def ask(self, make: Callable[[str], Any]) -> Any:
        """Send the worker a request about code or names and return its reply.

        Args:
            make: makes the message for a request id.

        Raises:
            ExecutionFailed: no reply came in time, or none will.
        """
        await self.workers.ready()
        return await self.session.ask(make(self.session.next_request_id()), self.settings.request_timeout)

    async def interrupt(self) -> None:
        """Interrupt the running cell, if one runs. A cell that waits for another attempt fails as it did."""
        if self.cells.interrupt():
            return
        running, worker = self.notices.cell, self.workers.current
        if worker is None or (running is None and not self.comms.pending):
            return
        # A signal needs neither the main loop of the worker nor its interpreter. One that comes late has no effect: the
        # next cell is sent only after this one's result was read.
        try:
            worker.interrupt()
        except PermissionError:
            message = m.InterruptMessage(id=self.session.next_request_id(), execution_id=running)
            with contextlib.suppress(ExecutionFailed):
                await self.session.ask(message, self.settings.request_timeout)
        # The interrupt has no effect while the cell is stopped in the debugger.
        with contextlib.suppress(ExecutionFailed):
            await self.debug.resume(self.settings.request_timeout)

    # -- what the worker sends on its own ----------------------------------------------------------------------

    def _intercept(self, message: Message) -> None:
        match message:
            case m.CheckpointSavedMessage():
                self.checkpoints.record_saved(message)
                self.bus.publish(
                    events.CheckpointSaved(
                        session_id=self.session_id,
                        checkpoint_id=message.checkpoint_id,
                        bytes_written=message.bytes_written,
                        duration=message.duration,
                    )
                )
            case m.CheckpointFailedMessage():
                self.bus.publish(events.CheckpointFailed(session_id=self.session_id, reason=message.reason))
            case m.RestoreFinishedMessage():
                self.checkpoints.record_restored(message)
                self.bus.publish(
                    events.VariablesRestored(
                        session_id=self.session_id, checkpoint_id=message.checkpoint_id, failed=dict(message.failed)
                    )
                )
            case m.RequestMessage():
                self._requests.dispatch(message)

    def _load_handlers(self, dispatcher: RequestDispatcher) -> None:
        """Register the handlers of requests, which need more modules than a kernel that starts."""
        from capsule_durable.execution import checkpoint_requests

        context = checkpoint_requests.RequestContext(
            self.checkpoints, self._recovery, self.workers, self._launcher, self._capabilities
        )
        checkpoint_requests.register(dispatcher, context)

    # -- the end -----------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close everything: let the worker end in order, kill what stays, settle what is pending. Idempotent."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(), name="close")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for waiting in (self._starting, self._forgetting):
            if waiting is not None:
                waiting.cancel()
        for step in (
            self.checkpoints.mark_ended,
            self._end_worker,
            self.workers.close,
            self.bridge.close,
            self._end_run,
            self._recorder.close,
            self._requests.close,
            self.session.close,
            self.checkpoints.close,
            self._engine.close,
            self._end_forkserver,
        ):
            try:
                await step()
            # A step that fails does not keep the others from closing.
            except Exception:
                logger.exception("%s failed while the kernel was closing", step.__qualname__)

    async def _end_worker(self) -> None:
        """Let the worker save and exit, unless it runs a cell."""
        self.workers.stop_supervising()
        if self.workers.current is not None and self.worker_info is not None and self.notices.cell is None:
            with contextlib.suppress(ExecutionFailed):
                message = m.ShutdownMessage(id=self.session.next_request_id())
                await self.session.ask(message, self.settings.shutdown_timeout)

    async def _end_run(self) -> None:
        """Record the end of the session, and let another process continue the run."""
        self.bus.publish(events.KernelSessionEnded(session_id=self.session_id, reason="shutdown"))
        with contextlib.suppress(CapsuleError):
            await self.cells.close()

    async def _end_forkserver(self) -> None:
        """End the forkserver, which ends what the cells have started and what still runs."""
        forkserver = self._launcher.close()
        if forkserver is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(forkserver.process.wait, self.settings.shutdown_timeout)
