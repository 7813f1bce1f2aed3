"""Roots whose functions wait for one promise and return its value: the embedded engine creates both at once."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from resonate.error import ServerError
from resonate.send import TaskCreateResult
from resonate.types import PromiseRegisterCallbackData

from capsule_durable.engines.embedded.engine import EmbeddedEngine
from capsule_durable.engines.embedded.network import EmbeddedNetwork
from capsule_durable.errors import SessionClosed, WorkerDied
from capsule_worker.protocol import messages as m
from tests.support.bridge import ConnectedBridge
from tests.support.engines import FAR, GROUP, TTL, Engine, close_engine, creation, open_engine, resonate_on
from tests.support.waiting import DEADLINE, poll_until_async
from tests.support.worker import settle

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = await open_engine("embedded", tmp_path)
    yield engine
    await close_engine(engine)


async def begin(engine: Engine) -> TaskCreateResult:
    engine.connection.preallocate("a", "a:1", FAR)
    return await engine.sender.task_create(engine.pid, TTL, creation("a", target=engine.target, parent="a"))


async def wait_for_step(engine: Engine, version: int) -> object:
    return await engine.sender.task_suspend("a", version, [PromiseRegisterCallbackData(awaited="a:1", awaiter="a")])


async def test_a_root_comes_with_the_promise_that_its_function_begins_with(engine: Engine) -> None:
    taken = await begin(engine)
    (step,) = taken.preload
    assert (step.id, step.state, step.timeout_at) == ("a:1", "pending", FAR)
    assert await engine.create("a:1") == step


@pytest.mark.parametrize("state", ["resolved", "rejected"])
async def test_the_root_is_settled_with_it_and_nothing_is_left_to_run(engine: Engine, state: str) -> None:
    version = (await begin(engine)).task.version
    await wait_for_step(engine, version)
    await engine.sender.promise_register_listener("a", engine.address)
    await engine.settle("a:1", "dGhpcw==", state)
    await settle()
    (told,) = engine.told()
    assert (told.id, told.state, told.value.data) == ("a", state, "dGhpcw==")
    assert engine.offers() == []
    with pytest.raises(ServerError):
        await engine.sender.task_acquire("a", version, engine.pid, TTL)


async def test_a_function_that_comes_to_wait_when_all_is_over_is_let_go(engine: Engine) -> None:
    version = (await begin(engine)).task.version
    await engine.settle("a:1")
    await wait_for_step(engine, version)
    await settle()
    assert engine.offers() == []


async def test_a_function_is_told_of_its_cancelled_promise(engine: Engine) -> None:
    version = (await begin(engine)).task.version
    await wait_for_step(engine, version)
    await engine.settle("a:1", state="rejected_canceled")
    await settle()
    assert [task_id for task_id, _ in engine.offers()] == ["a"]
    assert (await engine.sender.promise_get("a")).state == "pending"


async def test_a_root_that_is_settled_stays_as_it_is(engine: Engine) -> None:
    await begin(engine)
    await engine.settle("a", "Zmlyc3Q=")
    await engine.settle("a:1", "bGF0ZXI=")
    assert (await engine.sender.promise_get("a")).value.data == "Zmlyc3Q="


async def test_a_root_that_is_there_gets_no_other_step(engine: Engine) -> None:
    await engine.create("a", target=engine.target)
    taken = await begin(engine)
    assert taken.preload == []


async def test_a_listener_is_told_what_another_process_settles(engine: Engine, tmp_path: Path) -> None:
    await engine.create("a")
    await engine.sender.promise_register_listener("a", engine.address)
    other = await open_engine("embedded", tmp_path)
    await other.settle("a", "eW91cnM=")
    await close_engine(other)
    (told,) = await poll_until_async(engine.told, "the settlement is told")
    assert told.value.data == "eW91cnM="
    await engine.pass_time(1)
    assert engine.told() == []


async def test_who_listens_hears_of_a_settlement_that_was_seen_while_the_file_was_locked(
    engine: Engine, tmp_path: Path
) -> None:
    await engine.create("a")
    await engine.sender.promise_register_listener("a", engine.address)
    with contextlib.closing(sqlite3.connect(tmp_path / "engine.sqlite3", isolation_level=None)) as other:
        # Nothing is awaited in between, so the engine cannot look before the file is locked.
        other.execute("UPDATE promises SET state = 'resolved', settled_at = created_at WHERE id = 'a'")
        other.execute("BEGIN IMMEDIATE")
        await engine.pass_time(1)
        assert engine.told() == []
        other.execute("ROLLBACK")
    (told,) = await poll_until_async(engine.told, "the settlement is told")
    assert (told.id, told.state) == ("a", "resolved")


class Counting(EmbeddedNetwork):
    """Counts what it is asked."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked: list[str] = []
        self.suspended = asyncio.Event()

    async def _handle(self, request: Any) -> Any:
        self.asked.append(type(request).__name__)
        answer = await super()._handle(request)
        if self.asked[-1] == "SuspendTask":
            self.suspended.set()
        return answer


class Foreseeing(EmbeddedEngine):
    """The project's engine on a connection of the test's."""

    def __init__(self, connection: EmbeddedNetwork, resonate: Any) -> None:
        self._network = connection
        self.resonate = resonate
        self.target = connection.resolve_target(GROUP)


def foreseeing(connection: EmbeddedNetwork) -> ConnectedBridge:
    return ConnectedBridge(Foreseeing(connection, resonate_on(connection)))


async def test_a_bridge_closes_though_its_last_words_are_kept_at_once(tmp_path: Path) -> None:
    """As in the front, where tasks begin, and may end, before the caller that starts them continues."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    connection = EmbeddedNetwork(tmp_path / "engine.sqlite3", GROUP)
    connected = foreseeing(connection)
    resonate = connected.engine.resonate
    cell = connected.start("e1")
    await connected.worker.receive()
    await asyncio.wait_for(connected.close(), DEADLINE)
    with pytest.raises(SessionClosed):
        await asyncio.wait_for(cell, DEADLINE)
    assert (await resonate.promises.get("exec.e1")).state == "rejected"
    await resonate.stop()
    connection.close()


async def test_a_cell_takes_four_requests_whether_it_has_an_outcome_or_none(tmp_path: Path) -> None:
    connection = Counting(tmp_path / "engine.sqlite3", GROUP)
    connected = foreseeing(connection)
    resonate = connected.engine.resonate
    cell = connected.start("e1")
    await connected.worker.receive()
    await asyncio.wait_for(connection.suspended.wait(), DEADLINE)  # a cell may be faster, too
    connected.worker.send(
        m.ResultMessage(execution_id="e1", status="ok", execution_count=1, next_execution_count=2, execution_time=0.5)
    )
    assert (await asyncio.wait_for(cell, DEADLINE)).execution_time == 0.5
    assert sorted(connection.asked) == ["CreateTask", "Listen", "SettlePromise", "SuspendTask"]
    root = await resonate.promises.get("exec.e1")
    assert (root.state, root.value) == ("resolved", (await resonate.promises.get("exec.e1:1")).value)
    connection.asked.clear()
    cell = connected.start("e2")
    await connected.worker.receive()
    connected.process.die("it died")
    with pytest.raises(WorkerDied, match="it died"):
        await asyncio.wait_for(cell, DEADLINE)
    await connected.close()
    assert sorted(connection.asked) == ["CreateTask", "Listen", "SettlePromise", "SuspendTask"]
    await resonate.stop()
    connection.close()
