"""A bridge between an engine and a worker that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from capsule_durable.engines.base import Engine
from capsule_durable.errors import ExecutionFailed, WorkerUnavailable
from capsule_durable.execution.bridge import Bridge
from capsule_durable.execution.durable_cells import DurableCells
from capsule_durable.execution.engine_failover import FailoverEngine
from capsule_durable.execution.inputs import InputBroker
from capsule_durable.messaging.capabilities import Capabilities, InputPrompt
from capsule_durable.messaging.notices import Notices
from capsule_durable.messaging.session import Session
from capsule_durable.telemetry.bus import EventBus
from capsule_durable.telemetry.events import EVENT_TYPES, Event
from capsule_durable.workers.process import Exit, WorkerDeath
from capsule_worker.protocol import messages as m
from capsule_worker.protocol.output_buffer import StreamName
from tests.support.worker import Scripted


class EventLog:
    """Observes all events of a bus."""

    def __init__(self, bus: EventBus) -> None:
        self.events: list[Event] = []
        bus.subscribe(self, *EVENT_TYPES)

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Event]) -> list[Event]:
        """Return the events of a type."""
        return [event for event in self.events if isinstance(event, kind)]


class PlayedWorker:
    """The front's side of a worker that the test plays: what ``AttachedWorker`` is for the bridge."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.died: asyncio.Future[WorkerDeath] = asyncio.get_running_loop().create_future()
        self.running: set[str] = set()

    def send_cell(self, message: m.ExecuteMessage) -> None:
        self._session.send(message)
        self.running.add(message.id)

    def release(self, execution_id: str) -> None:
        self.running.discard(execution_id)

    def die(self, reason: str = "killed", last_words: str = "") -> None:
        """Report the exit of the worker."""
        words: list[tuple[StreamName, str]] = [("stdout", last_words)] if last_words else []
        running = next(iter(self.running), None)
        self.died.set_result(WorkerDeath(Exit(-9, 1 << 20, words, ""), reason, "Nothing is restored.", running))


class ConnectedBridge:
    """An engine, a session and a bridge, with a worker that the test plays.

    Args:
        engine: stores the promises.
        prompt: is given each question for the client; without it they wait in ``questions``.
    """

    def __init__(self, engine: Engine, prompt: Callable[[InputPrompt], None] | None = None) -> None:
        self.engine = engine
        self.questions: asyncio.Queue[InputPrompt] = asyncio.Queue()
        #: What was shown, each with its execution.
        self.shown: list[tuple[str, str]] = []
        self.capabilities = Capabilities(
            stream=lambda execution_id, output: self.shown.append((execution_id, output.text)),
            display=lambda *_: None,
            prompt=prompt or self.questions.put_nowait,
        )
        #: Why there is no worker, if a test wants there to be none.
        self.no_worker: WorkerUnavailable | None = None
        #: Cleared while a test wants a worker to be on its way.
        self.is_ready = asyncio.Event()
        self.is_ready.set()
        self.bus = EventBus()
        self.log = EventLog(self.bus)
        self.notices = Notices()
        self.notices.connect(self.capabilities.stream)
        self.failover = FailoverEngine(lambda: engine, self.notices, self.bus, "s")
        self.inputs = InputBroker(self.failover, self.capabilities.prompt, self.bus, "s")
        self.session = Session("s", self.capabilities, self.inputs.ask)
        self.bridge = Bridge(self.failover, self, self.inputs, self.capabilities, self.notices)
        self.bridge.connect(self.session)
        self.cells = DurableCells(self.failover, self.bridge)
        self.failover.start(self.bridge, self.inputs)
        self.attach()

    def attach(self) -> None:
        """Connect a new worker."""
        self.worker = Scripted()
        self.process = PlayedWorker(self.session)
        self.reader = self.session.attach(self.worker.front)

    async def ready(self) -> PlayedWorker:
        """Wait for a worker; in place of the supervisor's method."""
        if self.no_worker is not None:
            raise self.no_worker
        await self.is_ready.wait()
        return self.process

    def start(self, execution_id: str, timeout: float = 60.0) -> asyncio.Future[m.ResultMessage]:
        """Start a cell.

        Args:
            execution_id: its id.
            timeout: seconds that it may take.
        """
        return asyncio.ensure_future(self._run(execution_id, timeout))

    async def _run(self, execution_id: str, timeout: float) -> m.ResultMessage:
        request = m.ExecuteMessage(id=execution_id, code="1", allow_stdin=True)
        result = (await self.cells.run(request, timeout)).result
        if isinstance(result, ExecutionFailed):
            raise result
        return result

    async def close(self) -> None:
        """Close the bridge and the session; the engine stays open."""
        await self.bridge.close()
        await self.session.close()
