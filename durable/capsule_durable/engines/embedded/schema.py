"""The tables of ``engine.sqlite3``.

A promise is a row that is written once and settled once. A task is work to do until its promise is settled. Then its
row is deleted, so that tables and indexes of pending work stay small. Rows refer to promises by ``n``, their number in
order of creation, which is never reused.

| table | a row is | it is deleted |
| --- | --- | --- |
| promises | a promise; ``parent`` is the promise that it is a step of, if known | by retention |
| tasks | work for those that listen at ``target``; at ``due`` a lease ends or an offer is repeated | at settlement |
| callbacks | task ``awaiter`` is suspended until ``awaited`` is settled | at settlement of ``awaited`` |
| listeners | ``address`` is to be notified of the settlement | at settlement |
| outbox | ``address`` has not been notified yet | on delivery, or when its process has ended |

A pending task that is due is the message to its target: nothing else has to be stored, and it cannot get lost.
"""

from __future__ import annotations

from capsule_durable.storage.sqlite import DatabaseSchema

#: The file, in the user's directory.
FILE = "engine.sqlite3"

#: As in ``DatabaseSchema``. The first version may change until the first release.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # The large columns come last: SQLite need not read them for those before them.
        """
        CREATE TABLE promises (
            n INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            state TEXT NOT NULL,
            timeout_at INTEGER NOT NULL,
            created_at INTEGER NOT NULL,
            settled_at INTEGER,
            parent INTEGER,
            tags TEXT NOT NULL,
            param TEXT,
            value TEXT
        )
        """,
        "CREATE INDEX promises_due ON promises (timeout_at) WHERE state = 'pending'",
        "CREATE INDEX promises_of_parent ON promises (parent) WHERE parent IS NOT NULL",
        """
        CREATE TABLE tasks (
            n INTEGER PRIMARY KEY,
            state TEXT NOT NULL,
            version INTEGER NOT NULL,
            target TEXT NOT NULL,
            owner TEXT,
            ttl INTEGER,
            due INTEGER
        )
        """,
        "CREATE INDEX tasks_leased ON tasks (due) WHERE state = 'acquired'",
        "CREATE INDEX tasks_offered ON tasks (target, due) WHERE state = 'pending'",
        """
        CREATE TABLE callbacks (
            awaited INTEGER NOT NULL, awaiter INTEGER NOT NULL, PRIMARY KEY (awaited, awaiter)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE listeners (
            promise INTEGER NOT NULL, address TEXT NOT NULL, PRIMARY KEY (promise, address)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE outbox (
            address TEXT NOT NULL, promise INTEGER NOT NULL, PRIMARY KEY (address, promise)
        ) WITHOUT ROWID
        """,
    ),
)

SCHEMA = DatabaseSchema(
    application_id=0x43617045, migrations=MIGRATIONS, unreleased_id=0x43617073, has_maintenance=True
)
