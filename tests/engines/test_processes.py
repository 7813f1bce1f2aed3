"""Several processes on one file: they wake each other, replace each other, and do not get in each other's way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from resonate.types import Value

from tests.support import PROGRAMS
from tests.support.programs.engine_peer import connect, far
from tests.support.waiting import DEADLINE, pass_time, poll_until_async

pytestmark = [pytest.mark.asyncio, pytest.mark.process]

PEER = PROGRAMS / "engine_peer.py"


class Peer:
    """A process that speaks in lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def read(self) -> list:
        """Return the next line; an empty one at the end."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), DEADLINE)
        return json.loads(line) if line.endswith(b"\n") else []

    async def until(self, word: str) -> list:
        """Return the next line that begins with a word, without it."""
        while line := await self.read():
            if line[0] == word:
                return line[1:]
        pytest.fail(f"the process ended without a line {word!r}")

    async def rest(self) -> list[list]:
        """Return all that comes until the end."""
        found = []
        while line := await self.read():
            found.append(line)
        return found

    def write(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n".encode())

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


class Peers:
    """Starts processes on one file; all have ended when the test has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._started: list[Peer] = []

    async def start(self, role: str, *arguments: str, **environment: str) -> Peer:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(PEER),
            role,
            str(self.path),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **environment},
        )
        peer = Peer(process)
        self._started.append(peer)
        await peer.until("ready")
        return peer

    async def end(self) -> None:
        for peer in self._started:
            await peer.kill()


@pytest_asyncio.fixture
async def peers(tmp_path: Path) -> AsyncIterator[Peers]:
    peers = Peers(tmp_path / "engine.sqlite3")
    yield peers
    await peers.end()


@pytest.mark.perf
async def test_an_answer_from_another_process_arrives_within_milliseconds(peers: Peers) -> None:
    connection, resonate = connect(str(peers.path), "g")
    resonate.start()
    other = await peers.start("answer")
    took = []
    for number in range(30):
        await resonate.promises.create(f"p{number}", far(), Value(), {})
        handle = await resonate.get(f"p{number}")
        other.write(f"p{number}")
        assert await asyncio.wait_for(handle.result(), DEADLINE) == "answer"
        arrived = time.monotonic_ns()
        (begun,) = await other.until("resolved")
        took.append((arrived - begun) / 1e6)
    assert statistics.median(took) < 50.0, took
    await resonate.stop()
    connection.close()


async def test_work_for_a_group_is_done_by_whichever_process_listens(peers: Peers) -> None:
    connection, resonate = connect(str(peers.path), "g")
    resonate.start()
    worker = await peers.start("work", "others")
    handle = resonate.options(target="others").rpc("a", "order", "a")
    (answer_id,) = await worker.until("asks")
    await resonate.promises.resolve(answer_id, Value(data=7))
    assert await asyncio.wait_for(handle.result(), DEADLINE) == ["a first", 7, "a second"]
    await resonate.stop()
    connection.close()


async def test_a_killed_process_is_replaced_before_its_long_lease_ends(peers: Peers) -> None:
    first = await peers.start("work", "g", SLOW="1")
    second = await peers.start("work", "g")
    first.write("a-slow")
    assert await first.until("step") == ["a-slow first"]
    await first.kill()
    # A step that was not settled is taken again; one that was is not.
    assert await second.until("step") == ["a-slow first"]
    (answer_id,) = await second.until("asks")
    answering = await peers.start("answer")
    answering.write(answer_id)
    # The function begins anew, so it asks once more, under the same id.
    assert await second.read() == ["asks", answer_id]
    assert await second.read() == ["step", "a-slow second"]
    second.write("a-slow")
    assert await second.until("result") == ["a-slow", ["a-slow first", "answer", "a-slow second"]]


async def test_an_answer_given_while_no_process_runs_continues_the_function_later(peers: Peers) -> None:
    first = await peers.start("work", "g")
    first.write("a")
    (answer_id,) = await first.until("asks")
    await first.kill()
    answering = await peers.start("answer")
    answering.write(answer_id)
    await answering.until("resolved")
    await answering.kill()
    second = await peers.start("work", "g")
    assert await second.until("step") == ["a second"]
    second.write("a")
    assert await second.until("result") == ["a", ["a first", "answer", "a second"]]


async def test_tasks_of_a_killed_process_are_free_as_soon_as_another_starts(peers: Peers) -> None:
    first = await peers.start("work", "g", SLOW="1")
    first.write("a-slow")
    await first.until("step")
    await first.kill()
    begun = time.monotonic()
    second = await peers.start("work", "g")
    assert await second.until("step") == ["a-slow first"]
    # Less than the lease by far, the start of the interpreter included.
    assert time.monotonic() - begun < 30


async def test_a_stopped_process_loses_its_lease_and_then_changes_nothing(peers: Peers) -> None:
    first = await peers.start("work", "g", "0.5", SLOW="1")
    first.write("a-slow")
    await first.until("step")
    with contextlib.closing(sqlite3.connect(peers.path, isolation_level=None)) as alone:
        # A process that is stopped while it has the file locked stops all others; so lock it first.
        alone.execute("BEGIN IMMEDIATE")
        first.signal(signal.SIGSTOP)
        alone.execute("ROLLBACK")
    second = await peers.start("work", "g", "0.5")
    assert await second.until("step") == ["a-slow first"]
    (answer_id,) = await second.until("asks")
    first.signal(signal.SIGCONT)
    answering = await peers.start("answer")
    answering.write(answer_id)
    await answering.until("resolved")
    second.write("a-slow")
    assert await second.until("result") == ["a-slow", ["a-slow first", "answer", "a-slow second"]]


async def test_a_timer_ends_its_promise_if_any_process_runs(peers: Peers) -> None:
    connection, resonate = connect(str(peers.path), "g")
    await resonate.promises.create("a", int(time.time() * 1000) + 300, Value(), {})
    await peers.start("work", "g")
    # This process has no timers of its own, because it was not started: it only reads what is in the file.
    with contextlib.closing(sqlite3.connect(peers.path)) as looking:

        def state() -> str:
            return str(looking.execute("SELECT state FROM promises WHERE id = 'a'").fetchone()[0])

        await poll_until_async(lambda: state() != "pending", "the end of the promise")
        assert state() == "rejected_timedout"
    connection.close()


async def test_several_processes_can_create_a_file_at_the_same_time(peers: Peers) -> None:
    peers.path = peers.path.parent
    racing = await peers.start("race", "6", "10")
    lines = await racing.rest()
    assert len(lines) == 10
    for _, path, ended in lines:
        assert ended == [0] * 6
        with contextlib.closing(sqlite3.connect(path)) as looking:
            assert looking.execute("SELECT count(*) FROM promises").fetchone() == (6,)


async def test_eight_processes_hammer_one_file_and_lose_nothing(peers: Peers) -> None:
    hammering = await peers.start("hammer", "8", "3")
    *did, (_, ended) = await hammering.rest()
    assert ended == [0] * 8
    made: dict[str, str] = {}
    settled: dict[str, str] = {}
    own = set()
    for _, shared, maker, value, mine in did:
        # Every caller gets the same answer: the first one created the promise, and one settled it.
        assert made.setdefault(shared, maker) == maker
        assert settled.setdefault(shared, value) == value
        own.add(mine)
    connection, resonate = connect(str(peers.path), "idle")
    for shared, value in settled.items():
        record = await resonate.promises.get(shared)
        assert (record.param.data, record.value.data) == (made[shared], value)
    connection.close()
    with contextlib.closing(sqlite3.connect(peers.path)) as looking:
        kept = {promise_id for (promise_id,) in looking.execute("SELECT id FROM promises WHERE id LIKE 'n%'")}
        assert looking.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert kept == own
    assert len({mine.partition(":")[0] for mine in own}) == 8


async def test_nothing_that_was_acknowledged_is_lost_when_a_process_is_killed(peers: Peers) -> None:
    chance = random.Random(5)
    connection, resonate = connect(str(peers.path), "idle")
    for attempt in range(5):
        peer = await peers.start("settle", f"n{attempt}")
        await peer.until("settled")
        await asyncio.to_thread(pass_time, chance.uniform(0.0, 0.15))
        await peer.kill()
        said = await peer.rest()
        assert said
        for word, number in said:
            record = await resonate.promises.get(f"n{attempt}:{number}")
            assert record.param.data == number
            assert word == "made" or (record.state, record.value.data) == ("resolved", -number)
    connection.close()
