"""The engines under test, each behind the same handle."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from resonate.connections import LocalConnection
from resonate.heartbeat import NoopHeartbeat
from resonate.observability import noop_observer
from resonate.resonate import Resonate
from resonate.retry import Never
from resonate.send import Sender
from resonate.testing import FakeClock, ManualSleeper
from resonate.transport import ExecuteMsg, Message, Transport, UnblockMsg
from resonate.types import PromiseCreateReq, PromiseRecord, PromiseSettleReq, Value

from capsule_durable.engines.embedded.network import MIN_RETRY_DELAY, EmbeddedNetwork
from tests.support.waiting import try_often
from tests.support.worker import settle

NAMES = ("in-process", "embedded")
#: The registered engines, and the connections of them that are tested.
SCHEMES = dict(zip(("memory:", "embedded:"), NAMES, strict=True))
GROUP = "workers"
TTL = 5_000
#: When the clock of the tests begins: it only moves when told to.
BEGINNING = 1_700_000_000_000
FAR = BEGINNING + 10**9


def in_process_lacks(reason: str) -> pytest.MarkDecorator:
    """Ask a test of both engines, and know that the SDK's in-process one fails it."""
    lacking = pytest.param(NAMES[0], marks=pytest.mark.xfail(strict=True, reason=f"the SDK's in-process one {reason}"))
    return pytest.mark.parametrize("engine", [lacking, NAMES[1]], indirect=True)


@dataclass
class Engine:
    """An engine, the requests that the SDK makes of it, and the messages that came from it."""

    connection: LocalConnection | EmbeddedNetwork
    clock: FakeClock
    tick: Callable[[], Awaitable[None]]
    sender: Sender
    messages: list[Message] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.connection.unicast()

    @property
    def target(self) -> str:
        return self.connection.resolve_target(GROUP)

    @property
    def pid(self) -> str:
        return "p1"

    async def pass_time(self, ms: int) -> None:
        """Move the clock, and let timers do what is due."""
        self.clock.advance(ms)
        await self.tick()
        await settle()

    def offers(self) -> list[tuple[str, int]]:
        """Return and forget the tasks that were offered."""
        found = [(message.task_id, message.version) for message in self.messages if isinstance(message, ExecuteMsg)]
        self.messages = [message for message in self.messages if not isinstance(message, ExecuteMsg)]
        return found

    def told(self) -> list[PromiseRecord]:
        """Return and forget the promises whose settlement was told."""
        found = [message.promise for message in self.messages if isinstance(message, UnblockMsg)]
        self.messages = [message for message in self.messages if not isinstance(message, UnblockMsg)]
        return found

    async def create(self, promise_id: str, timeout_at: int = FAR, **tags: str) -> PromiseRecord:
        """Make a promise; ``target="..."`` is short for the tag ``resonate:target``."""
        return await self.sender.promise_create(creation(promise_id, timeout_at, **tags))

    async def settle(self, promise_id: str, value: Any = None, state: Any = "resolved") -> PromiseRecord:
        """Settle a promise."""
        return await self.sender.promise_settle(PromiseSettleReq(id=promise_id, state=state, value=Value(data=value)))

    async def begin(self, task_id: str, timeout_at: int = FAR) -> int:
        """Make a task, take it, and return its version."""
        request = creation(task_id, timeout_at, target=self.target, origin=task_id, branch=task_id, parent=task_id)
        taken = await self.sender.task_create(self.pid, TTL, request)
        assert taken.task.state == "acquired"
        return taken.task.version

    async def acquire_offered(self) -> tuple[str, int]:
        """Take the one task that is offered, and return its id and version."""
        await settle()
        ((task_id, version),) = self.offers()
        taken = await self.sender.task_acquire(task_id, version, self.pid, TTL)
        return task_id, taken.task.version


def creation(promise_id: str, timeout_at: int = FAR, **tags: str) -> PromiseCreateReq:
    """Return a request for a promise; names of tags go without their prefix."""
    return PromiseCreateReq(
        id=promise_id,
        timeout_at=timeout_at,
        param=Value(data="cGFyYW0="),
        tags={f"resonate:{name}": value for name, value in tags.items()},
    )


async def open_engine(name: str, directory: Path) -> Engine:
    """Start an engine with a clock that moves when told to."""
    clock = FakeClock(BEGINNING)
    connection: LocalConnection | EmbeddedNetwork
    if name == NAMES[0]:
        sleeper = ManualSleeper()
        connection = LocalConnection(pid="p1", group=GROUP, clock=clock, sleeper=sleeper)
        tick: Callable[[], Awaitable[None]] = sleeper.tick
    else:
        connection = embedded = EmbeddedNetwork(directory / "engine.sqlite3", GROUP, clock=clock)

        delays: list[float] = []
        plan = embedded._plan

        def noting(delay: float = 0.0) -> None:
            delays.append(delay)
            plan(delay)

        embedded._plan = noting  # type: ignore[method-assign]

        def poll() -> bool:
            embedded._poll()
            return delays.pop() != MIN_RETRY_DELAY

        async def tick() -> None:
            # The engine's own maintenance may have locked the file just now.
            await try_often(poll)

    ids = (f"c{number}" for number in itertools.count())
    transport = Transport(connection, [connection], noop_observer)
    engine = Engine(connection, clock, tick, Sender(transport, None, ids.__next__, noop_observer))
    transport.recv(lambda message: engine.messages.append(message))  # noqa: PLW0108  # the list changes
    await connection.start()
    await settle()
    return engine


async def close_engine(engine: Engine) -> None:
    """Stop an engine."""
    await engine.connection.stop()
    if isinstance(engine.connection, EmbeddedNetwork):
        engine.connection.close()


def resonate_on(connection: LocalConnection | EmbeddedNetwork, **settings: Any) -> Resonate:
    """Return the SDK on an engine, as the project sets it up; not started."""
    if isinstance(connection, EmbeddedNetwork):
        settings |= {"pid": connection.pid, "ttl": connection.ttl, "heartbeat": connection.heartbeat}
    else:
        settings |= {"pid": "p1", "ttl": timedelta(milliseconds=TTL), "heartbeat": NoopHeartbeat()}
    return Resonate(
        network=connection,
        group=GROUP,
        retry_policy=Never(),
        subscription_refresh_secs=0,
        observer=noop_observer,
        env={},
        autostart=False,
        **settings,
    )
