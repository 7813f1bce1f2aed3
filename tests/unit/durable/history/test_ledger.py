"""The chain of the ledger: complete as long as no other program changes it, and broken where one has."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsule_durable.history.ledger import ChainBreak, Ledger, LedgerEntry, StoredEvent, entry_of
from capsule_durable.history.schema import SCHEMA
from capsule_durable.storage.sqlite import Database
from capsule_durable.telemetry.events import (
    EVENT_TYPES,
    CellEnded,
    CellReplayed,
    CellRetried,
    CellStarted,
    CheckpointFailed,
    CheckpointSaved,
    EngineChanged,
    Event,
    InputAnswered,
    InputCancelled,
    InputRequested,
    KernelSessionEnded,
    KernelSessionStarted,
    LimitExceeded,
    StandbyTookOver,
    StoreFailed,
    VariablesRestored,
    WorkerExited,
    WorkerStarted,
)

COUNT = 12
#: An event of each type, with the fields that the ledger stores as JSON.
EVENTS: list[tuple[Event, dict[str, object]]] = [
    (KernelSessionStarted(session_id="s", notebook="a.ipynb", kernel="k"), {"notebook": "a.ipynb", "kernel": "k"}),
    (KernelSessionEnded(session_id="s", reason="shutdown"), {"reason": "shutdown"}),
    (WorkerStarted(session_id="s", pid=7, python="3.12.1"), {"pid": 7, "python": "3.12.1"}),
    (WorkerExited(session_id="s", returncode=-9, peak_memory=10**8), {"returncode": -9, "peak_memory": 10**8}),
    (StandbyTookOver(session_id="s", execution_count=3), {"execution_count": 3}),
    (CellStarted(session_id="s", execution_count=1, cell_id=None), {"execution_count": 1, "cell_id": None}),
    (
        CellEnded(session_id="s", status="ok", duration=0.5, outputs_digest="ab"),
        {"status": "ok", "duration": 0.5, "outputs_digest": "ab"},
    ),
    (CellRetried(session_id="s", attempt=1, failure="OSError: é"), {"attempt": 1, "failure": "OSError: é"}),
    (CellReplayed(session_id="s", run_id="nightly"), {"run_id": "nightly"}),
    (InputRequested(session_id="s", input_id="i", password=True), {"input_id": "i", "password": True}),
    (InputAnswered(session_id="s", input_id="i", source="client"), {"input_id": "i", "source": "client"}),
    (InputCancelled(session_id="s", input_id="i"), {"input_id": "i"}),
    (
        CheckpointSaved(session_id="s", checkpoint_id="c", bytes_written=9, duration=0.1),
        {"checkpoint_id": "c", "bytes_written": 9, "duration": 0.1},
    ),
    (CheckpointFailed(session_id="s", reason="disk full"), {"reason": "disk full"}),
    (
        VariablesRestored(session_id="s", checkpoint_id="c", failed={"gen": "a generator"}),
        {"checkpoint_id": "c", "failed": {"gen": "a generator"}},
    ),
    (LimitExceeded(session_id="s", limit="cpu_limit", value="9 s"), {"limit": "cpu_limit", "value": "9 s"}),
    (EngineChanged(session_id="s", url="memory:", durable=False), {"url": "memory:", "durable": False}),
    (StoreFailed(session_id="s", store="engine", reason="read-only"), {"store": "engine", "reason": "read-only"}),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite3"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    database = Database(path, SCHEMA)
    made = Ledger(database)
    for number in range(1, COUNT + 1):
        made.append(
            [LedgerEntry(1e9 + number, "kernel 7", "s1" if number % 2 else "s2", "CellEnded", {"cell": number})]
        )
    yield made
    database.close()


def change(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as sql, sql:
        for statement in statements:
            sql.execute(statement)


def test_the_chain_is_whole_though_others_write_meanwhile(path: Path, ledger: Ledger) -> None:
    done = threading.Event()

    def write() -> None:
        with contextlib.closing(Database(path, SCHEMA)) as database:
            other = Ledger(database)
            while not done.is_set():
                other.append([LedgerEntry(1.0, "kernel 8", "s3", "CellEnded", {})])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        count, fault = ledger.verify()
        while count < COUNT + 2000 and fault is None:
            count, fault = ledger.verify()
    finally:
        done.set()
        writer.join()
    assert fault is None


def test_added_events_are_complete(ledger: Ledger) -> None:
    assert [event.n for event in ledger.events()] == list(range(1, COUNT + 1))
    assert [event.data["cell"] for event in ledger.events("s2", after=4)] == [6, 8, 10, 12]
    assert ledger.verify() == (COUNT, None)


def test_every_type_of_event_is_stored_with_all_its_fields(tmp_path: Path) -> None:
    assert {type(event) for event, _ in EVENTS} == set(EVENT_TYPES)
    with contextlib.closing(Database(tmp_path / "all.sqlite3", SCHEMA)) as database:
        ledger = Ledger(database)
        ledger.append(entry_of(event, "kernel 7") for event, _ in EVENTS)
        assert ledger.events() == [
            StoredEvent(event.at, "kernel 7", "s", type(event).__name__, {"execution_id": None, **data}, n)
            for n, (event, data) in enumerate(EVENTS, 1)
        ]
        assert ledger.verify() == (len(EVENTS), None)


def test_several_are_added_at_once_or_not_at_all(ledger: Ledger) -> None:
    entry = LedgerEntry(1e9, "kernel 7", "s1", "CellEnded", {})
    ledger.append([entry, entry, entry])
    assert ledger.verify() == (COUNT + 3, None)
    broken = LedgerEntry(1e9, "kernel 7", None, "CellEnded", {})  # type: ignore[arg-type]
    with pytest.raises(Exception, match="NOT NULL"):
        ledger.append([entry, broken])
    assert ledger.verify() == (COUNT + 3, None)


def test_an_empty_ledger_is_whole(tmp_path: Path) -> None:
    database = Database(tmp_path / "empty.sqlite3", SCHEMA)
    assert Ledger(database).verify() == (0, None)
    database.close()


@pytest.mark.parametrize("column", ["at", "actor", "session_id", "type", "data"])
def test_one_changed_byte_is_found(ledger: Ledger, path: Path, column: str) -> None:
    value = "at + 0.001" if column == "at" else f"replace({column}, substr({column}, 1, 1), '#')"
    change(path, f"UPDATE events SET {column} = {value} WHERE n = 5")
    assert ledger.verify() == (4, ChainBreak(5, "record 5 was changed"))


def test_a_changed_hash_is_found(ledger: Ledger, path: Path) -> None:
    change(path, "UPDATE events SET hash = zeroblob(32) WHERE n = 5")
    assert ledger.verify() == (4, ChainBreak(5, "record 5 was changed"))
    change(path, "UPDATE events SET prev_hash = zeroblob(32) WHERE n = 3")
    assert ledger.verify()[1] == ChainBreak(3, "record 3 does not follow the one before it: it was replaced")


@pytest.mark.parametrize(
    ("which", "fault"),
    [
        ("n = 1", ChainBreak(1, "record 1 is missing")),
        ("n = 5", ChainBreak(5, "record 5 is missing")),
        ("n IN (5, 6)", ChainBreak(5, "record 5 to 6 are missing")),
        ("n = 12", ChainBreak(12, "record 12 is missing at the end")),
        ("n > 10", ChainBreak(11, "record 11 to 12 are missing at the end")),
        ("n > 0", ChainBreak(1, "record 1 to 12 are missing at the end")),
    ],
)
def test_a_removed_record_is_named(ledger: Ledger, path: Path, which: str, fault: ChainBreak) -> None:
    change(path, f"DELETE FROM events WHERE {which}")
    assert ledger.verify() == (fault.n - 1, fault)


def test_two_swapped_records_are_found(ledger: Ledger, path: Path) -> None:
    swap = ["UPDATE events SET n = -5 WHERE n = 5", "UPDATE events SET n = 5 WHERE n = 6"]
    change(path, *swap, "UPDATE events SET n = 6 WHERE n = -5")
    assert ledger.verify() == (
        4,
        ChainBreak(5, "record 5 does not follow the one before it: it was replaced"),
    )


def test_a_forged_record_at_the_end_is_found(ledger: Ledger, path: Path) -> None:
    change(
        path,
        "INSERT INTO events SELECT 13, at, actor, session_id, type, data, hash, hash FROM events WHERE n = 12",
    )
    assert ledger.verify() == (12, ChainBreak(13, "record 13 was changed"))
