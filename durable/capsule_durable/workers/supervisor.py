"""Keeps a worker attached to the session: a spare waits, and a worker that dies is replaced."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

from capsule_durable.checkpoints.recovery import Recovery
from capsule_durable.errors import ProtocolError, WorkerUnavailable, describe_exit
from capsule_durable.messaging.capabilities import Capabilities
from capsule_durable.messaging.notices import Notices
from capsule_durable.messaging.session import Session
from capsule_durable.telemetry.bus import EventBus
from capsule_durable.telemetry.events import StandbyTookOver, WorkerExited
from capsule_durable.workers.channels import WorkerHandle
from capsule_durable.workers.launcher import Launcher, LaunchRefused
from capsule_durable.workers.lifecycle import WORKER
from capsule_durable.workers.process import AttachedWorker, Exit, WorkerDeath
from capsule_durable.workers.setup import WorkerSetup
from capsule_durable.workers.standby_pool import Standby, StandbyPool
from capsule_durable.workers.watchdog import Watchdog
from capsule_worker.protocol import PROTOCOL_VERSION, Message
from capsule_worker.protocol.messages import ErrorMessage, ReadyMessage, ResultMessage

logger = logging.getLogger(__name__)

#: Seconds until a worker must have reported that it is ready.
START_TIMEOUT = 60.0
#: Seconds in which an interpreter must report what is wrong with it.
DIAGNOSIS_TIMEOUT = 10.0
#: Seconds between a worker's first ready and the start of the spare: it must not compete with the first cells.
SPARE_DELAY = 2.0
#: Seconds that a worker's connection may stay open after the process has ended.
DRAIN_AFTER_DEATH = 2.0
#: Seconds that a dead worker's latest checkpoint may take before the one before it is used.
WRITERS_TIMEOUT = 5.0
_SIGKILL = -9


class WorkerSupervisor:
    """Supervises the workers of one session.

    Args:
        session: reads from one worker after the other.
        launcher: starts them.
        setup: prepares each of them.
        recovery: determines the variables of the next worker.
        capabilities: show the output of an unresponsive worker.
        notices: tells the user about a worker that died while it ran no cell.
        bus: gets ``WorkerExited`` and ``StandbyTookOver``.
        session_id: the session, for events.
        spare: whether to keep a second worker warm.
    """

    def __init__(
        self,
        session: Session,
        launcher: Launcher,
        setup: WorkerSetup,
        recovery: Recovery,
        capabilities: Capabilities,
        notices: Notices,
        bus: EventBus,
        session_id: str,
        *,
        spare: bool = True,
    ) -> None:
        self._session = session
        self._launcher = launcher
        self._setup = setup
        self._recovery = recovery
        self._notices = notices
        self._bus = bus
        self._session_id = session_id
        self._keep_spare = spare
        self._watchdog = Watchdog(session, launcher, capabilities, bus, session_id)
        #: The worker that runs cells; None while there is none.
        self.current: AttachedWorker | None = None
        self._spare: AttachedWorker | None = None
        self._spare_task: asyncio.Task[None] | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._reapers: set[asyncio.Task[None]] = set()
        #: The last cell of the current worker that has ended.
        self._ended = ""
        #: The standbys of the current worker.
        self._standbys = StandbyPool()
        self._leaving = False
        #: The worker that a standby has replaced.
        self._predecessor: AttachedWorker | None = None
        #: The standby that replaces the current worker when its cell has ended.
        self._replacement: Standby | None = None
        #: Done when a worker is ready; failed when none came up. Created anew for each worker.
        self._ready: asyncio.Future[AttachedWorker] = asyncio.get_running_loop().create_future()
        self._wanted = asyncio.Event()
        self._last_failure: str | None = None
        self.state = "none"
        session.add_message_interceptor(self._intercept, ReadyMessage, ResultMessage, ErrorMessage)

    def start(self, first: WorkerHandle | None = None) -> None:
        """Start supervising.

        Args:
            first: a worker that was started earlier; by default one is started.
        """
        self._supervisor = asyncio.get_running_loop().create_task(self._supervise(first), name="workers")

    async def replace(self, checkpoint: str) -> bool:
        """Let a standby that has the state of a checkpoint take over when the running cell has ended.

        Args:
            checkpoint: its id.

        Returns:
            Whether there is one.
        """
        self._replacement = await self._standbys.take(checkpoint=checkpoint)
        return self._replacement is not None

    async def ready(self) -> AttachedWorker:
        """Wait until a worker can run cells, and return it.

        Raises:
            WorkerUnavailable: it did not come up. The next call tries again.
        """
        if self.state == "unavailable":
            self._renew()
            self._wanted.set()
        if self.state == "ready" and self._session.transport is None:
            # Its connection has ended, and so will it: what was not sent to it is for the next one.
            self._renew()
        if self._ready.done():
            return self._ready.result()
        try:
            # Several callers may wait for the same future: a timeout of one must not cancel it for the others.
            return await asyncio.wait_for(asyncio.shield(self._ready), START_TIMEOUT)
        except TimeoutError:
            raise WorkerUnavailable(f"no worker was ready within {START_TIMEOUT:g} s") from None

    def stop_supervising(self) -> None:
        """Let the current worker end without a successor. ``close`` follows."""
        self._leaving = True
        self._standbys.clear()

    async def close(self) -> None:
        """End all workers. The forkserver ends what their cells started. Idempotent."""
        self.stop_supervising()
        for task in (self._spare_task, self._supervisor, self._preparing):
            if task is not None:
                task.cancel()
        tasks = [task for task in (self._spare_task, self._supervisor, self._preparing) if task is not None]
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                logger.error("a task that supervises workers has failed", exc_info=result)
        for worker in (self.current, self._spare):
            if worker is not None:
                worker.kill()
                await worker.exited
                await worker.writers_done(0)
        await self._leave_predecessor(0)
        self.current = self._spare = None
        if self._replacement is not None:
            self._replacement.sock.close()
        await asyncio.gather(*self._reapers, return_exceptions=True)

    # -- the supervisor --------------------------------------------------------------------------------------

    async def _supervise(self, handle: WorkerHandle | None) -> None:
        while True:
            is_standby = handle is not None and handle.process is not None
            try:
                worker = await self._next(handle)
            except OSError as error:
                is_refused = isinstance(error, LaunchRefused)
                await self._give_up(str(error) if is_refused else f"{self._launcher.python} cannot be started: {error}")
                continue
            finally:
                handle = None
            self.state = WORKER[self.state, "launch"]
            self.current = worker
            reader = worker.attach(self._session)
            self._standbys.follow(worker.standby, worker.ancestor)
            with self._watchdog.watching(worker):
                end, broken = await self._until_exit(worker, reader)
            if self._leaving:
                return
            self.current = None
            was_ready = self.state == "ready"
            self.state = WORKER[self.state, "exit"]
            self._reap(worker)
            if was_ready:
                self._renew()
                handle = await self._follow(worker, end, broken)
            elif is_standby:
                logger.warning("a standby could not take over: %s", _startup_failure(end))
                await worker.writers_done(0)
                await self._leave_predecessor(WRITERS_TIMEOUT)
                await self._recover()
            else:
                await worker.writers_done(0)
                await self._give_up(await self._diagnose(worker, end))

    async def _leave_predecessor(self, timeout: float) -> None:
        """Wait for the writers of the worker that a standby has replaced, as long as they matter.

        Args:
            timeout: seconds.
        """
        predecessor, self._predecessor = self._predecessor, None
        if predecessor is not None:
            await predecessor.writers_done(timeout)

    async def _follow(self, worker: AttachedWorker, end: Exit, broken: ProtocolError | None) -> WorkerHandle | None:
        """Prepare the successor of a worker that has ended, and report its death; return the successor if it runs."""
        replacement, self._replacement = self._replacement, None
        standby = replacement or await self._standbys.take(execution_id=self._ended)
        self._standbys.clear()
        handle = self._promote(standby) if standby is not None else None
        if standby is not None and handle is not None:
            self._setup.recovered = None
            self._bus.publish(StandbyTookOver(session_id=self._session_id, execution_count=standby.execution_count))
            recovered = self._recovery.took_over(standby.execution_count).text
            # Its writers continue. They matter only if the standby ends before it has saved the same.
            await self._leave_predecessor(0)
            self._predecessor = worker
        else:
            await self._leave_predecessor(WRITERS_TIMEOUT)
            await worker.writers_done(WRITERS_TIMEOUT)
            recovered = await self._recover()
        running = worker.running
        execution_id = running.execution_id if running is not None and running.execution_id != self._ended else None
        death = WorkerDeath(
            end, _reason(worker, end, broken, has_cell=execution_id is not None), recovered, execution_id
        )
        if replacement is None:
            self._bus.publish(
                WorkerExited(
                    session_id=self._session_id,
                    execution_id=execution_id,
                    returncode=end.returncode,
                    peak_memory=end.peak_memory,
                )
            )
            if execution_id is None:
                self._notices.add(str(death.error()))
        worker.died.set_result(death)
        return handle

    def _promote(self, standby: Standby) -> WorkerHandle | None:
        """Let a standby take over; return None if it has ended."""
        process = standby.there.result()
        assert process is not None
        try:
            return self._launcher.promote(standby.sock, process)
        except OSError as error:
            logger.warning("a standby has ended: %s", error)
            os.close(process.fd)
            return None
        finally:
            standby.sock.close()

    async def _recover(self) -> str:
        """Determine the variables of the next worker; return the result, for the user."""
        self._setup.recovered = await self._recovery.after_death()
        return self._setup.recovered.text

    async def _next(self, handle: WorkerHandle | None) -> AttachedWorker:
        if handle is not None:
            return await AttachedWorker.adopt(handle)
        spare, self._spare = self._spare, None
        if spare is not None and not spare.exited.done():
            return spare
        return await AttachedWorker.adopt(self._launcher.launch())

    async def _until_exit(
        self, worker: AttachedWorker, reader: asyncio.Task[None]
    ) -> tuple[Exit, ProtocolError | None]:
        """Wait until a worker has ended and its messages are routed; return how, and whether it broke the protocol."""
        ends: list[asyncio.Future[Any]] = [reader, worker.exited]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not worker.exited.done():
            # It closed its connection, or broke the protocol: a worker without a connection is useless.
            worker.kill()
        end = await asyncio.shield(worker.exited)
        # Route everything that it sent before its death is reported. A process that it forked may hold the socket.
        done, _ = await asyncio.wait({reader}, timeout=DRAIN_AFTER_DEATH)
        if not done:
            worker.transport.close()
            await asyncio.wait({reader})
        error = reader.exception() if not reader.cancelled() else None
        if isinstance(error, ProtocolError):
            return end, error
        if error is not None:
            logger.error("reading from the worker failed", exc_info=error)
        return end, None

    async def _diagnose(self, worker: AttachedWorker, end: Exit) -> str:
        """Return why no cell can run in the interpreter and how to fix that, or else how the worker has ended."""
        from capsule_durable.workers.interpreter import InterpreterUnusable, check

        launcher = self._launcher
        try:
            # Cells may have changed what it runs first, so it is checked in the sandbox of the cells.
            await asyncio.to_thread(
                check, launcher.python, DIAGNOSIS_TIMEOUT, launcher.sandbox.prefix, launcher.environment()
            )
        except InterpreterUnusable as error:
            choose = "\nChoose another one by `capsule install --python PATH`, or by the setting `python`."
            return f"No cell can run: {error}" + ("" if error.fix else choose)
        return worker.verdict or _startup_failure(end)

    async def _give_up(self, reason: str) -> None:
        """Report that there is no worker, and wait until one is wanted again."""
        # Each cell that runs meanwhile tries again, and gets the reason. It is logged once.
        logger.log(logging.DEBUG if reason == self._last_failure else logging.ERROR, "%s", reason)
        self._last_failure = reason
        self.state = WORKER[self.state, "fail"]
        self._wanted.clear()
        self._ready.set_exception(WorkerUnavailable(reason))
        self._ready.exception()  # there may be no caller that waits
        await self._wanted.wait()

    def _renew(self) -> None:
        if self._ready.done():
            self._ready = asyncio.get_running_loop().create_future()

    def _reap(self, worker: AttachedWorker) -> None:
        task = asyncio.get_running_loop().create_task(worker.end_children())
        self._reapers.add(task)
        task.add_done_callback(self._reapers.discard)

    def _intercept(self, message: Message) -> None:
        match message:
            # Results of subshells, and forged ones, do not end the cell that standbys are forked after.
            case ResultMessage() | ErrorMessage() if self.current is not None and (
                message.execution_id == self.current.main_cell
            ):
                self._ended = self.current.main_cell
                if self._replacement is not None and self.current is not None:
                    # The next cell waits for the standby.
                    self._renew()
                    self.current.kill()
            case ReadyMessage() if self.state == "starting" and self.current is not None:
                self._welcome(message, self.current)

    def _welcome(self, message: ReadyMessage, worker: AttachedWorker) -> None:
        """Prepare a worker that is ready, if it speaks our protocol."""
        if message.protocol_version != PROTOCOL_VERSION:
            worker.verdict = (
                f"{self._launcher.python} has capsule-worker {message.worker_version}, which speaks another"
                f" protocol ({message.protocol_version}, not {PROTOCOL_VERSION})"
            )
            worker.kill()
            return
        self.state = WORKER[self.state, "ready"]
        loop = asyncio.get_running_loop()
        self._preparing = loop.create_task(self._prepare(message, worker), name="prepare")
        if self._keep_spare and self._spare is None and (self._spare_task is None or self._spare_task.done()):
            self._spare_task = loop.create_task(self._start_spare(), name="spare")

    async def _prepare(self, message: ReadyMessage, worker: AttachedWorker) -> None:
        try:
            await self._setup.prepare(message)
        # A worker without its variables is better than none.
        except Exception:
            logger.exception("a worker could not be prepared")
        if self.current is worker:
            self._renew()
            self._ready.set_result(worker)

    async def _start_spare(self) -> None:
        await asyncio.sleep(SPARE_DELAY)
        try:
            self._spare = await AttachedWorker.adopt(self._launcher.launch())
        except OSError as error:
            logger.warning("no spare worker: %s", error)


def _reason(worker: AttachedWorker, end: Exit, broken: ProtocolError | None, *, has_cell: bool) -> str:
    """Return why a worker has ended, for the user."""
    if worker.verdict is not None:
        return worker.verdict
    if broken is not None:
        return f"Python was ended because it broke the protocol: {broken}"
    moment = "while running this cell" if has_cell else "while no cell was running"
    cause = ", usually because the machine ran out of memory" if end.returncode == _SIGKILL else ""
    return f"Python {describe_exit(end.returncode, end.peak_memory)} {moment}{cause}"


def _startup_failure(end: Exit) -> str:
    """Return how a worker that did not become ready has ended, and what it wrote."""
    output = "".join(text for _, text in end.last_words).strip()
    return f"Python {end.description} before it was ready.\n{output}"
