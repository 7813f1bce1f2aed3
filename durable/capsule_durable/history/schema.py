"""The tables of ``history.sqlite3``.

| table | a row is | it is deleted |
| --- | --- | --- |
| cells | an execution that has ended, with its result and outputs (``cells``) | by retention |
| blobs | a large output of a cell, which is a file of its own (``blobs``) | with its cell |
| runs | a notebook that is executed under an id, and the process that does so (``runs``) | when its last cell is old |
| run_cells | how far a run has come | with its run |
| events | an event of the ledger (``ledger``) | never |
| events_head | the last event of the ledger | never |
"""

from __future__ import annotations

from capsule_durable.storage.sqlite import DatabaseSchema

#: The file, in the user's directory.
FILE = "history.sqlite3"

#: As in ``DatabaseSchema``. The first version may change until the first release.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # The large columns come last: SQLite need not read them for those before them. ``result`` and ``outputs`` are
        # JSON, compressed with zstd.
        """
        CREATE TABLE cells (
            n INTEGER PRIMARY KEY,
            execution_id TEXT NOT NULL UNIQUE,
            session_id TEXT NOT NULL,
            cell_id TEXT,
            execution_count INTEGER NOT NULL,
            started_at REAL NOT NULL,
            ended_at REAL NOT NULL,
            status TEXT NOT NULL,
            source TEXT NOT NULL,
            result BLOB NOT NULL,
            outputs BLOB NOT NULL
        )
        """,
        "CREATE INDEX cells_by_session ON cells (session_id, n)",
        """
        CREATE TABLE blobs (
            execution_id TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (execution_id, digest)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE runs (
            id TEXT PRIMARY KEY,
            owner TEXT,
            owner_seen_at REAL,
            started_at REAL NOT NULL,
            executions INTEGER NOT NULL DEFAULT 0,
            options TEXT NOT NULL
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE run_cells (
            run_id TEXT NOT NULL,
            position INTEGER NOT NULL,
            source_digest BLOB NOT NULL,
            execution_id TEXT NOT NULL,
            attempt INTEGER NOT NULL,
            checkpoint_id TEXT,
            PRIMARY KEY (run_id, position)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE events (
            n INTEGER PRIMARY KEY,
            at REAL NOT NULL,
            actor TEXT NOT NULL,
            session_id TEXT NOT NULL,
            type TEXT NOT NULL,
            data TEXT NOT NULL,
            prev_hash BLOB NOT NULL,
            hash BLOB NOT NULL
        )
        """,
        "CREATE INDEX events_by_session ON events (session_id, n)",
        """
        CREATE TABLE events_head (
            one INTEGER PRIMARY KEY CHECK (one = 1), n INTEGER NOT NULL, hash BLOB NOT NULL
        )
        """,
    ),
)

SCHEMA = DatabaseSchema(application_id=0x43617048, migrations=MIGRATIONS)
