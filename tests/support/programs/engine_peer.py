"""Another process on the same file. Run as ``python peer.py ROLE FILE ...``; it speaks in lines.

Every line is written at once and whole, so that what was said before a SIGKILL has been said.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

from resonate.context import Context
from resonate.observability import noop_observer
from resonate.resonate import Resonate
from resonate.retry import Never
from resonate.types import Value

from capsule_durable.engines.embedded.network import EmbeddedNetwork

HOUR = timedelta(hours=1)


def say(*words: object) -> None:
    """Write a line."""
    os.write(1, (json.dumps(words) + "\n").encode())


def far() -> int:
    return int(time.time() * 1000) + 3_600_000


def connect(path: str, group: str, ttl: float = 60.0) -> tuple[EmbeddedNetwork, Resonate]:
    """Return the SDK on the file, not started. A lease is long, unless it is what a test is about."""
    connection = EmbeddedNetwork(Path(path), group, ttl=timedelta(seconds=ttl))
    resonate = Resonate(
        network=connection,
        pid=connection.pid,
        group=group,
        ttl=connection.ttl,
        heartbeat=connection.heartbeat,
        retry_policy=Never(),
        subscription_refresh_secs=0,
        observer=noop_observer,
        env={},
        autostart=False,
    )
    return connection, resonate


async def order(ctx: Context, name: str) -> list[Any]:
    """Take two steps, with a question between them."""
    answer = ctx.promise(timeout=HOUR)
    first = await ctx.run(step, f"{name} first")
    say("asks", await answer.id())
    return [first, await answer, await ctx.run(step, f"{name} second")]


async def step(ctx: Context, text: str) -> str:
    """Print that the step began, and take as long as the test wants."""
    say("step", text)
    if text.endswith("slow first") and os.environ.get("SLOW"):
        await asyncio.sleep(3600)
    return text


async def lines() -> asyncio.StreamReader:
    """Return standard input."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def work(path: str, group: str, ttl: str = "60") -> None:
    """Do a group's work; a line is the id of an order to begin."""
    connection, resonate = connect(path, group, float(ttl))
    for function in (order, step):
        resonate.register(function, retry_policy=Never())
    resonate.start()
    say("ready", connection.pid)
    waiting = set()

    async def begin(promise_id: str) -> None:
        handle = resonate.options(timeout=HOUR).run(promise_id, order, promise_id)
        say("result", promise_id, await handle.result())

    reader = await lines()
    while line := await reader.readline():
        waiting.add(asyncio.create_task(begin(line.decode().strip())))
    await resonate.stop()
    connection.close()


async def answer(path: str) -> None:
    """Resolve the promises whose ids arrive; print the times, by the clock that all processes share."""
    connection, resonate = connect(path, "idle")
    say("ready")
    reader = await lines()
    while line := await reader.readline():
        begun = time.monotonic_ns()
        await resonate.promises.resolve(line.decode().strip(), Value(data="answer"))
        say("resolved", begun)
    connection.close()


def forked(count: int, act: Callable[[int], Coroutine[Any, Any, None]]) -> list[int]:
    """Do something in several processes, which begin at the same moment; return how they ended."""
    ready, go = os.pipe()
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            os.close(go)
            os.read(ready, 1)
            status = 1
            try:
                asyncio.run(act(number))
                status = 0
            except BaseException:
                traceback.print_exc()
            os._exit(status)
        children.append(child)
    os.close(ready)
    os.close(go)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def hammer(path: str, count: str, seconds: str) -> None:
    """Have processes compete for promises that all want to make and settle, and say what each of them was told."""

    async def compete(number: int) -> None:
        name = f"n{number}"
        connection, resonate = connect(path, "idle")
        resonate.start()
        deadline = time.monotonic() + float(seconds)
        own = 0
        while time.monotonic() < deadline:
            shared = await resonate.promises.create(f"shared:{random.randrange(400)}", far(), Value(data=name), {})
            settled = await resonate.promises.resolve(shared.id, Value(data=f"{name} {own}"))
            mine = await resonate.promises.create(f"{name}:{own}", far(), Value(data=own), {})
            own += 1
            say("did", shared.id, shared.param.data, settled.value.data, mine.id)
        await resonate.stop()
        connection.close()

    say("ready")
    say("end", forked(int(count), compete))


def race(directory: str, count: str, rounds: str) -> None:
    """Have processes open a new file at the same moment, and make a promise each."""
    say("ready")
    for attempt in range(int(rounds)):
        path = f"{directory}/{attempt}.sqlite3"

        async def enter(number: int, path: str = path) -> None:
            connection, resonate = connect(path, "idle")
            await resonate.promises.create(f"p{number}", far(), Value(), {})
            connection.close()

        say("round", path, forked(int(count), enter))


async def settle(path: str, name: str) -> None:
    """Settle promise after promise, and say so as soon as it is acknowledged, until killed."""
    connection, resonate = connect(path, "idle")
    resonate.start()
    say("ready", connection.pid)
    number = 0
    while True:
        await resonate.promises.create(f"{name}:{number}", far(), Value(data=number), {})
        say("made", number)
        await resonate.promises.resolve(f"{name}:{number}", Value(data=-number))
        say("settled", number)
        number += 1


if __name__ == "__main__":
    roles = {role.__name__: role for role in (work, answer, hammer, settle, race)}
    done = roles[sys.argv[1]](*sys.argv[2:])
    if done is not None:
        asyncio.run(done)
