"""What the kernel and the commands expect of every registered engine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from resonate.error import ApplicationError
from resonate.types import Value

from capsule_durable import ids
from capsule_durable.engines.base import Engine, EngineContext
from capsule_durable.engines.registry import ENGINES, open_client, open_engine
from capsule_durable.errors import EngineUnavailable
from tests.support.engines import SCHEMES
from tests.support.waiting import DEADLINE

pytestmark = pytest.mark.asyncio


@pytest.fixture(params=sorted(ENGINES))
def url(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def context(tmp_path: Path) -> EngineContext:
    return EngineContext(tmp_path, "kernel")


@pytest_asyncio.fixture
async def opened(url: str, context: EngineContext) -> AsyncIterator[Engine]:
    engine = open_engine(url, context)
    engine.start()
    yield engine
    await engine.close()


async def create(engine: Engine, promise_id: str, seconds: float = 60.0, **tags: str) -> None:
    await engine.promises.create(promise_id, int((time.time() + seconds) * 1000), Value(data=[promise_id]), tags)


async def listed(engine: Engine, state: str | None = None, tags: dict[str, str] | None = None) -> list[str]:
    return [promise.id async for promise in engine.search_all(state, tags)]


async def test_the_suite_of_the_connections_runs_for_it(url: str) -> None:
    assert url in SCHEMES


async def test_it_says_what_it_is(url: str, opened: Engine) -> None:
    assert opened.url == url
    assert isinstance(opened.durable, bool)
    assert opened.target


async def test_a_result_is_waited_for(opened: Engine) -> None:
    await create(opened, "p")
    waiting = asyncio.ensure_future(opened.result_of("p"))
    await opened.promises.resolve("p", Value(data={"a": [1]}))
    assert await asyncio.wait_for(waiting, DEADLINE) == {"a": [1]}
    await create(opened, "q")
    await opened.promises.reject("q", Value(data={"message": "no"}))
    with pytest.raises(ApplicationError, match="no"):
        await asyncio.wait_for(opened.result_of("q"), DEADLINE)


async def test_all_promises_are_found_however_many_there_are(opened: Engine) -> None:
    names = [f"p{number}" for number in range(230)]
    for number, name in enumerate(names):
        await create(opened, name, kind="even" if number % 2 == 0 else "odd")
    await opened.promises.resolve("p7", Value(data=1))
    assert await listed(opened) == names
    assert await listed(opened, "resolved") == ["p7"]
    assert await listed(opened, "pending", {"kind": "odd"}) == [name for name in names[1::2] if name != "p7"]
    assert await listed(opened, tags={"kind": "neither"}) == []


async def test_an_execution_can_be_announced_and_forgotten(opened: Engine) -> None:
    for number in range(40):
        root = ids.execution(f"e{number}")
        opened.preallocate(root, int((time.time() + 60) * 1000))
        await create(opened, root)
        await opened.promises.resolve(root, Value(data=number))
        opened.forget(root)
    assert await opened.result_of(ids.execution("e39")) == 39


async def test_it_closes_twice(opened: Engine) -> None:
    await opened.close()
    await opened.close()


async def test_durable_promises_exist_for_the_next_process(url: str, context: EngineContext) -> None:
    first = open_engine(url, context)
    await create(first, "p")
    await first.close()
    second = open_engine(url, context)
    assert await listed(second) == (["p"] if second.durable else [])
    await second.close()


async def test_a_client_sees_the_promises_of_kernels_or_is_refused(url: str, context: EngineContext) -> None:
    outside = EngineContext(context.home, "client")
    engine = open_engine(url, context)
    await create(engine, "p")
    if engine.durable:
        client = open_client(url, outside)
        assert client is not None
        assert await listed(client) == ["p"]
        await client.promises.resolve("p", Value(data="answer"))
        assert await asyncio.wait_for(engine.result_of("p"), DEADLINE) == "answer"
        await client.close()
    else:
        with pytest.raises(EngineUnavailable, match="other processes cannot see"):
            open_client(url, outside)
    await engine.close()


async def test_a_client_of_an_unused_home_creates_nothing(url: str, context: EngineContext) -> None:
    try:
        assert open_client(url, context) is None
    except EngineUnavailable:
        pass
    assert list(context.home.iterdir()) == []


async def test_an_unknown_engine_is_refused_with_those_to_choose_from(context: EngineContext) -> None:
    for open_one in (open_engine, open_client):
        with pytest.raises(EngineUnavailable, match=r'unknown engine "redis:" \(choose from embedded:, memory:\)'):
            open_one("redis:", context)


@pytest.mark.process
async def test_only_the_module_of_the_engine_is_imported(url: str, tmp_path: Path) -> None:
    modules = {scheme: place.partition(":")[0] for scheme, place in ENGINES.items()}
    code = (
        "import sys; from pathlib import Path; from capsule_durable.engines import base, registry\n"
        f"before = set(sys.modules); assert not before & {set(modules.values())!r}, before\n"
        f"registry._factory({url!r}); print(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=DEADLINE)
    assert set(done.stdout.split()) & set(modules.values()) == {modules[url]}
