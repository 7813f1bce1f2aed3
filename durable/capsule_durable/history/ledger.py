"""The ledger: all events, one row each, in a chain of hashes that shows any change.

Each row holds the hash of the row before it, and its own hash, which covers all of the row. This finds changes by
mistake, and by anybody who does not compute the chain anew; it is not a signature.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from capsule_durable.storage.sqlite import Database
from capsule_durable.telemetry.events import Event

_GENESIS = bytes(32)
#: Fields of events that are columns of their own.
_COLUMNS = frozenset({"at", "session_id"})


@dataclass(frozen=True)
class LedgerEntry:
    """An event, as the ledger stores it.

    Args:
        at: when it happened, in seconds since the epoch.
        actor: the process that published it.
        session_id: the session that it belongs to.
        type: the name of the event's type.
        data: its other fields, in JSON.
    """

    at: float
    actor: str
    session_id: str
    type: str
    data: dict[str, Any]


@dataclass(frozen=True)
class StoredEvent(LedgerEntry):
    """A row of the ledger.

    Args:
        n: its number, from 1.
    """

    n: int


@dataclass(frozen=True)
class ChainBreak:
    """The first place where the chain is broken.

    Args:
        n: the number of the row.
        text: what is wrong with it.
    """

    n: int
    text: str


def entry_of(event: Event, actor: str) -> LedgerEntry:
    """Return an event as the ledger stores it.

    Args:
        event: the event.
        actor: the process that published it.
    """
    data = {field.name: getattr(event, field.name) for field in fields(event) if field.name not in _COLUMNS}
    data = {name: dict(value) if isinstance(value, Mapping) else value for name, value in data.items()}
    return LedgerEntry(event.at, actor, event.session_id, type(event).__name__, data)


class Ledger:
    """The ledger of a user. One thread uses it at a time.

    Args:
        database: the history.

    All methods raise StoreError if the file cannot be used.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, entries: Iterable[LedgerEntry]) -> None:
        """Add rows, in this order, all or none of them.

        Args:
            entries: the rows, without their numbers and hashes.
        """
        with self._database.writing() as sql:
            n, before = _head(sql)
            for entry in entries:
                n += 1
                text = json.dumps(entry.data, sort_keys=True, default=str)
                row = (n, entry.at, entry.actor, entry.session_id, entry.type, text)
                digest = _hash(before, *row)
                sql.execute(
                    "INSERT INTO events (n, at, actor, session_id, type, data, prev_hash, hash)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (*row, before, digest),
                )
                before = digest
            sql.execute("INSERT OR REPLACE INTO events_head (one, n, hash) VALUES (1, ?, ?)", (n, before))

    def events(
        self, session_id: str | None = None, after: int = 0, kind: type[Event] | None = None
    ) -> list[StoredEvent]:
        """Return rows in their order.

        Args:
            session_id: only those of this session.
            after: only those with higher numbers.
            kind: only those of this type.
        """
        with self._database.using() as sql:
            rows = sql.execute(
                "SELECT n, at, actor, session_id, type, data FROM events WHERE n > ?"
                " AND (? IS NULL OR session_id = ?) AND (? IS NULL OR type = ?) ORDER BY n",
                (after, session_id, session_id, *[kind and kind.__name__] * 2),
            ).fetchall()
        return [StoredEvent(at, actor, of, name, json.loads(data), n) for n, at, actor, of, name, data in rows]

    def verify(self) -> tuple[int, ChainBreak | None]:
        """Follow the chain from its beginning; return how many rows are intact, and where it breaks."""
        with self._database.using() as sql:
            # A snapshot, even if other processes write meanwhile.
            sql.execute("BEGIN")
            try:
                return _follow(sql)
            finally:
                sql.execute("ROLLBACK")


def _follow(sql: sqlite3.Connection) -> tuple[int, ChainBreak | None]:
    count, before = 0, _GENESIS
    rows = sql.execute("SELECT n, at, actor, session_id, type, data, prev_hash, hash FROM events ORDER BY n")
    for n, at, actor, session_id, kind, data, prev_hash, digest in rows:
        expected = count + 1
        if n != expected:
            return count, ChainBreak(expected, f"record {_span(expected, n - 1)} missing")
        if prev_hash != before:
            return count, ChainBreak(n, f"record {n} does not follow the one before it: it was replaced")
        if digest != _hash(before, n, at, actor, session_id, kind, data):
            return count, ChainBreak(n, f"record {n} was changed")
        count, before = n, digest
    last, digest = _head(sql)
    if last > count:
        return count, ChainBreak(count + 1, f"record {_span(count + 1, last)} missing at the end")
    if last < count or digest != before:
        return count, ChainBreak(count, f"record {count} is not the one that was written last")
    return count, None


def _head(sql: sqlite3.Connection) -> tuple[int, bytes]:
    row = sql.execute("SELECT n, hash FROM events_head").fetchone()
    return (int(row[0]), bytes(row[1])) if row is not None else (0, _GENESIS)


def _hash(before: bytes, *row: Any) -> bytes:
    text = json.dumps(row, ensure_ascii=True, default=str).encode()
    return hashlib.blake2b(before + text, digest_size=32).digest()


def _span(first: int, last: int) -> str:
    return f"{first} is" if first == last else f"{first} to {last} are"
