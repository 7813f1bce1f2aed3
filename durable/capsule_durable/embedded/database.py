"""The SQLite file: how it is opened, shared and protected."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from capsule_durable.checkpoints.home import ensure
from capsule_durable.embedded import schema
from capsule_durable.embedded.errors import StoreForeign, StoreNotLockable, StoreTooNew, explain

#: How long another process may hold the file, in seconds.
PATIENCE = 10.0
#: Bytes to which the write-ahead log is cut when it begins anew.
LOG_SIZE = 16 * 2**20

type Synchronous = Literal["NORMAL", "FULL"]


class Database:
    """One connection, used by one thread at a time, and transactions on it. Processes may share the file.

    The journal is a write-ahead log. What is committed survives the end of any process; with ``FULL`` it also survives
    a loss of power, for a sync of the disk at each commit. Either way the file is never half-written.

    Args:
        path: the file; it is made if there is none, for its owner only.
        synchronous: as SQLite has it.
        patience: for how many seconds a transaction waits for other processes; with 0, whoever asks tries again.

    Raises:
        StoreError: it cannot be opened; its class says why. The file is as it was.
    """

    def __init__(self, path: Path, synchronous: Synchronous = "NORMAL", patience: float = PATIENCE) -> None:
        self.path = path
        try:
            self.connection = _open(path, synchronous)
            self.wait(patience)
        except (sqlite3.Error, OSError) as error:
            raise explain(error, path) from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Have the file alone: all that is done takes effect at the end, or none of it.

        Raises:
            StoreError: it cannot be done; ``StoreBusy`` if others did not let go of the file.
        """
        connection = self.connection
        try:
            # From the start, since a transaction that turns into a writing one cannot wait for others.
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise explain(error, self.path) from error

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Have the connection. Errors of SQLite become ours.

        Raises:
            StoreError: it cannot be done.
        """
        try:
            yield self.connection
        except sqlite3.Error as error:
            raise explain(error, self.path) from error

    def wait(self, patience: float) -> None:
        """Say for how many seconds a transaction waits for other processes."""
        with self.reading() as connection:
            connection.execute(f"PRAGMA busy_timeout = {round(patience * 1000)}")

    def close(self) -> None:
        """Close the connection. Closing twice does nothing."""
        with self.reading() as connection:
            connection.close()


def _open(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    if path.exists():
        connection = _connect(path)
        try:
            if _is_ready(connection):
                return _set_up(connection, synchronous)
        except BaseException:
            connection.close()
            raise
        connection.close()
    home = os.open(ensure(path.parent), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # One process at a time, because SQLite does not wait for others when it changes a file's journal mode.
        _lock(home)
        # SQLite gives its other files the permissions that this one has. One that is there must not be opened here:
        # closing it would release the locks of this process's other connections (sqlite.org/howtocorrupt, 2.2).
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            os.fsync(home)
        connection = _connect(path)
        try:
            _prepare(connection, path)
            return _set_up(connection, synchronous)
        except BaseException:
            connection.close()
            raise
    finally:
        os.close(home)


def _connect(path: Path) -> sqlite3.Connection:
    # The timeout is set before the first statement, so that even the first look waits for others.
    return sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)


def _lock(directory: int) -> None:
    """Wait for the lock of the directory, but not for ever."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


def _state(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return whose file it is, and the version of its tables."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return application, version


def _is_ready(connection: sqlite3.Connection) -> bool:
    """Whether the file has the form that is used here."""
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    return _state(connection) == (schema.APPLICATION_ID, len(schema.MIGRATIONS)) and mode == "wal"


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a file to the form that is used here. One that is not ours, or newer, stays as it is."""
    application, version = _state(connection)
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != schema.APPLICATION_ID and (application or version or tables):
        raise StoreForeign.at(path, f"its application id is {application}")
    newest = len(schema.MIGRATIONS)
    if version > newest:
        raise StoreTooNew.at(path, f"its tables are of version {version}, not {newest}")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreNotLockable.at(path, f"the journal stays in mode {mode!r}")
    if version < newest:
        _migrate(connection, version)


def _set_up(connection: sqlite3.Connection, synchronous: Synchronous) -> sqlite3.Connection:
    """Say how a connection works; nothing of this is kept in the file."""
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    # ``Upkeep`` moves the log into the file, in a thread of its own: it takes a sync of the disk.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_SIZE}")
    return connection


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring tables up to date, all at once or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in (statement for step in schema.MIGRATIONS[version:] for statement in step):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
