"""What requests cost the embedded engine, in SQLite's own instructions: no clock, no noise."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import pytest
from resonate.types import PromiseRegisterCallbackData, PromiseSettleReq, Value

from tests.support.engines import FAR, TTL, Engine, close_engine, creation, open_engine


async def workflow(engine: Engine, name: str, steps: int = 1) -> None:
    """Make the requests of a cell: a task, its outcome, a step, and so on to its end."""
    sender, pid = engine.sender, engine.connection.pid
    request = creation(name, target=engine.target, parent=name)
    taken = await sender.task_create(pid, TTL, request)
    await sender.promise_register_listener(name, engine.address)
    version = taken.task.version
    await sender.task_fence_create(name, version, creation(f"{name}:0", parent=name))
    for step in range(1, steps + 1):
        await one_step(engine, name, version, step)
    await sender.task_suspend(name, version, [PromiseRegisterCallbackData(awaited=f"{name}:0", awaiter=name)])
    await engine.settle(f"{name}:0")
    taken = await sender.task_acquire(name, version, pid, TTL)
    outcome = PromiseSettleReq(id=name, state="resolved", value=Value(data="ZG9uZQ=="))
    await sender.task_fulfill(name, taken.task.version, outcome)


async def one_step(engine: Engine, name: str, version: int, step: int) -> None:
    await engine.sender.task_fence_create(name, version, creation(f"{name}:{step}", parent=name))
    done = PromiseSettleReq(id=f"{name}:{step}", state="resolved", value=Value(data="ZG9uZQ=="))
    await engine.sender.task_fence_settle(name, version, done)


class Work:
    """Counts what SQLite does, in tens of its own instructions: no clock, no noise."""

    def __init__(self, engine: Engine) -> None:
        self._sql = engine.connection._database.connection
        self.done = 0

    def __enter__(self) -> Self:
        self.done = 0
        self._sql.set_progress_handler(self._count, 10)
        return self

    def __exit__(self, *_: object) -> None:
        self._sql.set_progress_handler(None, 10)

    def _count(self) -> int:
        self.done += 1
        return 0


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_long_history_makes_no_request_dearer(tmp_path: Path) -> None:
    engine = await open_engine("embedded", tmp_path)
    work = Work(engine)
    for number in range(20):
        await workflow(engine, f"w{number}")
    with work:
        await workflow(engine, "early")
    early = work.done
    for number in range(20, 1000):
        await workflow(engine, f"w{number}")
    await engine.create("waits")
    with work:
        await workflow(engine, "late")
    assert work.done <= 1.2 * early
    await close_engine(engine)


@pytest.mark.asyncio
async def test_many_steps_make_no_step_dearer(tmp_path: Path) -> None:
    engine = await open_engine("embedded", tmp_path)
    work = Work(engine)
    version = await engine.begin("a")
    for step in range(1, 20):
        await one_step(engine, "a", version, step)
    with work:
        await one_step(engine, "a", version, 20)
    early = work.done
    for step in range(21, 2000):
        await one_step(engine, "a", version, step)
    with work:
        await one_step(engine, "a", version, 2000)
    assert work.done <= 1.2 * early
    await close_engine(engine)


@pytest.mark.asyncio
async def test_a_look_at_a_large_file_costs_little(tmp_path: Path) -> None:
    engine = await open_engine("embedded", tmp_path)
    work = Work(engine)

    def look() -> int:
        engine.connection._seen = None
        with work:
            engine.connection._poll()
        return work.done

    early = look()
    for number in range(300):
        await engine.create(f"pending{number}")
        await engine.begin(f"task{number}", FAR + number)
        await engine.create(f"offered{number}", target="capsule://any@others")
    assert look() <= early + 50
    await close_engine(engine)
