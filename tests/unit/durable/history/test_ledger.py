"""The chain of the ledger: whole as long as nobody touches it, and broken where somebody has."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsule_durable.engines.embedded.schema import FORM
from capsule_durable.history.ledger import ChainBreak, Ledger, LedgerEntry
from capsule_durable.storage.sqlite import Database

COUNT = 12


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "engine.sqlite3"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    database = Database(path, FORM)
    made = Ledger(database)
    for number in range(1, COUNT + 1):
        made.append(
            [LedgerEntry(1e9 + number, "kernel 7", "s1" if number % 2 else "s2", "cell ended", {"cell": number})]
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
        with contextlib.closing(Database(path, FORM)) as database:
            other = Ledger(database)
            while not done.is_set():
                other.append([LedgerEntry(1.0, "kernel 8", "s3", "cell ended", {})])

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


def test_what_was_added_is_there_and_whole(ledger: Ledger) -> None:
    assert [event.n for event in ledger.events()] == list(range(1, COUNT + 1))
    assert [event.data["cell"] for event in ledger.events("s2", after=4)] == [6, 8, 10, 12]
    assert ledger.verify() == (COUNT, None)


def test_several_are_added_at_once_or_not_at_all(ledger: Ledger) -> None:
    entry = LedgerEntry(1e9, "kernel 7", "s1", "cell ended", {})
    ledger.append([entry, entry, entry])
    assert ledger.verify() == (COUNT + 3, None)
    broken = LedgerEntry(1e9, "kernel 7", None, "cell ended", {})  # type: ignore[arg-type]
    with pytest.raises(Exception, match="NOT NULL"):
        ledger.append([entry, broken])
    assert ledger.verify() == (COUNT + 3, None)


def test_an_empty_ledger_is_whole(tmp_path: Path) -> None:
    database = Database(tmp_path / "empty.sqlite3", FORM)
    assert Ledger(database).verify() == (0, None)
    database.close()


@pytest.mark.parametrize("column", ["at", "actor", "session", "what", "data"])
def test_one_changed_byte_is_found(ledger: Ledger, path: Path, column: str) -> None:
    value = "at + 0.001" if column == "at" else f"replace({column}, substr({column}, 1, 1), '#')"
    change(path, f"UPDATE ledger SET {column} = {value} WHERE n = 5")
    assert ledger.verify() == (4, ChainBreak(5, "record 5 was changed"))


def test_a_changed_hash_is_found(ledger: Ledger, path: Path) -> None:
    change(path, "UPDATE ledger SET record_hash = zeroblob(32) WHERE n = 5")
    assert ledger.verify() == (4, ChainBreak(5, "record 5 was changed"))
    change(path, "UPDATE ledger SET prev_hash = zeroblob(32) WHERE n = 3")
    assert ledger.verify()[1] == ChainBreak(3, "record 3 does not follow the one before it: one was put in its place")


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
    change(path, f"DELETE FROM ledger WHERE {which}")
    assert ledger.verify() == (fault.n - 1, fault)


def test_two_swapped_records_are_found(ledger: Ledger, path: Path) -> None:
    swap = ["UPDATE ledger SET n = -5 WHERE n = 5", "UPDATE ledger SET n = 5 WHERE n = 6"]
    change(path, *swap, "UPDATE ledger SET n = 6 WHERE n = -5")
    assert ledger.verify() == (
        4,
        ChainBreak(5, "record 5 does not follow the one before it: one was put in its place"),
    )


def test_a_forged_record_at_the_end_is_found(ledger: Ledger, path: Path) -> None:
    change(
        path,
        "INSERT INTO ledger SELECT 13, at, actor, session, what, data, record_hash, record_hash FROM ledger"
        " WHERE n = 12",
    )
    assert ledger.verify() == (12, ChainBreak(13, "record 13 was changed"))
