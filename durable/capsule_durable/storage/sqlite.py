"""Open, share, protect and migrate a SQLite file."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from capsule_durable.config.paths import ensure
from capsule_durable.storage.errors import StoreForeign, StoreNotLockable, StoreTooNew, StoreUnreleased, explain

#: Seconds for which a transaction waits for other processes.
TIMEOUT = 10.0
#: Bytes to which the write-ahead log is truncated when it restarts.
LOG_SIZE = 16 * 2**20

type Synchronous = Literal["NORMAL", "FULL"]


@dataclass(frozen=True)
class DatabaseSchema:
    """The schema of a database file.

    Args:
        application_id: SQLite's ``application_id``, which distinguishes our file from other databases.
        migrations: for each version, the statements that change tables of the version before; the first ones create
            the tables. Never change a released one. Processes of an older version may have the file open, so only add
            tables and columns.
        unreleased_id: the application id of files that were made before the first release. These are refused.
        has_maintenance: whether a thread moves the write-ahead log into the file, which synchronizes the disk.
            Otherwise SQLite does so at the end of some transactions.
    """

    application_id: int
    migrations: tuple[tuple[str, ...], ...]
    unreleased_id: int | None = None
    has_maintenance: bool = False

    @property
    def version(self) -> int:
        """The version of the tables, in SQLite's ``user_version``."""
        return len(self.migrations)


class Database:
    """One connection, used by one thread at a time, and its transactions. Processes may share the file.

    The journal is a write-ahead log. A committed transaction survives the crash of any process. With ``FULL`` it also
    survives a loss of power, at the price of one disk synchronization per commit. The file is never half-written.

    Args:
        path: the file. If it does not exist it is created, readable by its owner only.
        schema: its schema. A file of an older released version is migrated.
        synchronous: SQLite's setting of this name.
        timeout: seconds for which a transaction waits for other processes; with 0 the caller tries again itself.

    Raises:
        StoreError: the file cannot be opened; the class tells why. The file was not changed.
    """

    def __init__(
        self, path: Path, schema: DatabaseSchema, synchronous: Synchronous = "NORMAL", timeout: float = TIMEOUT
    ) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            self.connection = _open(path, schema, synchronous)
        except (sqlite3.Error, OSError) as error:
            raise explain(error, path) from error
        self.set_timeout(timeout)

    @contextlib.contextmanager
    def using(self) -> Iterator[sqlite3.Connection]:
        """Use the connection in this thread alone, and turn errors of SQLite and of files into our errors.

        Raises:
            StoreError: the block failed.
        """
        with self._lock:
            try:
                yield self.connection
            except (sqlite3.Error, OSError) as error:
                raise explain(error, self.path) from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Run the block as one transaction: all its changes take effect at the end, or none of them.

        Raises:
            StoreError: the block failed; ``StoreBusy`` if another process held the file for too long.
        """
        # This does not call `using`: each request of the engine is a transaction, and a context manager costs 1 us.
        with self._lock:
            try:
                with _transaction(self.connection):
                    yield self.connection
            except (sqlite3.Error, OSError) as error:
                raise explain(error, self.path) from error

    def set_timeout(self, seconds: float) -> None:
        """Set how long a transaction waits for other processes.

        Args:
            seconds: the time; with 0 it does not wait.
        """
        with self.using() as connection:
            connection.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")

    def close(self) -> None:
        """Close the connection. Idempotent."""
        with self.using() as connection:
            connection.close()


def _open(path: Path, schema: DatabaseSchema, synchronous: Synchronous) -> sqlite3.Connection:
    home = os.open(ensure(path.parent), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if path.exists():
            _try_lock(home)
            connection = _connect(path)
            try:
                if _is_ready(connection, schema):
                    return _set_up(connection, schema, synchronous)
            except BaseException:
                connection.close()
                raise
            connection.close()
        # One process at a time, because SQLite does not wait for others when it changes a file's journal mode.
        _lock(home)
        # SQLite gives its other files the permissions of this one. An existing file must not be opened here: closing it
        # would release the locks of this process's other connections (sqlite.org/howtocorrupt.html, section 2.2).
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            os.fsync(home)
        connection = _connect(path)
        try:
            _prepare(connection, path, schema)
            return _set_up(connection, schema, synchronous)
        except BaseException:
            connection.close()
            raise
    finally:
        os.close(home)


def _connect(path: Path) -> sqlite3.Connection:
    # The timeout is set before the first statement, so that even that one waits for other processes.
    return sqlite3.connect(path, timeout=TIMEOUT, isolation_level=None, check_same_thread=False)


def _try_lock(directory: int) -> None:
    """Check that the file system has locks: SQLite takes a refusal for the lock of another process, and waits."""
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(directory, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(directory, fcntl.LOCK_UN)


def _lock(directory: int) -> None:
    """Wait for the lock of the directory, for at most ``TIMEOUT``."""
    deadline = time.monotonic() + TIMEOUT
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
    """Return the application id of a file, and the version of its tables."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return application, version


def _is_ready(connection: sqlite3.Connection, schema: DatabaseSchema) -> bool:
    """Return whether a file has this schema, and the journal that is used here."""
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    return _state(connection) == (schema.application_id, schema.version) and mode == "wal"


def _prepare(connection: sqlite3.Connection, path: Path, schema: DatabaseSchema) -> None:
    """Create or migrate the tables. A file that is foreign, newer or of an unreleased version is refused unchanged."""
    application, version = _state(connection)
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == schema.unreleased_id and version > 0:
        raise StoreUnreleased.at(path, f"its application id is {application}, not {schema.application_id}")
    is_ours = application == schema.application_id and version > 0
    if not is_ours and (application or version or tables):
        raise StoreForeign.at(path, f"its application id is {application}, and its tables have version {version}")
    if version > schema.version:
        raise StoreTooNew.at(path, f"its tables have version {version}, not {schema.version}")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreNotLockable.at(path, f"the journal stays in mode {mode!r}")
    if version < schema.version:
        _migrate(connection, schema, version)


def _set_up(connection: sqlite3.Connection, schema: DatabaseSchema, synchronous: Synchronous) -> sqlite3.Connection:
    """Configure a connection. None of this is stored in the file."""
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_SIZE}")
    if schema.has_maintenance:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def _migrate(connection: sqlite3.Connection, schema: DatabaseSchema, version: int) -> None:
    """Migrate the tables, all at once or not at all."""
    with _transaction(connection):
        for statement in (statement for step in schema.migrations[version:] for statement in step):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.application_id}")
        connection.execute(f"PRAGMA user_version = {schema.version}")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # A write transaction from the start: one that begins as a read transaction cannot wait for other writers.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
