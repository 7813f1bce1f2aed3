"""The ledger: what happened, one record an event, in a chain in which no link can be changed without a trace.

Each record holds the hash of the one before it, and its own, which covers all of it. That finds what was changed by
mistake or by somebody who does not make the chain anew; it is no signature.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from capsule_durable.storage.sqlite import Database

_GENESIS = bytes(32)


@dataclass(frozen=True)
class LedgerEntry:
    """Something that happened.

    Args:
        at: seconds since the epoch.
        actor: who did it.
        session: the session that it belongs to.
        what: what happened, in a word or two.
        data: what else is known.
    """

    at: float
    actor: str
    session: str
    what: str
    data: dict[str, Any]


@dataclass(frozen=True)
class StoredEvent(LedgerEntry):
    """A record of the ledger.

    Args:
        n: its place, from 1.
    """

    n: int


@dataclass(frozen=True)
class ChainBreak:
    """Where the chain is broken first.

    Args:
        n: the place of the record.
        text: what is wrong with it.
    """

    n: int
    text: str


class Ledger:
    """The ledger of a user. Used by one thread at a time.

    Args:
        database: the engine's file.

    Methods raise StoreError.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, entries: Iterable[LedgerEntry]) -> None:
        """Add records, in this order."""
        with self._database.writing() as sql:
            n, before = _head(sql)
            for entry in entries:
                n += 1
                text = json.dumps(entry.data, sort_keys=True, default=str)
                fields = (n, entry.at, entry.actor, entry.session, entry.what, text)
                digest = _hash(before, *fields)
                sql.execute(
                    "INSERT INTO ledger (n, at, actor, session, what, data, prev_hash, record_hash)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (*fields, before, digest),
                )
                before = digest
            sql.execute("INSERT OR REPLACE INTO ledger_head (one, n, record_hash) VALUES (1, ?, ?)", (n, before))

    def events(self, session: str | None = None, after: int = 0) -> list[StoredEvent]:
        """Return records in their order.

        Args:
            session: only those of this session.
            after: only those behind this place.
        """
        with self._database.using() as sql:
            rows = sql.execute(
                "SELECT n, at, actor, session, what, data FROM ledger WHERE n > ? AND (? IS NULL OR session = ?)"
                " ORDER BY n",
                (after, session, session),
            ).fetchall()
        return [StoredEvent(at, actor, of, what, json.loads(data), n) for n, at, actor, of, what, data in rows]

    def verify(self) -> tuple[int, ChainBreak | None]:
        """Follow the chain from its beginning; return how many records are right, and where it breaks."""
        with self._database.using() as sql:
            # Of one moment, whoever writes meanwhile.
            sql.execute("BEGIN")
            try:
                return _follow(sql)
            finally:
                sql.execute("ROLLBACK")


def _follow(sql: sqlite3.Connection) -> tuple[int, ChainBreak | None]:
    count, before = 0, _GENESIS
    rows = sql.execute("SELECT n, at, actor, session, what, data, prev_hash, record_hash FROM ledger ORDER BY n")
    for n, at, actor, session, what, data, prev_hash, record_hash in rows:
        expected = count + 1
        if n != expected:
            return count, ChainBreak(expected, f"record {_span(expected, n - 1)} missing")
        if prev_hash != before:
            return count, ChainBreak(n, f"record {n} does not follow the one before it: one was put in its place")
        if record_hash != _hash(before, n, at, actor, session, what, data):
            return count, ChainBreak(n, f"record {n} was changed")
        count, before = n, record_hash
    last, digest = _head(sql)
    if last > count:
        return count, ChainBreak(count + 1, f"record {_span(count + 1, last)} missing at the end")
    if last < count or digest != before:
        return count, ChainBreak(count, f"record {count} is not the one that was written last")
    return count, None


def _head(sql: sqlite3.Connection) -> tuple[int, bytes]:
    row = sql.execute("SELECT n, record_hash FROM ledger_head").fetchone()
    return (int(row[0]), bytes(row[1])) if row is not None else (0, _GENESIS)


def _hash(before: bytes, *fields: Any) -> bytes:
    text = json.dumps(fields, ensure_ascii=True, default=str).encode()
    return hashlib.blake2b(before + text, digest_size=32).digest()


def _span(first: int, last: int) -> str:
    return f"{first} is" if first == last else f"{first} to {last} are"
