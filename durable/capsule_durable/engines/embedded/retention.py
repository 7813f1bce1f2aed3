"""Which settled promises are forgotten, and how: in small steps, each a transaction of about a millisecond.

A promise is needed as long as what it is a step of is not settled: a replay asks for it. Nothing else keeps it, apart
from how many there are, and how old it is.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

#: Promises that one step looks at.
STEP = 200
#: Milliseconds for which a promise is kept after its settlement in any case: somebody may be about to ask for it.
GRACE = 60_000


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept.

    Args:
        count: how many promises, the newest; those that are not settled, and their steps, are kept beside them.
        age: for how many milliseconds after their settlement; None for ever.
    """

    count: int = 100_000
    age: int | None = 30 * 86_400_000


def sweep(sql: sqlite3.Connection, retention: Retention, now: int, after: int) -> int | None:
    """Forget some promises.

    Args:
        sql: a connection, in a transaction.
        retention: what is kept.
        now: milliseconds since the epoch.
        after: the last number that was looked at; 0 at first.

    Returns:
        The last number that was looked at now; None if what comes behind is to be kept.
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
    # The newest stays in any case, so that its number is not given again.
    sql.execute(
        "DELETE FROM promises WHERE n IN ("
        " SELECT p.n FROM promises p LEFT JOIN promises q ON q.n = p.parent"
        " WHERE p.n > :after AND p.n <= :until AND p.n < :newest AND p.state != 'pending' AND p.settled_at <= :grace"
        " AND (p.n <= :surplus OR p.settled_at <= :old) AND (q.n IS NULL OR q.state != 'pending'))",
        {
            "after": after,
            "until": until,
            "newest": newest,
            "grace": now - GRACE,
            "surplus": surplus,
            "old": old,
        },
    )
    return int(until)
