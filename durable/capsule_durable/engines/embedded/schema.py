"""The tables.

A promise is a row that is written once and settled once. A task is what somebody has to run until its promise is
settled; then its row goes, so that tables and indexes of what is going on stay small however long the history.
Rows refer to promises by ``n``, their number in order of creation; a number is never given twice.

| table | a row is | it goes |
| --- | --- | --- |
| promises | a promise; ``parent`` is the one that it is a step of, if that is known | by retention |
| tasks | work for whoever listens at ``target``; ``due`` is when a lease ends or an offer is repeated | at settlement |
| callbacks | task ``awaiter`` is suspended until ``awaited`` is settled | at settlement of ``awaited`` |
| listeners | ``address`` is to hear of the settlement | at settlement |
| outbox | ``address`` has not yet heard of it | with delivery, or when its process has ended |
| cells | a cell that has ended, with its outputs (``cells``) | by retention |
| artifacts | a large output of a cell, in a file of its own (``artifacts``) | with its cell |
| runs, run_cells | a batch run: who executes it, and how far it has come | when its last cell is old |
| ledger, ledger_head | something that happened (``ledger``); the last one | never |

A pending task that is due is the message to its target: nothing else has to be stored, and it cannot get lost.
"""

from __future__ import annotations

from capsule_durable.storage.sqlite import DatabaseSchema

#: As in ``Form``: the first is changed until the first release, which refuses what was made before.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # The large columns come last: SQLite need not read them for what comes before.
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
        # The cells that have ended, whoever asked for them.
        """
        CREATE TABLE cells (
            n INTEGER PRIMARY KEY,
            execution TEXT NOT NULL UNIQUE,
            session TEXT NOT NULL,
            number INTEGER NOT NULL,
            started REAL NOT NULL,
            ended REAL NOT NULL,
            status TEXT NOT NULL,
            code TEXT NOT NULL,
            outcome BLOB NOT NULL,
            outputs BLOB NOT NULL
        )
        """,
        "CREATE INDEX cells_of_session ON cells (session, n)",
        """
        CREATE TABLE artifacts (
            execution TEXT NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (execution, name)
        ) WITHOUT ROWID
        """,
        # Notebooks that are executed from their beginning, under an id.
        """
        CREATE TABLE runs (
            id TEXT PRIMARY KEY, owner TEXT, seen REAL, started REAL NOT NULL, begun INTEGER NOT NULL DEFAULT 0
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE run_cells (
            run TEXT NOT NULL,
            number INTEGER NOT NULL,
            source BLOB NOT NULL,
            execution TEXT NOT NULL,
            turn INTEGER NOT NULL,
            checkpoint TEXT,
            PRIMARY KEY (run, number)
        ) WITHOUT ROWID
        """,
        # What happened, in a chain of hashes, and its last link.
        """
        CREATE TABLE ledger (
            n INTEGER PRIMARY KEY,
            at REAL NOT NULL,
            actor TEXT NOT NULL,
            session TEXT NOT NULL,
            what TEXT NOT NULL,
            data TEXT NOT NULL,
            prev_hash BLOB NOT NULL,
            record_hash BLOB NOT NULL
        )
        """,
        "CREATE INDEX ledger_of_session ON ledger (session, n)",
        "CREATE TABLE ledger_head (one INTEGER PRIMARY KEY, n INTEGER NOT NULL, record_hash BLOB NOT NULL)",
    ),
)

FORM = DatabaseSchema(application_id=0x43617073, migrations=MIGRATIONS, unreleased=1, has_maintenance=True)
