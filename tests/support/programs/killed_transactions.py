"""Transactions that are killed at every boundary. Run as ``python boundaries.py COMMAND DIRECTORY``.

For each case there is a file as it was before, and what it has to be afterwards; every trial has a copy of its own.

``prepare``     makes the files.
``statements``  runs every case with a SIGKILL before its first statement, before its second, and so on to its end.
``calls``       does the same with calls of one of ``SYSTEM``, if something kills every process at the call ``CALLS``.
``verify``      compares what the trials have left with what there must be.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from msgspec import Raw

from capsule_durable.engines.embedded import timers, wire
from capsule_durable.engines.embedded.network import EmbeddedNetwork
from capsule_durable.engines.embedded.retention import GRACE_MS, Retention, sweep
from capsule_durable.engines.embedded.schema import SCHEMA
from capsule_durable.storage import process_identity
from capsule_durable.storage.sqlite import Database

NOW = 1_700_000_000_000
FAR = NOW + 10**9
HERE = "capsule://any@g"
TABLES = ("promises", "tasks", "callbacks", "listeners", "outbox")
FILE = "engine.sqlite3"
#: No file's descriptor.
NOTHING = 10**6
#: The system calls with which SQLite writes, each in a form that does nothing.
SYSTEM: dict[str, Callable[[], object]] = {
    "pwrite64": lambda: os.pwrite(NOTHING, b"", 0),
    "ftruncate": lambda: os.ftruncate(NOTHING, 0),
    "fsync": lambda: os.fsync(NOTHING),
    "fdatasync": lambda: os.fdatasync(NOTHING),
    "unlink": lambda: Path("/nothing/is/here").unlink(),
}
#: More of them than any case makes.
CALLS = 80


def creation(promise_id: str, timeout_at: int = FAR, **tags: str) -> wire.CreatePromise:
    return wire.CreatePromise(
        promise_id, timeout_at, Raw(b'{"data":"cGFyYW0="}'), {f"resonate:{name}": tags[name] for name in tags}
    )


def settlement(promise_id: str) -> wire.SettlePromise:
    return wire.SettlePromise(promise_id, "resolved", Raw(b'{"data":"' + b"A" * 20_000 + b'"}'))


def task(task_id: str, timeout_at: int = FAR) -> wire.CreateTask:
    return wire.CreateTask("another", 5000, wire.Part(creation(task_id, timeout_at, target=HERE)))


def fenced(
    kind: Literal["promise.create", "promise.settle"], inner: wire.CreatePromise | wire.SettlePromise
) -> wire.FenceTask:
    return wire.FenceTask("a", 1, wire.FencedPart(kind, Raw(wire._ENCODER.encode(inner))))


#: What exists before each case: a task with a step that is held, one that waits, and one that is offered.
PREPARATION: tuple[wire.Request, ...] = (
    task("a"),
    fenced("promise.create", creation("a:1", parent="a")),
    task("b"),
    creation("b:1", NOW + 500, parent="b"),
    wire.SuspendTask("b", 1, [wire.Part(wire.Callback("b:1"))]),
    wire.Listen("b:1", "capsule://uni@g/other"),
    wire.Listen("b:1", "capsule://uni@g/another"),
    wire.Listen("a", "capsule://uni@g/other"),
    creation("c", target="capsule://any@others"),
    *(creation(f"old{number}", NOW) for number in range(20)),
)

type Act = Callable[[Path], None]


def asking(request: wire.Request) -> Act:
    """Have the connection carry out a request."""

    def act(path: Path) -> None:
        connection = EmbeddedNetwork(path, "g", clock=lambda: NOW + 1000)
        answer = asyncio.run(connection._handle(request))
        assert answer.status < 400, answer

    return act


def round_of_timers(path: Path) -> None:
    connection = EmbeddedNetwork(path, "g", clock=lambda: NOW + 10_000)

    async def look() -> None:
        connection._transact(lambda tx: connection._round(tx, ["other"]))

    asyncio.run(look())


def forgetting(path: Path) -> None:
    with Database(path, SCHEMA).writing() as sql:
        sweep(sql, Retention(count=3), NOW + 2 * GRACE_MS, 0)


CASES: dict[str, Act] = {
    "open": lambda path: Database(path, SCHEMA).close(),
    "create": asking(creation("new", target=HERE)),
    "create task": asking(task("new")),
    "settle": asking(settlement("b:1")),
    "listen": asking(wire.Listen("a:1", "capsule://uni@g/other")),
    "acquire": asking(wire.AcquireTask("c", 0, "another", 5000)),
    "fence create": asking(fenced("promise.create", creation("a:2", parent="a"))),
    "fence settle": asking(fenced("promise.settle", settlement("a:1"))),
    "suspend": asking(wire.SuspendTask("a", 1, [wire.Part(wire.Callback("a:1"))])),
    "fulfill": asking(wire.FulfillTask("a", 1, wire.Part(settlement("a")))),
    "release": asking(wire.ReleaseTask("a", 1)),
    "timers": round_of_timers,
    "forget": forgetting,
}


class Killing(sqlite3.Connection):
    """A connection whose process is killed before one of its statements."""

    left = 10**9

    def _count(self) -> None:
        if Killing.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        Killing.left -= 1

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        self._count()
        return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        self._count()
        return super().executemany(*arguments)


def content(directory: Path) -> Any:
    """Return all that is in the file, in a form that JSON keeps; None if there is no file, or an empty one."""
    path = directory / FILE
    if not path.exists():
        return None
    sql = sqlite3.connect(path)
    try:
        assert sql.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        if not sql.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return None
        return {table: sql.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES}
    finally:
        sql.close()


def prepare(directory: Path) -> None:
    """Make the files as they are before, and say what they must be afterwards."""
    expected = {}
    for case, act in CASES.items():
        before = directory / "before" / case
        before.mkdir(parents=True)
        if case != "open":
            making = directory / "making" / case
            connection = EmbeddedNetwork(making / FILE, "g", clock=lambda: NOW)
            for request in PREPARATION:
                assert asyncio.run(connection._handle(request)).status < 400
            # As a killed process leaves it: with a log, and without locks.
            shutil.copytree(making, before, dirs_exist_ok=True)
        after = directory / "after" / case
        shutil.copytree(before, after)
        pid = os.fork()
        if pid == 0:
            act(after / FILE)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        copy = directory / "copy" / case
        shutil.copytree(before, copy)
        expected[case] = [content(copy), content(after)]
        assert expected[case][0] != expected[case][1], case
    (directory / "expected.json").write_text(json.dumps(expected))


def attempt(directory: Path, case: str, trial: str, prelude: Callable[[], None]) -> bool:
    """Run a case in a process of its own, and return whether it was acknowledged."""
    place = directory / "trials" / f"{case}-{trial}"
    shutil.copytree(directory / "before" / case, place)
    acknowledged, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        prelude()
        CASES[case](place / FILE)
        os.write(say, b"1")
        os._exit(0)
    os.close(say)
    done = os.read(acknowledged, 1) == b"1"
    os.close(acknowledged)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) in {0, -signal.SIGKILL}, (case, trial, status)
    print(json.dumps([case, trial, done]), flush=True)
    return done


def statements(directory: Path) -> None:
    """Kill at every statement of every case."""
    for case in CASES:
        for number in itertools.count():

            def prelude(number: int = number) -> None:
                Killing.left = number
                connect = sqlite3.connect
                sqlite3.connect = functools.partial(connect, factory=Killing)  # type: ignore[assignment]

            if attempt(directory, case, f"s{number}", prelude):
                break


def calls(directory: Path, name: str) -> None:
    """Be killed at every call of one kind in every case."""
    for case in CASES:
        for number in range(1, CALLS):

            def prelude(number: int = number) -> None:
                for _ in range(CALLS - number):
                    with contextlib.suppress(OSError):
                        SYSTEM[name]()

            if attempt(directory, case, f"{name}{number}", prelude):
                break


def verify(directory: Path) -> None:
    """Say of each trial whether nothing or all of it has happened, and whether the file can be used."""
    expected = json.loads((directory / "expected.json").read_text())
    for place in sorted((directory / "trials").iterdir()):
        case, _, trial = place.name.rpartition("-")
        # Whatever was left, the next one opens it.
        database = Database(place / FILE, SCHEMA)
        assert timers.holders(database.connection) is not None
        database.close()
        found = json.loads(json.dumps(content(place)))
        before, after = expected[case]
        # Opening begins with nothing, and ends with tables that are empty: here it has been opened anyway.
        verdict = "after" if found == after else "before" if found == before else "neither"
        print(json.dumps([case, trial, verdict]), flush=True)


if __name__ == "__main__":
    owner = process_identity.this_process()
    process_identity.this_process = lambda: owner
    commands = {command.__name__: command for command in (prepare, statements, calls, verify)}
    commands[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
