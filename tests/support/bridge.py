"""A bridge between an engine and a worker that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from capsule_durable.engines.base import Engine
from capsule_durable.errors import WorkerUnavailable
from capsule_durable.execution import functions
from capsule_durable.execution.bridge import Bridge
from capsule_durable.messaging.capabilities import Capabilities, InputPrompt
from capsule_durable.messaging.session import Session
from capsule_worker.protocol import messages as m
from tests.support.worker import Scripted


class ConnectedBridge:
    """An engine, a session and a bridge, with a worker in the test's hands.

    Args:
        engine: what keeps promises.
        prompt: is given each question for the client; without it they wait in ``questions``.
    """

    def __init__(self, engine: Engine, prompt: Callable[[InputPrompt], None] | None = None) -> None:
        self.engine = engine
        self.questions: asyncio.Queue[InputPrompt] = asyncio.Queue()
        self.capabilities = Capabilities(
            stream=lambda *_: None, display=lambda *_: None, prompt=prompt or self.questions.put_nowait
        )
        #: Why there is no worker, if a test wants there to be none.
        self.no_worker: WorkerUnavailable | None = None
        self.bridge = Bridge(engine, self.capabilities, self._worker_ready)
        self.session = Session("s", self.capabilities, self.bridge.ask)
        self.bridge.connect(self.session)
        for dependency in (self.session, self.bridge, self.capabilities):
            engine.resonate.with_dependency(dependency)
        functions.register(engine.resonate)
        engine.start()
        self.attach()

    def attach(self) -> None:
        """Connect a new worker."""
        self.worker = Scripted()
        self.reader = self.session.attach(self.worker.front)

    async def _worker_ready(self) -> None:
        if self.no_worker is not None:
            raise self.no_worker

    def start(self, execution_id: str, timeout: float = 60.0) -> asyncio.Future[m.ResultMessage]:
        """Start a cell.

        Args:
            execution_id: its id.
            timeout: seconds that it may take.
        """
        request = m.ExecuteMessage(id=execution_id, code="1", allow_stdin=True)
        return asyncio.ensure_future(functions.run_cell(self.engine.resonate, self.bridge, request, timeout))

    async def close(self) -> None:
        """Close the bridge and the session; the engine stays open."""
        await self.bridge.close()
        await self.session.close()
