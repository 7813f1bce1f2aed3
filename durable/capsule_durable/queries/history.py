"""Opens the stored cells, runs and events for reading."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from capsule_durable.errors import CapsuleError
from capsule_durable.history.schema import FILE, SCHEMA
from capsule_durable.storage.sqlite import Database


class NotRecorded(CapsuleError):
    """Nothing of what was asked for is recorded."""


@contextlib.contextmanager
def open_history(home: Path) -> Iterator[Database]:
    """Open the history of a user for reading. Does not create it.

    Args:
        home: the user's directory.

    Raises:
        NotRecorded: no kernel has recorded anything yet.
        StoreError: the file cannot be used.
    """
    path = home / FILE
    if not path.exists():
        raise NotRecorded(f"Nothing is recorded yet ({path} does not exist).")
    database = Database(path, SCHEMA)
    try:
        with database.using() as sql:
            sql.execute("PRAGMA query_only = ON")
        yield database
    finally:
        database.close()
