"""Keeps a worker attached to the session, whatever happens to workers: a spare waits, the dead are replaced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from capsule_durable.errors import ExecutionFailed, ProtocolError, TransportClosed, WorkerDied, WorkerUnavailable
from capsule_durable.messaging.session import Session
from capsule_durable.sandbox.resource_monitor import LimitViolation, ResourceMonitor, RunningCell
from capsule_durable.workers.launcher import Launcher, WorkerHandle
from capsule_durable.workers.lifecycle import WorkerEvent, WorkerState, next_worker_state
from capsule_durable.workers.process import AttachedWorker, Exit
from capsule_durable.workers.standby_pool import Standby, StandbyPool
from capsule_worker.protocol import PROTOCOL_VERSION, Message
from capsule_worker.protocol.messages import (
    ErrorMessage,
    HeartbeatMessage,
    LimitExceededMessage,
    ReadyMessage,
    ResultMessage,
)
from capsule_worker.protocol.output_buffer import StreamName

logger = logging.getLogger(__name__)

#: Seconds until a worker must have said that it is ready.
START_TIMEOUT = 60.0
#: Seconds in which an interpreter must tell what is wrong with it.
DIAGNOSIS_TIMEOUT = 10.0
#: Seconds between a worker's first ready and the start of the spare: it must not compete with the first cells.
SPARE_DELAY = 2.0
#: Seconds; a heartbeat is waited for as long as the worker lives.
_NO_TIMEOUT = 30 * 86400.0
#: Seconds that a worker's connection may stay open after the process has ended.
DRAIN_AFTER_DEATH = 2.0
#: Seconds that a dead worker's latest checkpoint may take before the one before it is used.
WRITERS_TIMEOUT = 5.0
#: Seconds between two heartbeats.
HEARTBEAT = 2.0
#: Seconds after which a worker that does not answer its heartbeat is mute: C code holds the interpreter.
MUTE = 1.0
#: Seconds between two looks at what a worker takes; and for which it may be beyond a limit.
LIMIT_POLL_INTERVAL, GRACE = 0.1, 2.0
#: Bytes that answers to heartbeats take at most; and how many of them must have disappeared in a frame.
_ANSWERS, _SWALLOWED = 2048, 5
_SIGKILL = -9


class Listener(Protocol):
    """Who wants to know about the lives of workers."""

    @property
    def cell(self) -> RunningCell | None:
        """The cell that runs in the worker, if one does."""

    async def prepare(self, ready: ReadyMessage) -> None:
        """A worker is there; it runs cells when this is done."""

    async def recover(self) -> str:
        """A worker is gone, and so are the writers of its checkpoints; return what becomes of its variables."""

    def succeed(self, standby: Standby) -> str:
        """A worker is gone, and a copy of it takes over; return what becomes of its variables."""

    def worker_wrote(self, name: StreamName, text: str) -> None:
        """The worker is mute, and this was found in its pipes."""

    def worker_died(self, end: Exit, error: Callable[[str], ExecutionFailed]) -> None:
        """The worker has ended, and everything that it sent has been routed.

        Args:
            end: how it ended.
            error: makes the error for an execution that was running there.
        """


class WorkerSupervisor:
    """Supervises the workers of one session.

    Args:
        session: gets one worker after the other attached.
        launcher: starts them.
        listener: is told of their lives.
        spare: whether to keep a second worker warm.
    """

    def __init__(self, session: Session, launcher: Launcher, listener: Listener, *, spare: bool = True) -> None:
        self._session = session
        self._launcher = launcher
        self._listener = listener
        self._keep_spare = spare
        self._current: AttachedWorker | None = None
        self._spare: AttachedWorker | None = None
        self._spare_task: asyncio.Task[None] | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._reapers: set[asyncio.Task[None]] = set()
        #: The last cell of the current worker that has ended.
        self._ended = ""
        #: Copies of it that wait.
        self._standbys = StandbyPool()
        self._leaving = False
        #: The worker whose place a copy has taken.
        self._predecessor: AttachedWorker | None = None
        #: The copy that replaces it when its cell has ended.
        self._replacement: Standby | None = None
        #: Done when a worker is ready; failed when none came up. Made anew for each worker.
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wanted = asyncio.Event()
        self._protocol_error: ProtocolError | None = None
        #: Why the worker was ended, where that was done here.
        self._verdict: str | None = None
        self._last_failure: str | None = None
        self.state: WorkerState = "none"
        session.add_message_interceptor(self._intercept)

    @property
    def current(self) -> AttachedWorker | None:
        """The worker that runs cells; None while there is none."""
        return self._current

    def start(self, first: WorkerHandle | None = None) -> None:
        """Begin: adopt ``first``, a worker that was started earlier, or start one."""
        self._supervisor = asyncio.get_running_loop().create_task(self._supervise(first), name="workers")

    async def replace(self, checkpoint: str) -> bool:
        """Have a copy that has the state of a checkpoint take over when the cell that runs has ended.

        Returns:
            Whether there is one.
        """
        self._replacement = await self._standbys.take(checkpoint=checkpoint)
        return self._replacement is not None

    async def ready(self) -> None:
        """Wait until a worker can run cells.

        Raises:
            WorkerUnavailable: it did not come up. The next call tries again.
        """
        if self.state == "unavailable":
            self._renew()
            self._wanted.set()
        if self.state == "ready" and not self._session.attached:
            # Its connection has ended, and so will it: what was not sent to it is for the next one.
            self._renew()
        if self._ready.done():
            self._ready.result()
            return
        try:
            # Many may wait for the same future: the impatience of one must not cancel it for the others.
            await asyncio.wait_for(asyncio.shield(self._ready), START_TIMEOUT)
        except TimeoutError:
            raise WorkerUnavailable(f"no worker was ready within {START_TIMEOUT:g} s") from None

    def stop_supervising(self) -> None:
        """Let the current worker end without a successor. ``close`` follows."""
        self._leaving = True
        self._standbys.clear()

    async def close(self) -> None:
        """End all workers. What their cells started is ended by the warden. Idempotent."""
        self.stop_supervising()
        for task in (self._spare_task, self._supervisor, self._preparing):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        for worker in (self._current, self._spare):
            if worker is not None:
                worker.kill()
                await worker.exited
                await worker.writers_done(0)
        await self._leave_predecessor(0)
        self._current = self._spare = None
        if self._replacement is not None:
            self._replacement.sock.close()
        await asyncio.gather(*self._reapers)

    # -- the supervisor --------------------------------------------------------------------------------------

    async def _supervise(self, launched: WorkerHandle | None) -> None:
        while True:
            succeeds = launched is not None and launched.process is not None
            try:
                worker = await self._next(launched)
            except OSError as error:
                await self._give_up(f"{self._launcher.python} cannot be started: {error}")
                continue
            finally:
                launched = None
            self._advance("launch")
            self._current = worker
            reader = self._session.attach(worker.transport, worker.pid)
            self._standbys.follow(worker.standby, worker.ancestor)
            loop = asyncio.get_running_loop()
            heart = loop.create_task(self._listen_to_heart(worker), name="heart")
            watch = loop.create_task(self._watch_limits(worker), name="limits")
            self._verdict = None
            try:
                end = await self._until_exit(worker, reader)
            finally:
                heart.cancel()
                watch.cancel()
            if self._leaving:
                return
            self._current = None
            was_ready = self.state == "ready"
            self._advance("exit")
            self._reap(worker)
            if was_ready:
                self._renew()
                launched = await self._succeed(worker, end)
            elif succeeds:
                logger.warning("a standby could not take over: %s", _startup_failure(end))
                await worker.writers_done(0)
                await self._leave_predecessor(WRITERS_TIMEOUT)
                await self._listener.recover()
            else:
                await worker.writers_done(0)
                await self._give_up(await self._diagnose(end))

    async def _leave_predecessor(self, timeout: float) -> None:
        """Wait for the writers of the worker whose place a copy has taken, if they matter still.

        Args:
            timeout: seconds.
        """
        predecessor, self._predecessor = self._predecessor, None
        if predecessor is not None:
            await predecessor.writers_done(timeout)

    async def _succeed(self, worker: AttachedWorker, end: Exit) -> WorkerHandle | None:
        """See to it that a worker which has ended is followed by one with its variables; return it if it runs."""
        replacement, self._replacement = self._replacement, None
        standby = replacement or await self._standbys.take(execution_id=self._ended)
        self._standbys.clear()
        launched = None
        if standby is not None:
            process = standby.there.result()
            assert process is not None
            try:
                launched = self._launcher.promote(standby.sock, process)
            except OSError as error:
                logger.warning("a standby is gone: %s", error)
                os.close(process.fd)
            standby.sock.close()
        if standby is not None and launched is not None:
            fate = self._listener.succeed(standby)
            # What it was writing goes on without us; it matters only if the copy ends before it has saved the same.
            await self._leave_predecessor(0)
            self._predecessor = worker
        else:
            await self._leave_predecessor(WRITERS_TIMEOUT)
            await worker.writers_done(WRITERS_TIMEOUT)
            fate = await self._listener.recover()
        if replacement is None:
            self._listener.worker_died(end, partial(self._death, end, fate))
        return launched

    async def _next(self, launched: WorkerHandle | None) -> AttachedWorker:
        if launched is not None:
            return await AttachedWorker.adopt(launched)
        spare, self._spare = self._spare, None
        if spare is not None and not spare.exited.done():
            return spare
        return await AttachedWorker.adopt(self._launcher.launch())

    async def _until_exit(self, worker: AttachedWorker, reader: asyncio.Task[None]) -> Exit:
        ends: list[asyncio.Future[Any]] = [reader, worker.exited]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not worker.exited.done():
            # It closed its connection, or broke the protocol: without a connection it is of no use.
            worker.kill()
        end = await asyncio.shield(worker.exited)
        # Route everything that it sent before its death is told. A process that it forked may hold the socket.
        done, _ = await asyncio.wait({reader}, timeout=DRAIN_AFTER_DEATH)
        if not done:
            worker.transport.close()
            await asyncio.wait({reader})
        error = reader.exception() if not reader.cancelled() else None
        self._protocol_error = error if isinstance(error, ProtocolError) else None
        if error is not None and self._protocol_error is None:
            logger.error("reading from the worker failed", exc_info=error)
        return end

    async def _listen_to_heart(self, worker: AttachedWorker) -> None:
        """Notice a worker that is mute, and read its pipes for it.

        C code that holds the interpreter keeps the worker's own threads from running. If it also prints more than a
        pipe holds it would wait for ever for a reader, and its output would not be seen in any case.

        One whose threads do run, and whose answers disappear in a frame that does not end, has broken the protocol.
        """
        while True:
            await asyncio.sleep(HEARTBEAT)
            message = HeartbeatMessage(id=self._session.next_request_id())
            answer = asyncio.get_running_loop().create_task(self._session.ask(message, _NO_TIMEOUT))
            pending, received, swallowed = worker.transport.pending, worker.transport.received, 0
            try:
                while not (await asyncio.wait({answer}, timeout=MUTE))[0]:
                    for name, text in worker.read_pipes():
                        self._listener.worker_wrote(name, text)
                    grown, pending = worker.transport.pending - pending, worker.transport.pending
                    ended, received = worker.transport.received > received, worker.transport.received
                    swallowed = swallowed + 1 if 0 < grown < _ANSWERS and not ended else 0
                    if swallowed == _SWALLOWED:
                        worker.transport.fail(ProtocolError("a frame does not end"))
                    elif pending:
                        self._session.send(HeartbeatMessage(id=self._session.next_request_id()))
                with contextlib.suppress(ExecutionFailed):
                    answer.result()
            except TransportClosed:
                return
            finally:
                answer.cancel()

    async def _watch_limits(self, worker: AttachedWorker) -> None:
        """See that a worker keeps to its limits: its cell gets an error first; if that does not help, it is ended."""
        if not self._launcher.limits.is_watched:
            return
        meter = ResourceMonitor(self._launcher.limits, worker.pid, self._launcher.sandbox.scratch)
        now = asyncio.get_running_loop().time
        told: dict[str, float] = {}
        while True:
            await asyncio.sleep(LIMIT_POLL_INTERVAL)
            breaches = {breach.setting: breach for breach in meter.violations(self._listener.cell)}
            told = {setting: since for setting, since in told.items() if setting in breaches}
            for setting, breach in breaches.items():
                if setting not in told:
                    told[setting] = now()
                    with contextlib.suppress(TransportClosed):
                        self._session.send(
                            LimitExceededMessage(error=breach.error, text=f"{breach.text}; {setting} sets it")
                        )
                elif now() - told[setting] > GRACE:
                    self._end(worker, breach)
                    return

    def _end(self, worker: AttachedWorker, breach: LimitViolation) -> None:
        """End a worker that is beyond a limit, and what it has made."""
        self._verdict = f"the worker process was ended: {breach.text}"
        if not breach.ends_all or not self._launcher.end_all():
            worker.kill()

    async def _diagnose(self, end: Exit) -> str:
        """Return why no cell can run in the interpreter and what mends it, or else how the worker has ended."""
        from capsule_durable.workers.interpreter import InterpreterUnusable, check

        launcher = self._launcher
        try:
            # Cells may have changed what it runs first: it is asked where they are, not here.
            await asyncio.to_thread(
                check, launcher.python, DIAGNOSIS_TIMEOUT, launcher.sandbox.prefix, launcher.environment()
            )
        except InterpreterUnusable as error:
            choose = "\nChoose another one by `capsule install --python PATH`, or by the setting `python`."
            return f"no cell can run: {error}" + ("" if error.mend else choose)
        return self._verdict or _startup_failure(end)

    async def _give_up(self, reason: str) -> None:
        """Tell whoever waits that there is no worker, and wait until somebody asks for one again."""
        # Each cell that is tried meanwhile tries again, and is told; the log is told once.
        logger.log(logging.DEBUG if reason == self._last_failure else logging.ERROR, "%s", reason)
        self._last_failure = reason
        self._advance("fail")
        self._wanted.clear()
        self._ready.set_exception(WorkerUnavailable(reason))
        self._ready.exception()  # nobody may be waiting, and that is all right
        await self._wanted.wait()

    def _advance(self, event: WorkerEvent) -> None:
        self.state = next_worker_state(self.state, event)

    def _renew(self) -> None:
        if self._ready.done():
            self._ready = asyncio.get_running_loop().create_future()

    def _reap(self, worker: AttachedWorker) -> None:
        task = asyncio.get_running_loop().create_task(worker.end_children())
        self._reapers.add(task)
        task.add_done_callback(self._reapers.discard)

    def _death(self, end: Exit, fate: str, execution_id: str) -> ExecutionFailed:
        if self._verdict is not None:
            text = self._verdict
        elif self._protocol_error is not None:
            text = f"the worker broke the protocol and was ended: {self._protocol_error}"
        else:
            text = f"the worker process {end.description} (peak memory {end.peak_memory / 1e6:,.0f} MB)"
            if end.returncode == _SIGKILL:
                text += "; if nothing killed it on purpose, the system was probably out of memory"
        return WorkerDied(
            f"{text}. {fate}",
            execution_id,
            returncode=end.returncode,
            peak_memory=end.peak_memory,
            stack=end.stack[:20_000],
        )

    def _intercept(self, message: Message) -> None:
        if isinstance(message, (ResultMessage, ErrorMessage)) and message.execution_id is not None:
            self._ended = message.execution_id
            if self._replacement is not None and self._current is not None:
                # The next cell waits for the copy.
                self._renew()
                self._current.kill()
        if isinstance(message, ReadyMessage) and self.state == "starting":
            if message.protocol_version != PROTOCOL_VERSION and self._current is not None:
                self._verdict = (
                    f"{self._launcher.python} has capsule-worker {message.worker_version}, which speaks another"
                    f" protocol ({message.protocol_version}, not {PROTOCOL_VERSION})"
                )
                self._current.kill()
                return
            self._advance("ready")
            self._preparing = asyncio.get_running_loop().create_task(self._prepare(message), name="prepare")
            if self._keep_spare and self._spare is None and (self._spare_task is None or self._spare_task.done()):
                self._spare_task = asyncio.get_running_loop().create_task(self._start_spare(), name="spare")

    async def _prepare(self, message: ReadyMessage) -> None:
        worker = self._current
        try:
            await self._listener.prepare(message)
        # A worker without its variables is better than none.
        except Exception:
            logger.exception("a worker could not be prepared")
        if self._current is worker:
            self._renew()
            self._ready.set_result(None)

    async def _start_spare(self) -> None:
        await asyncio.sleep(SPARE_DELAY)
        try:
            self._spare = await AttachedWorker.adopt(self._launcher.launch())
        except OSError as error:
            logger.warning("no spare worker: %s", error)


def _startup_failure(end: Exit) -> str:
    """Say how a worker that did not come up has ended."""
    said = "".join(text for _, text in end.last_words).strip()
    return f"the worker process {end.description} before it was ready.\n{said}"
