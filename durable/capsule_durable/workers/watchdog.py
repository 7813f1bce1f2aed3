"""Watches a worker while it runs: whether it answers, and whether it respects its limits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from capsule_durable.errors import ExecutionFailed, ProtocolError, TransportClosed
from capsule_durable.messaging.capabilities import Capabilities
from capsule_durable.messaging.session import Session
from capsule_durable.sandbox.resource_monitor import LimitViolation, ResourceMonitor
from capsule_durable.telemetry.bus import EventBus
from capsule_durable.telemetry.events import LimitExceeded
from capsule_durable.workers.launcher import Launcher
from capsule_durable.workers.process import AttachedWorker
from capsule_worker.protocol.messages import HeartbeatMessage, LimitExceededMessage, StreamOutput

#: Seconds; the watchdog waits for the answer to a heartbeat until the worker ends.
_NO_TIMEOUT = 30 * 86400.0
#: Seconds between two heartbeats.
HEARTBEAT = 2.0
#: Seconds after which a worker that does not answer its heartbeat is unresponsive: C code holds the interpreter.
UNRESPONSIVE_AFTER = 1.0
#: Seconds between two measurements of a worker's resources; and for which it may exceed a limit.
LIMIT_POLL_INTERVAL, GRACE = 0.1, 2.0
#: Bytes that answers to heartbeats take at most; and how many of them must have disappeared in a frame.
_ANSWERS, _SWALLOWED = 2048, 5


class Watchdog:
    """Watches the workers of one session.

    Args:
        session: sends heartbeats.
        launcher: knows the limits, and can end a whole sandbox.
        capabilities: show the output of an unresponsive worker.
        bus: gets ``LimitExceeded``.
        session_id: the session, for events.
    """

    def __init__(
        self, session: Session, launcher: Launcher, capabilities: Capabilities, bus: EventBus, session_id: str
    ) -> None:
        self._session = session
        self._launcher = launcher
        self._capabilities = capabilities
        self._bus = bus
        self._session_id = session_id

    @contextlib.contextmanager
    def watching(self, worker: AttachedWorker) -> Iterator[None]:
        """Watch a worker during the block."""
        loop = asyncio.get_running_loop()
        tasks = [
            loop.create_task(self._listen_to_heart(worker), name="heart"),
            loop.create_task(self._watch_limits(worker), name="limits"),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    async def _listen_to_heart(self, worker: AttachedWorker) -> None:
        """Detect an unresponsive worker, and read its pipes for it.

        C code that holds the interpreter keeps the worker's own threads from running. If it also prints more than a
        pipe can store, it would wait indefinitely for a reader, and its output would not be shown in any case.

        A worker whose threads run, but whose answers disappear in a frame that does not end, has broken the protocol.
        """
        while True:
            await asyncio.sleep(HEARTBEAT)
            message = HeartbeatMessage(id=self._session.next_request_id())
            answer = asyncio.get_running_loop().create_task(self._session.ask(message, _NO_TIMEOUT))
            pending, received, swallowed = worker.transport.pending, worker.transport.received, 0
            try:
                while not (await asyncio.wait({answer}, timeout=UNRESPONSIVE_AFTER))[0]:
                    self._show_output(worker)
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

    def _show_output(self, worker: AttachedWorker) -> None:
        """Show the text in the pipes of a worker below the cell that it runs."""
        running = worker.running
        for name, text in worker.read_pipes():
            if running is not None:
                self._capabilities.stream(running.execution_id, StreamOutput(name=name, text=text))

    async def _watch_limits(self, worker: AttachedWorker) -> None:
        """Enforce the limits of a worker: its cell gets an error first, and if that does not help the worker ends."""
        if not self._launcher.limits.is_watched:
            return
        monitor = ResourceMonitor(self._launcher.limits, worker.pid, self._launcher.sandbox.scratch)
        now = asyncio.get_running_loop().time
        reported: dict[str, float] = {}
        while True:
            await asyncio.sleep(LIMIT_POLL_INTERVAL)
            violations = {violation.setting: violation for violation in monitor.violations(worker.running)}
            reported = {setting: since for setting, since in reported.items() if setting in violations}
            for setting, violation in violations.items():
                if setting not in reported:
                    reported[setting] = now()
                    self._report(worker, violation)
                elif now() - reported[setting] > GRACE:
                    self._end(worker, violation)
                    return

    def _report(self, worker: AttachedWorker, violation: LimitViolation) -> None:
        """Raise an error in the cell that exceeds a limit."""
        running = worker.running
        self._bus.publish(
            LimitExceeded(
                session_id=self._session_id,
                execution_id=running.execution_id if running is not None else None,
                limit=violation.setting,
                value=violation.text,
            )
        )
        with contextlib.suppress(TransportClosed):
            text = f"{violation.text}; {violation.setting} sets it"
            self._session.send(LimitExceededMessage(error=violation.error, text=text))

    def _end(self, worker: AttachedWorker, violation: LimitViolation) -> None:
        """End a worker that exceeds a limit, and the processes and files that it has made."""
        worker.verdict = f"Python was ended: {violation.text}"
        if not violation.ends_all or not self._launcher.end_all():
            worker.kill()
