"""The tables of the catalogue, and what its statements share."""

from __future__ import annotations

from capsule_durable.storage.sqlite import DatabaseSchema

#: As in ``DatabaseSchema``. The first version may change until the first release, which refuses older files.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE sessions (
            id TEXT PRIMARY KEY,
            kernel TEXT NOT NULL,
            notebook TEXT,
            process TEXT NOT NULL,
            started REAL NOT NULL,
            ended REAL,
            head TEXT
        )
        """,
        # The large columns come last: SQLite reads a row only up to the last column that is needed.
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

#: Catalogues that were made before the first release have no application id.
SCHEMA = DatabaseSchema(application_id=0x43617043, migrations=MIGRATIONS, unreleased_id=0)

#: For statements on the table ``sessions``: the id of the newest checkpoint of the row's session.
NEWEST = "(SELECT c.id FROM checkpoints AS c WHERE c.session = sessions.id ORDER BY c.number DESC, c.time DESC LIMIT 1)"
