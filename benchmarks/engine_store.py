"""Measure the embedded engine: ``python benchmarks/engine_store.py``. Nothing is left behind."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import resource
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from resonate.connections import LocalConnection
from resonate.context import Context
from resonate.heartbeat import NoopHeartbeat
from resonate.observability import noop_observer
from resonate.resonate import Resonate
from resonate.retry import Never
from resonate.types import Value

from capsule_durable.engines.embedded.network import EmbeddedNetwork
from capsule_durable.engines.embedded.retention import Retention
from capsule_durable.engines.embedded.schema import SCHEMA
from capsule_durable.storage.sqlite import Database, Synchronous

#: Workflows around each point over which figures are taken.
WINDOW = 300
LONG = timedelta(days=30)
FAR = 2**62
KEEP_ALL = Retention(count=10**9, age=None)
GROUP = "g"


class Settler:
    """What a step asks to settle the outcome, as a worker does that runs the cell."""

    def __init__(self, resonate: Resonate) -> None:
        self._resonate = resonate
        self._tasks: set[asyncio.Task[Any]] = set()

    def settle(self, promise_id: str) -> None:
        """Settle a promise a moment later."""
        record = {"status": "ok", "execution_count": 1, "payload": [], "user_expressions": {}}
        task = asyncio.ensure_future(self._resonate.promises.resolve(promise_id, Value(data=record)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def cell(ctx: Context, request: dict[str, str]) -> dict[str, Any]:
    """Create the outcome's promise and wait for it, as ``execute_cell`` does, but with a step in between."""
    outcome = ctx.promise(timeout=LONG)
    outcome_id = await outcome.id()
    await ctx.run(dispatch, request, outcome_id)
    record: dict[str, Any] = await outcome
    return record


async def dispatch(ctx: Context, request: dict[str, str], outcome_id: str) -> None:  # noqa: ARG001
    """Have the outcome settled a moment later."""
    ctx.get_dependency(Settler).settle(outcome_id)


def resonate_on(connection: EmbeddedNetwork | LocalConnection) -> Resonate:
    """Return the SDK as the project uses it."""
    pid, heartbeat = (
        (connection.pid, connection.heartbeat) if isinstance(connection, EmbeddedNetwork) else ("p", NoopHeartbeat())
    )
    resonate = Resonate(
        network=connection,
        pid=pid,
        group=GROUP,
        ttl=timedelta(seconds=5),
        heartbeat=heartbeat,
        retry_policy=Never(),
        subscription_refresh_secs=0,
        observer=noop_observer,
        env={},
        autostart=False,
    )
    resonate.register(cell, name="cell", version=1, retry_policy=Never())
    resonate.with_dependency(Settler(resonate))
    return resonate


def memory() -> float:
    """Return this process's memory, in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


async def run_cells(
    connection: EmbeddedNetwork | LocalConnection, count: int, points: Sequence[int]
) -> dict[int, tuple[float, float]]:
    """Run workflows one after the other; print figures at some of them, and return the times in ms and memory in MB."""
    figures = {}
    resonate = resonate_on(connection)
    resonate.start()
    took: deque[float] = deque(maxlen=WINDOW)
    spent: deque[float] = deque(maxlen=WINDOW)
    for number in range(1, count + 1):
        began, used = time.perf_counter(), time.process_time()
        handle = resonate.options(timeout=LONG).run(f"exec.{os.urandom(16).hex()}", cell, {"id": "1", "code": "pass"})
        await handle.result()
        took.append(time.perf_counter() - began)
        spent.append(time.process_time() - used)
        if number in points:
            window = sorted(took)
            print(
                f"  {number:>9,}th  p50 {statistics.median(window) * 1e3:6.2f} ms  "
                f"p99 {window[int(len(window) * 0.99)] * 1e3:6.2f} ms  "
                f"processor {statistics.median(spent) * 1e3:6.2f} ms  memory {memory():6.1f} MB"
            )
            figures[number] = (statistics.median(window) * 1e3, memory())
    await resonate.stop()
    return figures


def fill(path: Path, promises: int) -> None:
    """Write settled promises, as cells leave them."""
    database = Database(path, SCHEMA)
    with database.writing() as sql:
        sql.execute(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)"
            " INSERT INTO promises (id, state, timeout_at, created_at, settled_at, tags, param, value)"
            " SELECT 'exec.' || lower(hex(randomblob(16))), 'resolved', ?, ?, ?, ?, ?, ? FROM numbers",
            (promises, FAR, now_ms(), now_ms(), '{"resonate:scope":"global"}' + " " * 200, "{}", "v" * 200),
        )
    database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


def now_ms() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


async def opened(path: Path, synchronous: Synchronous = "NORMAL") -> None:
    """Print how long it takes until a file is open and has done its first work."""
    began = time.perf_counter()
    connection = EmbeddedNetwork(path, GROUP, synchronous=synchronous, retention=KEEP_ALL)
    built = time.perf_counter()
    resonate = resonate_on(connection)
    resonate.start()
    await resonate.promises.create(f"p{began}", FAR, Value(), {})
    done = time.perf_counter()
    print(f"  opened {(built - began) * 1e3:6.2f} ms  first request {(done - began) * 1e3:6.2f} ms")
    await resonate.stop()
    connection.close()


async def rest(path: Path, seconds: float) -> None:
    """Print what it costs to have nothing to do, and to wait for something."""
    connection = EmbeddedNetwork(path, GROUP)
    resonate = resonate_on(connection)
    resonate.start()
    await asyncio.sleep(1.5)
    for what in ("nothing to do", "waiting for a promise"):
        used = time.process_time()
        await asyncio.sleep(seconds)
        share = (time.process_time() - used) / seconds
        print(f"  {what:<22} {share * 100:5.2f} % of a processor")
        await resonate.promises.create("p", FAR, Value(), {})
        await resonate.get("p")
    await resonate.stop()
    connection.close()


def answer(path: Path, pipe: multiprocessing.connection.Connection) -> None:
    """Resolve promises by id, in another process."""

    async def loop() -> None:
        connection = EmbeddedNetwork(path, "idle")
        resonate = resonate_on(connection)
        while promise_id := pipe.recv():
            began = time.monotonic()
            await resonate.promises.resolve(promise_id, Value(data=1))
            pipe.send(began)
        connection.close()

    asyncio.run(loop())


async def wake(path: Path, count: int) -> None:
    """Print how long an answer takes from another process, from its request to the handle."""
    here, there = multiprocessing.Pipe()
    other = multiprocessing.get_context("spawn").Process(target=answer, args=(path, there))
    other.start()
    connection = EmbeddedNetwork(path, GROUP)
    resonate = resonate_on(connection)
    resonate.start()
    took = []
    for number in range(count):
        await resonate.promises.create(f"w{number}", FAR, Value(), {})
        handle = await resonate.get(f"w{number}")
        here.send(f"w{number}")
        await handle.result()
        arrived = time.monotonic()
        took.append(arrived - here.recv())
    here.send("")
    other.join()
    took.sort()
    print(f"  p50 {statistics.median(took) * 1e3:6.2f} ms  p99 {took[int(count * 0.99)] * 1e3:6.2f} ms")
    await resonate.stop()
    connection.close()


@contextlib.contextmanager
def place(cache: Path | None) -> Iterator[Path]:
    """Have a new directory on the disk that is measured."""
    directory = Path(tempfile.mkdtemp(dir=cache))
    try:
        yield directory / "engine.sqlite3"
    finally:
        shutil.rmtree(directory)


def in_new_process(act: Callable[..., None], *arguments: object) -> None:
    """Run something where nothing was before: memory and imports are its own."""
    process = multiprocessing.get_context("spawn").Process(target=act, args=arguments)
    process.start()
    process.join()
    if process.exitcode != 0:
        msg = f"{act.__name__} failed"
        raise SystemExit(msg)


def measure_cells(path: Path, count: int, synchronous: Synchronous, retention: Retention) -> None:
    """Print figures of workflows on a new file."""
    points = [point for point in (100, 1_000, 10_000, 100_000, 1_000_000) if point <= count]

    async def run() -> None:
        connection = EmbeddedNetwork(path, GROUP, synchronous=synchronous, retention=retention)
        await run_cells(connection, count, points)
        connection.close()

    asyncio.run(run())
    with contextlib.closing(sqlite3.connect(path)) as sql:
        (kept,) = sql.execute("SELECT count(*) FROM promises").fetchone()
    print(f"  {kept:,} promises kept, {path.stat().st_size / 1e6:,.0f} MB")


def measure_in_process(count: int) -> None:
    """Print figures of workflows on the SDK's in-process engine."""

    async def run() -> None:
        await run_cells(LocalConnection(pid="p", group=GROUP), count, (100, count))

    asyncio.run(run())


def measure_opening(path: Path) -> None:
    """Print how long opening takes."""
    asyncio.run(opened(path))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=100_000, help="how many workflows run on one file")
    parser.add_argument("--promises", type=int, default=1_000_000, help="how many are in the file that is opened")
    parser.add_argument("--cache", type=Path, help="a directory on the disk that is to be measured")
    arguments = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}; promise-first workflows, one after the other, all kept:")
    with place(arguments.cache) as path:
        in_new_process(measure_cells, path, arguments.cells, "NORMAL", KEEP_ALL)
    print("the same, with the retention that is the default:")
    with place(arguments.cache) as path:
        in_new_process(measure_cells, path, arguments.cells, "NORMAL", Retention())
    print("each synced to the disk:")
    with place(arguments.cache) as path:
        in_new_process(measure_cells, path, min(arguments.cells, 1000), "FULL", KEEP_ALL)
    print("on the SDK's in-process engine:")
    in_new_process(measure_in_process, min(arguments.cells, 1000))
    print(f"a file with {arguments.promises:,} settled promises:")
    with place(arguments.cache) as path:
        fill(path, arguments.promises)
        for _ in range(3):
            in_new_process(measure_opening, path)
    print("an answer from another process:")
    with place(arguments.cache) as path:
        asyncio.run(wake(path, 200))
    print("at rest:")
    with place(arguments.cache) as path:
        asyncio.run(rest(path, 3.0))
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
