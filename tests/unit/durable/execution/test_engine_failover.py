"""The configured engine, the one in memory, and the way between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from resonate.error import ServerError
from resonate.types import Value

from capsule_durable.engines.base import Engine
from capsule_durable.engines.memory import MemoryEngine
from capsule_durable.execution.engine_failover import RETRY_SECONDS, FailoverEngine
from capsule_durable.messaging.notices import Notices
from capsule_durable.storage.errors import StoreError
from capsule_durable.telemetry.bus import EventBus
from capsule_durable.telemetry.events import EngineChanged, StoreFailed
from tests.support.bridge import EventLog
from tests.support.waiting import DEADLINE

pytestmark = pytest.mark.asyncio


class Durable(MemoryEngine):
    """Stands for the configured engine."""

    url, durable = "durable:", True


class Setup:
    """A store that can be made unusable, a clock that the test sets, and what the user sees."""

    def __init__(self) -> None:
        self.problem: StoreError | None = None
        self.now = 0.0
        self.shown: list[str] = []
        self.notices = Notices()
        self.notices.connect(lambda _, output: self.shown.append(output.text))
        self.notices.set_cell("e1")
        self.bus = EventBus()
        self.log = EventLog(self.bus)
        self.engines: list[FailoverEngine] = []

    def make(self) -> FailoverEngine:
        engine = FailoverEngine(self.open, self.notices, self.bus, "s", clock=lambda: self.now)
        self.engines.append(engine)
        return engine

    def open(self) -> Engine:
        if self.problem is not None:
            raise self.problem
        return Durable()


@pytest_asyncio.fixture
async def setup() -> AsyncIterator[Setup]:
    built = Setup()
    yield built
    for engine in built.engines:
        await asyncio.wait_for(engine.close(), DEADLINE)


async def test_a_usable_store_is_used_without_a_word(setup: Setup) -> None:
    engine = setup.make()
    engine.start()
    await engine.retry_if_due()
    assert (engine.current.url, engine.retry_at) == ("durable:", None)
    assert (setup.shown, setup.log.events) == ([], [])


async def test_an_unusable_store_is_tried_again_after_a_while(setup: Setup) -> None:
    setup.problem = StoreError("the disk is full")
    engine = setup.make()
    engine.start()
    assert engine.current.url == "memory:"
    assert "Results are not being recorded: the disk is full." in setup.shown[0]
    (failed,) = setup.log.of(StoreFailed)
    assert (failed.store, failed.reason, failed.session_id) == ("engine", "the disk is full", "s")
    setup.now = RETRY_SECONDS - 1
    setup.problem = None
    await engine.retry_if_due()
    assert engine.current.url == "memory:"
    setup.now = RETRY_SECONDS
    setup.problem = StoreError("still full")
    await engine.retry_if_due()
    assert (engine.current.url, len(setup.shown)) == ("memory:", 1)
    setup.now = 2 * RETRY_SECONDS
    setup.problem = None
    await engine.retry_if_due()
    assert (engine.current.url, engine.retry_at) == ("durable:", None)
    assert "being recorded again" in setup.shown[1]
    (changed,) = setup.log.of(EngineChanged)
    assert (changed.url, changed.durable) == ("durable:", True)


async def test_an_engine_that_fails_is_replaced_and_the_next_one_works(setup: Setup) -> None:
    engine = setup.make()
    engine.start()
    before = engine.current
    await engine.fall_back(OSError("gone"))
    assert engine.current is not before
    assert "Results are not being recorded: gone." in setup.shown[0]
    (changed,) = setup.log.of(EngineChanged)
    assert (changed.url, changed.durable) == ("memory:", False)
    await engine.current.promises.create("a", 2**53, Value(), {})
    assert await engine.settle("resolve", "a", {"x": 1})
    assert (await engine.current.promises.get("a")).value.data == {"x": 1}


async def test_a_promise_that_cannot_be_settled_is_logged(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    engine = setup.make()
    engine.start()
    with pytest.raises(ServerError):
        await engine.current.promises.get("unknown")
    assert not await engine.settle("reject", "unknown", {"message": "x"})
    assert "promise unknown could not be settled" in caplog.text
