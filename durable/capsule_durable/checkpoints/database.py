"""The catalogue's SQLite file: how it is opened, shared and protected, and what its errors mean."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from capsule_durable.checkpoints.home import ensure
from capsule_durable.errors import CapsuleError

#: The version of the tables, in SQLite's ``user_version``. Raised with every change to them.
SCHEMA_VERSION = 1
#: How long another process may hold the file, in seconds.
BUSY_TIMEOUT = 10.0

_SCHEMA = (
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
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


class StoreError(CapsuleError):
    """Checkpoints cannot be listed or kept. The message says what happened, where, and what to do."""


class Database:
    """One connection, used by one thread at a time, and transactions on it. Processes may share the file.

    Args:
        path: the file; it is made if there is none.

    Raises:
        StoreError: it cannot be opened, is damaged, or was made by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        with self._explained():
            self._connection = _open(path)

    @contextlib.contextmanager
    def using(self) -> Iterator[sqlite3.Connection]:
        """Have the connection, and this thread alone. Errors of SQLite and of files become StoreErrors."""
        with self._lock, self._explained():
            yield self._connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Have the connection, and this process alone: all that is done takes effect at the end, or none of it."""
        with self.using() as connection:
            # From the start, since a transaction that turns into a writing one cannot wait for others.
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the connection. Closing twice does nothing."""
        with self.using() as connection:
            connection.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(_explanation(error, self._path)) from error
        except OSError as error:
            where = error.filename or self._path
            raise StoreError(
                f"cannot use {where}: {error.strerror or error}; see to its disk and permissions"
            ) from error


def _open(path: Path) -> sqlite3.Connection:
    home = os.open(ensure(path.parent), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # One process at a time, because SQLite does not wait for others when it changes a file's journal mode.
        fcntl.flock(home, fcntl.LOCK_EX)
        # SQLite gives its other files the permissions that this one has. One that is there must not be opened here:
        # closing it would release the locks of this process's other connections (sqlite.org/howtocorrupt, 2.2).
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            os.fsync(home)
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection
    finally:
        os.close(home)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a file to the form that is used here. One that is not ours, or newer, stays as it is."""
    connection.row_factory = sqlite3.Row
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was made by a newer version of Capsule (its tables are of version {version}, not "
            f"{SCHEMA_VERSION}): get the newer Capsule, or set CAPSULE_HOME to another directory"
        )
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not version and tables:
        raise StoreError(f"{path} is somebody else's database: move it away, or set CAPSULE_HOME to another directory")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if not version:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("COMMIT")


def _explanation(error: sqlite3.Error, path: Path) -> str:
    """Return what happened, to which file, and what to do about it."""
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return (
                f"{path} is damaged ({error}): repair it with SQLite's `.recover`, or move it away to begin anew; "
                "the checkpoints that it lists cannot be found without it"
            )
        case sqlite3.SQLITE_FULL:
            return f"no room for {path} ({error}): free some of the disk; checkpoints that are listed are safe"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return f"{path} cannot be written ({error}): see to its permissions, or set CAPSULE_HOME"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return f"another process has held {path} for more than {BUSY_TIMEOUT:g} s ({error}): try again"
        case sqlite3.SQLITE_IOERR:
            return f"the disk failed at {path} ({error}): see to the disk and the room on it"
        case _:
            return f"cannot use {path}: {error}"
