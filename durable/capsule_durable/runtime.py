"""Puts the parts together: engine, session, bridge, workers. What a front holds, and all that it talks to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from capsule_durable import functions, ids
from capsule_durable.bridge import Bridge
from capsule_durable.capabilities import Capabilities, Question
from capsule_durable.checkpoints.commands import missing
from capsule_durable.checkpoints.keeper import Keeper, Recovery
from capsule_durable.engine import open_engine
from capsule_durable.errors import ExecutionFailed, TransportClosed
from capsule_durable.launcher import Launched, Launcher
from capsule_durable.session import Session
from capsule_durable.settings import Settings
from capsule_durable.standbys import Standby
from capsule_durable.worker import Exit
from capsule_durable.workers import Workers
from capsule_worker.protocol import Message
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol import messages as m
from capsule_worker.protocol.journal import StreamName

#: Seconds that bringing variables back may take.
RESTORE_TIMEOUT = 600.0


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
        self._capabilities = capabilities
        self._launcher = launcher
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._engine = open_engine(settings.engine)
        resonate = self._engine.resonate
        self.bridge = Bridge(
            resonate.promises,
            self._engine.result_of,
            self._engine.target,
            capabilities,
            lambda: self.workers.ready(),  # noqa: PLW0108  # the workers come later
            timedelta(seconds=settings.input_timeout),
        )
        self.session = Session(session_id, capabilities, self.bridge.ask)
        self.bridge.connect(self.session)
        self.keeper = Keeper(settings, session_id, os.environ.get("JPY_SESSION_NAME") or None, self._warn)
        self._recovery: Recovery | None = None
        #: What the person is told with the next cell.
        self._notices: list[str] = []
        self._commands: set[asyncio.Task[None]] = set()
        self.session.add_message_interceptor(self._intercept)
        self.workers = Workers(self.session, launcher, self, spare=settings.spare)
        for dependency in (self.session, self.bridge, capabilities):
            resonate.with_dependency(dependency)
        functions.register(resonate)
        #: What the current worker said of itself; None until the first is ready.
        self.ready: m.ReadyMessage | None = None
        self._running: str | None = None
        self._closing: asyncio.Task[None] | None = None

    def start(self, first: Launched | None = None) -> None:
        """Start the engine and the workers; ``first`` is a worker that is on its way already."""
        self._watchdog = self._launcher.start_watchdog()
        self._engine.resonate.start()
        self.keeper.start()
        self.workers.start(first)

    async def execute(self, request: m.ExecuteMessage) -> m.ResultMessage:
        """Run one cell durably.

        Raises:
            ExecutionFailed: there is no result; the class says why.
        """
        self._running = request.id
        if request.store_history:  # a person's cell, and not what a program asks beside it
            notices, self._notices = self._notices, []
            for notice in notices:
                self._warn(notice)
        try:
            result = await functions.run_cell(
                self._engine.resonate, request, self.settings.execution_timeout or functions.DEFAULT_TIMEOUT
            )
            if request.store_history:
                self.keeper.ran(result.execution_count, request.code)
            return result
        finally:
            self._running = None
            self._engine.retire(ids.execution(request.id))

    async def ask(self, make: Callable[[str], Any]) -> Any:
        """Ask the worker a question about code or names.

        Args:
            make: makes the message for a request id.

        Raises:
            ExecutionFailed: no answer, in time or at all.
        """
        await self.workers.ready()
        return await self.session.ask(make(self.session.next_request_id()), self.settings.question_timeout)

    async def interrupt(self) -> None:
        """Interrupt the running cell, if one runs."""
        running, worker = self._running, self.workers.current
        if running is None or worker is None:
            return
        # A signal needs nobody's leave, not even the interpreter's, and one that comes late hits nothing: the next
        # cell is sent only after this one's result has been read.
        try:
            worker.interrupt()
        except PermissionError:
            message = m.InterruptMessage(id=self.session.next_request_id(), execution_id=running)
            with contextlib.suppress(ExecutionFailed):
                await self.session.ask(message, self.settings.question_timeout)

    def answer(self, question: Question, value: str) -> None:
        """Take the client's answer to a question."""
        self.bridge.answer(question, value)

    async def close(self) -> None:
        """End everything: let the worker leave in order, end what stays, settle what is pending. Idempotent."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(), name="close")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self.workers.let_leave()
        if self.workers.current is not None and self.ready is not None and self._running is None:
            with contextlib.suppress(ExecutionFailed):
                message = m.ShutdownMessage(id=self.session.next_request_id())
                await self.session.ask(message, self.settings.shutdown_timeout)
        await self.workers.close()
        await self.bridge.close()
        await self.session.close()
        await self.keeper.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._engine.resonate.stop(), self.settings.shutdown_timeout)
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None and watchdog.stdin is not None:
            # Its last look ends what the cells started and what is still there.
            watchdog.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(watchdog.wait, self.settings.shutdown_timeout)

    # -- the lives of workers --------------------------------------------------------------------------------

    async def prepare(self, ready: m.ReadyMessage) -> None:
        """Remember what the worker said of itself; have it keep checkpoints, and give it a dead one's variables."""
        self.ready = ready
        keep = await self.keeper.keeping()
        if keep is None:
            return
        self.session.send(keep)
        recovery, self._recovery = self._recovery, None
        if recovery is not None and recovery.manifest is not None:
            message = m.RestoreMessage(id=self.session.next_request_id(), manifest=mf.dump(recovery.manifest))
            try:
                reply = await self.session.ask(message, RESTORE_TIMEOUT)
            except ExecutionFailed as error:
                self._warn(f"the variables could not be restored: {error}")
                return
            expected = {each.name for each in recovery.manifest.variables if each.reason is not None}
            if set(reply.failed) - expected or reply.notes:
                problems = [*missing(recovery.manifest, reply.failed), *reply.notes]
                self._warn(f"not restored: {'; '.join(problems)}")

    async def recover(self) -> str:
        """Find out what comes back of a dead worker's variables."""
        self._recovery = await self.keeper.recovery()
        return self._recovery.text

    def succeed(self, standby: Standby) -> str:
        """Take notice that a copy of the dead worker takes its place."""
        self._recovery = None
        return self.keeper.succeeded(standby.execution_count)

    def _warn(self, text: str) -> None:
        if self._running is not None:
            self._capabilities.stream(self._running, m.StreamOutput(name="stderr", text=f"capsule: {text}\n"))
        else:
            self._notices.append(text)

    def _intercept(self, message: Message) -> None:
        match message:
            case m.SavedMessage():
                self.keeper.saved(message)
            case m.CommandMessage():
                task = asyncio.get_running_loop().create_task(self._carry_out(message))
                self._commands.add(task)
                task.add_done_callback(self._commands.discard)

    async def _carry_out(self, message: m.CommandMessage) -> None:
        fields = await self.keeper.carry_out(message.command, message.arguments)
        if message.command == "undo" and "manifest" in fields:
            manifest = mf.load(fields["manifest"])
            if await self.workers.replace(manifest.id):
                fields = await self.keeper.carry_out("undone", {"checkpoint": manifest.id})
        with contextlib.suppress(TransportClosed):
            self.session.send(m.CommandReplyMessage(command_id=message.id, **fields))

    def worker_wrote(self, name: StreamName, text: str) -> None:
        """Show what a mute worker wrote, below the cell that runs."""
        if self._running is not None:
            self._capabilities.stream(self._running, m.StreamOutput(name=name, text=text))

    def worker_died(self, end: Exit, error: Callable[[str], ExecutionFailed]) -> None:
        """Show the worker's last words below the cell, and reject the execution; if none was sent, tell the next."""
        execution_id = self._running
        if execution_id is not None and self.bridge.is_running(execution_id):
            for name, text in end.last_words:
                self._capabilities.stream(execution_id, m.StreamOutput(name=name, text=text))
            if end.stack:
                self._capabilities.stream(execution_id, m.StreamOutput(name="stderr", text=end.stack))
        else:
            self._warn(str(error("")))
        self.bridge.worker_died(error)
