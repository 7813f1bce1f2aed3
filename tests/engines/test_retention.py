"""What the embedded engine forgets, and how its file stays small."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsule_durable.engines.embedded.maintenance import Maintenance, shorten
from capsule_durable.engines.embedded.retention import GRACE_MS, STEP, Retention, sweep
from capsule_durable.engines.embedded.schema import SCHEMA
from capsule_durable.storage import sqlite
from capsule_durable.storage.sqlite import Database
from tests.support.engines import BEGINNING, FAR

DAY = 86_400_000
NOW = BEGINNING + 100 * DAY


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "engine.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[Database]:
    store = Database(path, SCHEMA)
    yield store
    store.close()


def fill(store: Database, rows: list[tuple]) -> None:
    """Write promises: id, settled at (or None), number of the parent (or None)."""
    with store.writing() as sql:
        sql.executemany(
            "INSERT INTO promises (id, state, timeout_at, created_at, settled_at, parent, tags)"
            " VALUES (?, ?, ?, ?, ?, ?, '{}')",
            [
                (name, "pending" if settled_at is None else "resolved", FAR, settled_at or 0, settled_at, parent)
                for name, settled_at, parent in rows
            ],
        )


def names(store: Database) -> list[str]:
    return [name for (name,) in store.connection.execute("SELECT id FROM promises ORDER BY n")]


def sweep_all(store: Database, retention: Retention, now: int = NOW) -> int:
    """Forget all that is to be forgotten, and return in how many steps."""
    after: int | None = 0
    steps = 0
    while after is not None:
        with store.writing() as sql:
            after = sweep(sql, retention, now, after)
        steps += 1
    return steps


def test_promises_are_forgotten_by_count(store: Database) -> None:
    fill(store, [(f"p{number}", NOW - DAY, None) for number in range(1000)])
    steps = sweep_all(store, Retention(count=10, age=None))
    assert names(store) == [f"p{number}" for number in range(990, 1000)]
    assert steps > 990 / STEP
    # What is to be kept is not even looked at.
    assert sweep_all(store, Retention(count=10, age=None)) <= 2


def test_promises_are_forgotten_by_age(store: Database) -> None:
    fill(store, [(f"p{number}", NOW - (20 - number) * DAY, None) for number in range(20)])
    sweep_all(store, Retention(count=1000, age=5 * DAY))
    assert names(store) == [f"p{number}" for number in range(16, 20)]


def test_what_is_not_settled_is_kept_with_its_steps(store: Database) -> None:
    fill(store, [("a", None, None), ("a:1", 1, 1), ("a:1.1", 1, 2), ("a:2", None, 1), ("b", 1, None), ("b:1", 1, 5)])
    fill(store, [("last", 1, None)])
    sweep_all(store, Retention(count=0, age=0))
    # A replay of ``a`` asks for its steps; those of a step that is settled are not asked for.
    assert names(store) == ["a", "a:1", "a:2", "last"]


def test_what_was_settled_a_moment_ago_is_kept(store: Database) -> None:
    fill(store, [("a", NOW - GRACE_MS - 1, None), ("b", NOW - GRACE_MS + 1, None), ("c", NOW, None)])
    sweep_all(store, Retention(count=0, age=0))
    assert names(store) == ["b", "c"]


@pytest.mark.parametrize("seed", range(5))
def test_nothing_that_is_needed_is_ever_forgotten(store: Database, seed: int) -> None:
    chance = random.Random(seed)
    rows: list[tuple] = []
    for number in range(1, 600):
        parent = chance.choice([None, chance.randrange(1, number)]) if number > 1 else None
        settled_at = chance.choice([None, NOW - chance.randrange(30 * DAY)])
        rows.append((f"p{number}", settled_at, parent))
    fill(store, rows)
    retention = Retention(count=chance.randrange(400), age=chance.choice([None, 3 * DAY]))
    sweep_all(store, retention)
    left = set(names(store))
    pending = {number for number, (_, settled_at, _) in enumerate(rows, 1) if settled_at is None}
    needed = {
        name
        for number, (name, settled_at, parent) in enumerate(rows, 1)
        if settled_at is None or parent in pending or number == len(rows)
    }
    young = {
        name
        for number, (name, settled_at, _) in enumerate(rows, 1)
        if number > len(rows) - retention.count
        and (retention.age is None or settled_at is None or settled_at > NOW - retention.age)
    }
    assert left >= needed | young
    assert len(left) <= len(needed) + retention.count


def test_upkeep_keeps_file_and_log_small(path: Path) -> None:
    store = Database(path, SCHEMA)
    fill(store, [(f"p{number}" + "x" * 500, NOW - DAY, None) for number in range(5000)])
    upkeep = Maintenance(path, "NORMAL", Retention(count=100, age=None), lambda: NOW)
    upkeep.start()
    upkeep.stop()  # lets the round end
    upkeep.stop()
    maintained = Database(path, SCHEMA)
    Maintenance(path, "NORMAL", Retention(count=100, age=None), lambda: NOW).round(maintained)
    assert len(names(store)) == 100
    log = path.with_name(f"{path.name}-wal")
    shorten(maintained)
    before = log.stat().st_size
    for number in range(200):
        fill(store, [(f"q{number}", NOW, None)])
        shorten(maintained)
    assert log.stat().st_size <= max(before, sqlite.LOG_SIZE)
    maintained.close()
    store.close()
