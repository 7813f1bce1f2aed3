"""The catalogue's tables, and how older ones become these."""

from __future__ import annotations

from capsule_durable.storage.sqlite import Form

#: As in ``Form``: never changed once released, and what is added must not disturb processes of the older version.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE sessions (
            id TEXT PRIMARY KEY,
            kernel TEXT NOT NULL,
            notebook TEXT,
            pid INTEGER NOT NULL,
            started REAL NOT NULL,
            ended REAL,
            head TEXT
        )
        """,
        # The large columns come last: SQLite need not read them for what comes before.
        """
        CREATE TABLE checkpoints (
            id TEXT PRIMARY KEY,
            session TEXT NOT NULL,
            number INTEGER NOT NULL,
            parent TEXT,
            time REAL NOT NULL,
            execution_count INTEGER NOT NULL,
            name TEXT,
            description TEXT NOT NULL,
            tags TEXT NOT NULL,
            size INTEGER NOT NULL,
            bytes_written INTEGER NOT NULL,
            duration REAL NOT NULL,
            variables INTEGER NOT NULL,
            unsaved INTEGER NOT NULL,
            code TEXT NOT NULL,
            packs TEXT NOT NULL,
            manifest BLOB NOT NULL
        )
        """,
        "CREATE INDEX checkpoints_of_session ON checkpoints (session, number)",
    ),
)

#: The first catalogues were made without an application id, so there is none.
FORM = Form(application_id=0, migrations=MIGRATIONS)
