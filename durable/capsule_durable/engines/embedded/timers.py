"""Work without a request: timeouts, offers of tasks, and leases of dead owners."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping

from capsule_durable.engines.embedded.transaction import NEVER, Here, Transaction

#: How many rows of a kind one transaction handles; the rest is left to the next one.
BATCH = 100


def next_due(sql: sqlite3.Connection, here: Here) -> int:
    """Return when work is due for a process, in milliseconds since the epoch; 0 if a notification waits for it.

    Args:
        sql: a connection.
        here: the process.
    """
    times = sql.execute(
        "SELECT (SELECT min(timeout_at) FROM promises WHERE state = 'pending'),"
        " (SELECT min(due) FROM tasks WHERE state = 'acquired')"
    ).fetchone()
    for address in here.addresses:
        times += sql.execute(
            "SELECT (SELECT min(due) FROM tasks WHERE state = 'pending' AND target = ?),"
            " (SELECT 0 FROM outbox WHERE address = ?)",
            (address, address),
        ).fetchone()
    return min((time for time in times if time is not None), default=NEVER)


def any_settled(sql: sqlite3.Connection, awaited: Collection[str]) -> bool:
    """Return whether any of some promises is settled.

    Args:
        sql: the connection to the file.
        awaited: ids of the promises.
    """
    return any(
        sql.execute("SELECT 1 FROM promises WHERE id = ? AND state != 'pending'", (promise_id,)).fetchone()
        for promise_id in awaited
    )


def fire(tx: Transaction) -> None:
    """Settle promises whose timeout has passed, release expired leases, and offer the tasks for this process."""
    late = tx.sql.execute(
        "SELECT n FROM promises WHERE state = 'pending' AND timeout_at <= ? ORDER BY timeout_at LIMIT ?",
        (tx.now, BATCH),
    ).fetchall()
    for (n,) in late:
        tx.time_out(tx.numbered(n))
    lapsed = tx.sql.execute("SELECT n FROM tasks WHERE state = 'acquired' AND due <= ?", (tx.now,)).fetchall()
    tx.free([n for (n,) in lapsed], tx.now)
    for address in tx.here.addresses:
        offers = tx.sql.execute(
            "SELECT t.n, p.id, t.version FROM tasks t JOIN promises p ON p.n = t.n"
            " WHERE t.state = 'pending' AND t.target = ? AND t.due <= ? ORDER BY t.due LIMIT ?",
            (address, tx.now, BATCH),
        ).fetchall()
        for n, task_id, version in offers:
            tx.offer(n, task_id, version, address, tx.now)


def deliver(tx: Transaction) -> None:
    """Notify this process of settlements by others, and empty its part of the outbox."""
    for promise_id in tx.here.awaited:
        promise = tx.promise(promise_id)
        if promise is not None and promise.state != "pending" and promise_id not in tx.told:
            tx.tell(promise)
    for address in tx.here.addresses:
        for promise in tx.to_tell(address):
            tx.tell(promise)
        tx.sql.execute("DELETE FROM outbox WHERE address = ?", (address,))


def renew(tx: Transaction, held: Mapping[str, int]) -> None:
    """Renew the leases of this process.

    Args:
        tx: the transaction.
        held: versions of tasks by their ids.
    """
    tx.sql.executemany(
        "UPDATE tasks SET due = ? + ttl WHERE n = (SELECT n FROM promises WHERE id = ?)"
        " AND state = 'acquired' AND version = ? AND owner = ?",
        [(tx.now, task_id, version, tx.here.name) for task_id, version in held.items()],
    )


def holders(sql: sqlite3.Connection) -> set[str]:
    """Return the names of all processes that own or were offered a task, or listen.

    Args:
        sql: the connection to the file.
    """
    found = sql.execute(
        "SELECT owner FROM tasks WHERE state = 'acquired'"
        " UNION SELECT owner FROM tasks WHERE state = 'pending' AND owner IS NOT NULL"
        " UNION SELECT address FROM listeners UNION SELECT address FROM outbox"
    )
    return {name.rpartition("/")[2] for (name,) in found}


def release_dead_owner(tx: Transaction, name: str) -> None:
    """Release the tasks of a process and delete its listeners.

    Args:
        tx: the transaction.
        name: the process.
    """
    held = tx.sql.execute(
        "SELECT n FROM tasks WHERE state = 'acquired' AND owner = ?"
        " UNION ALL SELECT n FROM tasks WHERE state = 'pending' AND owner = ?",
        (name, name),
    ).fetchall()
    tx.free([n for (n,) in held], tx.now)
    for table in ("listeners", "outbox"):
        tx.sql.execute(f"DELETE FROM {table} WHERE substr(address, -?) = ?", (len(name) + 1, f"/{name}"))  # noqa: S608
