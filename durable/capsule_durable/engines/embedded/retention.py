"""Deletes old settled promises, in small steps: each is a transaction of about a millisecond.

A promise is needed until the promise that it is a step of is settled, because a replay reads it. After that, the number
of promises and its age decide.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

#: Promises that one step reads.
STEP = 200
#: Milliseconds for which a settled promise is kept in any case: a process may be about to read it.
GRACE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Retention:
    """Which promises are kept.

    Args:
        count: how many of the newest promises. Pending ones and their steps are kept in addition.
        age: milliseconds after their settlement; None to keep them indefinitely.
    """

    count: int = 100_000
    age: int | None = 30 * 86_400_000


def sweep(sql: sqlite3.Connection, retention: Retention, now: int, after: int) -> int | None:
    """Delete some promises.

    Args:
        sql: a connection, in a transaction.
        retention: which promises are kept.
        now: milliseconds since the epoch.
        after: the last number that was read; 0 at first.

    Returns:
        The last number that was read now; None if all promises after it are to be kept.
    """
    (newest,) = sql.execute("SELECT coalesce(max(n), 0) FROM promises").fetchone()
    surplus = newest - retention.count
    old = now - retention.age if retention.age is not None else -(2**62)
    until, created_at = sql.execute(
        "SELECT max(n), min(created_at) FROM (SELECT n, created_at FROM promises WHERE n > ? ORDER BY n LIMIT ?)",
        (after, STEP),
    ).fetchone()
    if until is None or (after >= surplus and created_at > old):
        return None
    # The newest one is kept in any case, so that its number is not reused.
    sql.execute(
        "DELETE FROM promises WHERE n IN ("
        " SELECT p.n FROM promises p LEFT JOIN promises q ON q.n = p.parent"
        " WHERE p.n > :after AND p.n <= :until AND p.n < :newest AND p.state != 'pending' AND p.settled_at <= :grace"
        " AND (p.n <= :surplus OR p.settled_at <= :old) AND (q.n IS NULL OR q.state != 'pending'))",
        {
            "after": after,
            "until": until,
            "newest": newest,
            "grace": now - GRACE_MS,
            "surplus": surplus,
            "old": old,
        },
    )
    return int(until)
