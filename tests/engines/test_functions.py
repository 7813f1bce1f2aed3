"""Durable functions, end to end: the SDK's ways to use an engine, and the project's own functions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from resonate.connections import LocalConnection
from resonate.context import Context
from resonate.error import ApplicationError, ServerError
from resonate.resonate import Resonate
from resonate.types import Value

from capsule_durable.engines.base import SdkEngine
from capsule_durable.engines.embedded.network import EmbeddedNetwork
from capsule_durable.errors import WorkerDied
from capsule_worker.protocol import messages as m
from tests.support.bridge import ConnectedBridge
from tests.support.engines import GROUP, NAMES, resonate_on
from tests.support.waiting import DEADLINE, pass_time

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture(params=NAMES)
async def resonate(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Resonate]:
    connection = (
        LocalConnection(pid="p1", group=GROUP, tick_interval=0.01)
        if request.param == NAMES[0]
        else EmbeddedNetwork(tmp_path / "engine.sqlite3", GROUP)
    )
    built = resonate_on(connection)
    yield built
    await asyncio.wait_for(built.stop(), DEADLINE)
    if isinstance(connection, EmbeddedNetwork):
        connection.close()


async def test_a_step_runs_once_though_its_function_starts_again(resonate: Resonate) -> None:
    ran: list[str] = []

    def note(ctx: Context, text: str) -> str:
        ran.append(text)
        return text.upper()

    @resonate.register
    async def ask(ctx: Context, name: str) -> list[Any]:
        ran.append("begin")
        answer = ctx.promise(timeout=timedelta(hours=1))
        first = await ctx.run(note, name)
        asked.put_nowait(await answer.id())
        return [first, await answer, await ctx.run(note, "last")]

    asked: asyncio.Queue[str] = asyncio.Queue()
    resonate.start()
    handle = resonate.run("a", ask, "x")
    answer_id = await asyncio.wait_for(asked.get(), DEADLINE)
    await resonate.promises.resolve(answer_id, Value(data={"n": 1}))
    assert await asyncio.wait_for(handle.result(), DEADLINE) == ["X", {"n": 1}, "LAST"]
    assert ran == ["begin", "x", "begin", "last"]
    assert await resonate.run("a", ask, "other").result() == ["X", {"n": 1}, "LAST"]
    assert ran == ["begin", "x", "begin", "last"]


async def test_an_error_of_a_function_reaches_its_caller(resonate: Resonate) -> None:
    @resonate.register
    async def fail(ctx: Context) -> None:
        answer = ctx.promise(timeout=timedelta(hours=1))
        await resonate.promises.reject(await answer.id(), Value(data={"message": "no"}))
        await answer

    resonate.start()
    with pytest.raises(ApplicationError, match="no"):
        await asyncio.wait_for(resonate.run("a", fail).result(), DEADLINE)
    record = await resonate.promises.get("a")
    assert record.state == "rejected"


async def test_functions_call_sleep_and_start_each_other(resonate: Resonate) -> None:
    done = asyncio.Event()

    @resonate.register
    async def double(ctx: Context, n: int) -> int:
        await ctx.sleep(timedelta(milliseconds=20))
        return 2 * n

    @resonate.register
    async def later(ctx: Context) -> None:
        done.set()

    @resonate.register
    async def whole(ctx: Context) -> list[int]:
        await ctx.detached("later")
        several = [ctx.rpc(double, n) for n in range(5)]
        return [await one for one in several]

    resonate.start()
    assert await asyncio.wait_for(resonate.run("a", whole).result(), DEADLINE) == [0, 2, 4, 6, 8]
    await asyncio.wait_for(done.wait(), DEADLINE)
    assert await asyncio.wait_for(resonate.rpc("b", double, 21).result(), DEADLINE) == 42


async def test_many_steps_are_many_promises_and_nothing_else(resonate: Resonate) -> None:
    ran: list[int] = []

    def step(ctx: Context, n: int) -> int:
        ran.append(n)
        return n

    @resonate.register
    async def climb(ctx: Context, steps: int) -> int:
        total = sum([await ctx.run(step, n) for n in range(steps)])
        await ctx.sleep(timedelta(milliseconds=1))
        return total

    resonate.start()
    assert await asyncio.wait_for(resonate.run("a", climb, 120).result(), DEADLINE) == sum(range(120))
    assert ran == list(range(120))


async def test_a_handle_is_had_by_id(resonate: Resonate) -> None:
    resonate.start()
    with pytest.raises(ServerError):
        await resonate.get("a")
    await resonate.promises.create("a", 2**53, Value(data=1), {})
    handle = await resonate.get("a")
    assert not handle.done()
    await resonate.promises.resolve("a", Value(data="value"))
    assert await asyncio.wait_for(handle.result(), DEADLINE) == "value"
    await resonate.promises.create("b", 2**53, Value(), {})
    await resonate.promises.cancel("b", Value())
    with pytest.raises(ApplicationError):
        await (await resonate.get("b")).result()


async def test_a_step_that_takes_longer_than_a_lease_is_taken_once(tmp_path: Path) -> None:
    ran: list[str] = []

    async def slow(ctx: Context) -> str:
        ran.append("slow")
        # Leases of others do end in this time: the other connection looks after that.
        await asyncio.to_thread(pass_time, 1.0)
        return "done"

    both = [EmbeddedNetwork(tmp_path / "engine.sqlite3", GROUP, ttl=timedelta(seconds=0.2)) for _ in range(2)]
    first, second = (resonate_on(connection) for connection in both)
    for resonate in (first, second):
        resonate.register(slow, name="slow")
        resonate.start()
    assert await asyncio.wait_for(first.run("a", slow).result(), DEADLINE) == "done"
    assert ran == ["slow"]
    for resonate, connection in zip((first, second), both, strict=True):
        await resonate.stop()
        connection.close()


def bridge_on(resonate: Resonate) -> ConnectedBridge:
    """Connect the project's functions; every question is answered with its text in capitals."""
    engine = SdkEngine(resonate, resonate._resolve_target(GROUP))
    connected = ConnectedBridge(engine, lambda question: connected.inputs.answer(question, question.prompt.upper()))
    return connected


async def test_a_cell_runs_is_asked_and_answers(resonate: Resonate) -> None:
    bridge = bridge_on(resonate)
    for number in range(3):
        cell = bridge.start(f"e{number}")
        sent = await bridge.worker.receive()
        assert sent.id == f"e{number}"
        bridge.worker.send(m.InputMessage(id="i1", execution_id=sent.id, prompt="name", password=False))
        answer = await bridge.worker.receive()
        assert answer.value == "NAME"
        bridge.worker.send(
            m.ResultMessage(
                execution_id=sent.id, status="ok", execution_count=1, next_execution_count=2, execution_time=0.5
            )
        )
        assert (await asyncio.wait_for(cell, DEADLINE)).execution_time == 0.5
    assert bridge.bridge.pending == 0
    await bridge.close()


async def test_a_cell_whose_worker_dies_fails_with_the_reason(resonate: Resonate) -> None:
    bridge = bridge_on(resonate)
    cell = bridge.start("e1")
    await bridge.worker.receive()
    bridge.process.die("it died")
    with pytest.raises(WorkerDied, match="it died"):
        await asyncio.wait_for(cell, DEADLINE)
    await bridge.close()
