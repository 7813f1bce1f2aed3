"""A real worker at the end of a real socket, and a scripted one at the end of a queue."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

from capsule_durable.messaging.transport import MemoryTransport
from capsule_durable.workers.launcher import Launcher
from capsule_durable.workers.process import AttachedWorker
from capsule_worker.protocol import Message
from capsule_worker.protocol import messages as m
from tests.support.waiting import DEADLINE


class LiveWorker:
    """A worker process, spoken to message by message."""

    def __init__(self, worker: AttachedWorker) -> None:
        self.worker = worker
        self._numbers = itertools.count(1)

    async def receive(self) -> Message:
        return await asyncio.wait_for(self.worker.transport.receive(), DEADLINE)

    def send(self, code: str, execution_id: str | None = None, **fields: Any) -> str:
        execution_id = execution_id or f"e{next(self._numbers)}"
        self.worker.transport.send(m.ExecuteMessage(id=execution_id, code=code, **fields))
        return execution_id

    async def until(self, found: Callable[[Message], bool]) -> list[Message]:
        """Return the messages up to the one that is looked for."""
        messages = []
        while True:
            messages.append(await self.receive())
            if found(messages[-1]):
                return messages

    async def run(self, code: str, **fields: Any) -> list[Message]:
        """Run a cell and return all that it caused, its result last."""
        execution_id = self.send(code, **fields)
        return await self.until(ends(execution_id))


def ends(execution_id: str) -> Callable[[Message], bool]:
    """Return a test for the message that ends an execution."""

    def found(message: Message) -> bool:
        return isinstance(message, (m.ResultMessage, m.ErrorMessage)) and message.execution_id == execution_id

    return found


def text_of(messages: list[Message], name: str = "stdout") -> str:
    """Return what was written to a stream."""
    outputs = [message.output for message in messages if isinstance(message, m.OutputMessage)]
    return "".join(o.text for o in outputs if isinstance(o, m.StreamOutput) and o.name == name)


@contextlib.asynccontextmanager
async def live_worker(drain_timeout: float = 30.0) -> AsyncIterator[LiveWorker]:
    """Start a worker and wait until it is ready; it has ended when the block has."""
    launcher = Launcher(drain_timeout=drain_timeout)
    worker = await AttachedWorker.adopt(launcher.launch())
    try:
        live = LiveWorker(worker)
        assert isinstance(await live.receive(), m.ReadyMessage)
        yield live
    finally:
        worker.kill()
        await worker.exited
        worker.transport.close()
        end(launcher)


def end(launcher: Launcher) -> None:
    """End a launcher's forkserver and all its children, and wait for it."""
    warden = launcher.close()
    assert warden is not None
    warden.process.wait(DEADLINE)


class Scripted:
    """The worker's end of a transport, in the hands of a test."""

    def __init__(self) -> None:
        self.front, self.end = MemoryTransport.pair()

    async def receive(self) -> Message:
        return await asyncio.wait_for(self.end.receive(), DEADLINE)

    def send(self, message: Message) -> None:
        self.end.send(message)

    def result(self, execution_id: str, **fields: Any) -> None:
        """Send a result."""
        defaults: dict[str, Any] = {
            "status": "ok",
            "execution_count": 1,
            "next_execution_count": 2,
            "execution_time": 0.0,
        }
        self.send(m.ResultMessage(execution_id=execution_id, **(defaults | fields)))


async def settle() -> None:
    """Let everything run that can run now."""
    for _ in range(50):
        await asyncio.sleep(0)
