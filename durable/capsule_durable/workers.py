"""Keeps a worker attached to the session, whatever happens to workers: a spare waits, and the dead are replaced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from capsule_durable.errors import ExecutionFailed, ProtocolError, WorkerDied, WorkerUnavailable
from capsule_durable.launcher import Launched, Launcher
from capsule_durable.session import Session
from capsule_durable.worker import Exit, Worker
from capsule_worker.protocol import Message
from capsule_worker.protocol.messages import ReadyMessage

logger = logging.getLogger(__name__)

#: Seconds until a worker must have said that it is ready.
START_TIMEOUT = 60.0
#: Seconds between a worker's first ready and the start of the spare, so that it does not compete with the first cells.
SPARE_DELAY = 2.0
#: Seconds that a worker's connection may stay open after the process has ended.
DRAIN_AFTER_DEATH = 2.0


class Listener(Protocol):
    """Who wants to know about the lives of workers."""

    def worker_ready(self, ready: ReadyMessage) -> None:
        """A worker can run cells now."""

    def worker_died(self, end: Exit, error: Callable[[str], ExecutionFailed]) -> None:
        """The worker has ended, and everything that it sent has been routed.

        Args:
            end: how it ended.
            error: makes the error for an execution that was running there.
        """


class Workers:
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
        self._current: Worker | None = None
        self._spare: Worker | None = None
        self._spare_task: asyncio.Task[None] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._wanted = asyncio.Event()
        self._startup_failure: str | None = None
        self._protocol_error: ProtocolError | None = None
        self._closing = False
        session.add_message_interceptor(self._intercept)

    @property
    def current(self) -> Worker | None:
        """The worker that runs cells; None while there is none."""
        return self._current

    def start(self, first: Launched | None = None) -> None:
        """Begin: adopt ``first``, a worker that was started earlier, or start one."""
        self._supervisor = asyncio.get_running_loop().create_task(self._supervise(first), name="workers")

    async def ready(self) -> None:
        """Wait until a worker can run cells.

        Raises:
            WorkerUnavailable: it did not come up. The next call tries again.
        """
        if self._ready.is_set():
            return
        self._startup_failure = None
        self._wanted.set()
        try:
            await asyncio.wait_for(self._wait_ready(), START_TIMEOUT)
        except TimeoutError:
            msg = f"no worker was ready within {START_TIMEOUT:g} s"
            raise WorkerUnavailable(msg) from None

    async def _wait_ready(self) -> None:
        while not self._ready.is_set():
            if self._startup_failure is not None:
                raise WorkerUnavailable(self._startup_failure)
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed

    def _tell_waiters(self) -> None:
        changed = getattr(self, "_changed", None)
        if changed is not None and not changed.done():
            changed.set_result(None)

    async def replace(self) -> None:
        """End the current worker and everything it started; a fresh one follows."""
        worker = self._current
        if worker is not None:
            worker.kill()
            await asyncio.shield(worker.exited)

    async def close(self) -> None:
        """End all workers and what they started. Idempotent."""
        self._closing = True
        for task in (self._spare_task, self._supervisor):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        for worker in (self._current, self._spare):
            if worker is not None:
                worker.kill()
                await worker.exited
        self._current = self._spare = None

    # -- the supervisor --------------------------------------------------------------------------------------

    async def _supervise(self, launched: Launched | None) -> None:
        while not self._closing:
            try:
                worker = await self._next(launched)
            except OSError as error:
                launched = None
                await self._give_up(f"{self._launcher.python} cannot be started: {error}")
                continue
            launched = None
            self._current = worker
            reader = self._session.attach(worker.transport, worker.pid)
            end = await self._until_exit(worker, reader)
            was_ready = self._ready.is_set()
            self._ready.clear()
            self._current = None
            self._reaping = asyncio.get_running_loop().create_task(worker.end_children())
            if was_ready:
                self._listener.worker_died(end, partial(self._death, end))
            else:
                await self._give_up(_startup_failure(self._launcher.python, end))

    async def _next(self, launched: Launched | None) -> Worker:
        spare, self._spare = self._spare, None
        if spare is not None and not spare.exited.done():
            return spare
        return await Worker.adopt(launched or self._launcher.launch())

    async def _until_exit(self, worker: Worker, reader: asyncio.Task[None]) -> Exit:
        self._protocol_error = None
        ends: list[asyncio.Future[Any]] = [reader, worker.exited]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not worker.exited.done():
            # It closed its connection, or broke the protocol: without a connection it is of no use.
            worker.kill()
        end = await asyncio.shield(worker.exited)
        # Route everything that it sent before its death is told; a process of its own making may hold the socket.
        done, _ = await asyncio.wait({reader}, timeout=DRAIN_AFTER_DEATH)
        if not done:
            worker.transport.close()
            await asyncio.wait({reader})
        error = reader.exception() if not reader.cancelled() else None
        if isinstance(error, ProtocolError):
            self._protocol_error = error
        elif error is not None:
            logger.error("reading from the worker failed", exc_info=error)
        return end

    async def _give_up(self, reason: str) -> None:
        """Tell whoever waits that there is no worker, and wait until somebody asks for one again."""
        logger.error("%s", reason)
        self._startup_failure = reason
        self._wanted.clear()
        self._tell_waiters()
        await self._wanted.wait()

    def _death(self, end: Exit, execution_id: str) -> ExecutionFailed:
        peak = f"peak memory {end.peak_memory / 1e6:,.0f} MB"
        if self._protocol_error is not None:
            text = f"the worker broke the protocol and was ended: {self._protocol_error}"
        else:
            text = f"the worker process {end.description} ({peak})"
            if end.returncode == -9:  # noqa: PLR2004  # SIGKILL
                text += "; if nothing killed it on purpose, the system was probably out of memory"
        return WorkerDied(
            f"{text}. Its variables are lost; a new worker is ready.",
            execution_id,
            returncode=end.returncode,
            peak_memory=end.peak_memory,
            stack=end.stack[:20_000],
        )

    def _intercept(self, message: Message) -> None:
        if isinstance(message, ReadyMessage):
            self._ready.set()
            self._tell_waiters()
            self._listener.worker_ready(message)
            if self._keep_spare and self._spare is None and (self._spare_task is None or self._spare_task.done()):
                self._spare_task = asyncio.get_running_loop().create_task(self._start_spare(), name="spare")

    async def _start_spare(self) -> None:
        await asyncio.sleep(SPARE_DELAY)
        try:
            self._spare = await Worker.adopt(self._launcher.launch())
        except OSError as error:
            logger.warning("no spare worker: %s", error)


def _startup_failure(python: str, end: Exit) -> str:
    """Say why a worker did not come up, and what mends it."""
    said = "".join(text for _, text in end.last_words).strip()
    if "No module named capsule_worker" in said:
        return (
            f"{python} has no capsule-worker, so no cell can run there. Install it with:\n"
            f"    {python} -m pip install capsule-worker"
        )
    return f"the worker process {end.description} before it was ready.\n{said}"
