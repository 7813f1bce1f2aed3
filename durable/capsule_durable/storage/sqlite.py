"""A SQLite file: how it is opened, shared, protected and brought up to date."""

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

#: How long another process may hold the file, in seconds.
TIMEOUT = 10.0
#: Bytes to which the write-ahead log is cut when it begins anew.
LOG_SIZE = 16 * 2**20

type Synchronous = Literal["NORMAL", "FULL"]


@dataclass(frozen=True)
class DatabaseSchema:
    """What a file looks like, and who looks after it.

    Args:
        application_id: SQLite's ``application_id``, which tells our file from other databases.
        migrations: the statements that make tables of version n + 1 from those of version n; from nothing, for the
            first. Never changed once released. Processes of the older version may have the file open: add what they do
            not see, and take nothing from them.
        unreleased_id: the application id of files that were made before the first release. These are refused.
        has_maintenance: whether a thread of ours moves the log into the file, which takes a sync of the disk; otherwise
            SQLite does so, at the end of some transactions.
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
    """One connection, which one thread at a time has, and transactions on it. Processes may share the file.

    The journal is a write-ahead log. What is committed survives the end of any process; with ``FULL`` it also survives
    a loss of power, for a sync of the disk at each commit. Either way the file is never half-written.

    Args:
        path: the file; it is made if there is none, for its owner only.
        form: what it looks like; an older one that was released is brought to this form.
        synchronous: as SQLite has it.
        patience: for how many seconds a transaction waits for other processes; with 0, whoever asks tries again.

    Raises:
        StoreError: it cannot be opened; its class says why. The file is as it was.
    """

    def __init__(
        self, path: Path, form: DatabaseSchema, synchronous: Synchronous = "NORMAL", patience: float = TIMEOUT
    ) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            self.connection = _open(path, form, synchronous)
        except (sqlite3.Error, OSError) as error:
            raise explain(error, path) from error
        self.wait(patience)

    @contextlib.contextmanager
    def using(self) -> Iterator[sqlite3.Connection]:
        """Have the connection, and this thread alone. Errors of SQLite and of files become ours.

        Raises:
            StoreError: it cannot be done.
        """
        with self._lock:
            try:
                yield self.connection
            except (sqlite3.Error, OSError) as error:
                raise explain(error, self.path) from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Have the file alone: all that is done takes effect at the end, or none of it.

        Raises:
            StoreError: it cannot be done; ``StoreBusy`` if others did not let go of the file.
        """
        # Not by way of `using`: each request of the engine is one of these, and a context manager costs a microsecond.
        with self._lock:
            try:
                with _transaction(self.connection):
                    yield self.connection
            except (sqlite3.Error, OSError) as error:
                raise explain(error, self.path) from error

    def wait(self, patience: float) -> None:
        """Say for how many seconds a transaction waits for other processes."""
        with self.using() as connection:
            connection.execute(f"PRAGMA busy_timeout = {round(patience * 1000)}")

    def close(self) -> None:
        """Close the connection. Closing twice does nothing."""
        with self.using() as connection:
            connection.close()


def _open(path: Path, form: DatabaseSchema, synchronous: Synchronous) -> sqlite3.Connection:
    home = os.open(ensure(path.parent), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if path.exists():
            _try_lock(home)
            connection = _connect(path)
            try:
                if _is_ready(connection, form):
                    return _set_up(connection, form, synchronous)
            except BaseException:
                connection.close()
                raise
            connection.close()
        # One process at a time, because SQLite does not wait for others when it changes a file's journal mode.
        _lock(home)
        # SQLite gives its other files the permissions that this one has. One that is there must not be opened here:
        # closing it would release the locks of this process's other connections (sqlite.org/howtocorrupt, 2.2).
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            os.fsync(home)
        connection = _connect(path)
        try:
            _prepare(connection, path, form)
            return _set_up(connection, form, synchronous)
        except BaseException:
            connection.close()
            raise
    finally:
        os.close(home)


def _connect(path: Path) -> sqlite3.Connection:
    # The timeout is set before the first statement, so that even the first look waits for others.
    return sqlite3.connect(path, timeout=TIMEOUT, isolation_level=None, check_same_thread=False)


def _try_lock(directory: int) -> None:
    """See whether anything can be locked here: SQLite takes a refusal for another process's lock, and waits for it."""
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(directory, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(directory, fcntl.LOCK_UN)


def _lock(directory: int) -> None:
    """Wait for the lock of the directory, but not for ever."""
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
    """Return whose file it is, and the version of its tables."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return application, version


def _is_ready(connection: sqlite3.Connection, form: DatabaseSchema) -> bool:
    """Whether the file has the form that is used here."""
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    return _state(connection) == (form.application_id, form.version) and mode == "wal"


def _prepare(connection: sqlite3.Connection, path: Path, form: DatabaseSchema) -> None:
    """Bring a file to the form that is used here. One that is not ours, newer, or was never released stays as it is."""
    application, version = _state(connection)
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == form.unreleased_id and version > 0:
        raise StoreUnreleased.at(path, f"its application id is {application}, not {form.application_id}")
    is_ours = application == form.application_id and version > 0
    if not is_ours and (application or version or tables):
        raise StoreForeign.at(path, f"its application id is {application}, and its tables are of version {version}")
    if version > form.version:
        raise StoreTooNew.at(path, f"its tables are of version {version}, not {form.version}")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreNotLockable.at(path, f"the journal stays in mode {mode!r}")
    if version < form.version:
        _migrate(connection, form, version)


def _set_up(connection: sqlite3.Connection, form: DatabaseSchema, synchronous: Synchronous) -> sqlite3.Connection:
    """Say how a connection works; nothing of this is kept in the file."""
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_SIZE}")
    if form.has_maintenance:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def _migrate(connection: sqlite3.Connection, form: DatabaseSchema, version: int) -> None:
    """Bring tables up to date, all at once or not at all."""
    with _transaction(connection):
        for statement in (statement for step in form.migrations[version:] for statement in step):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {form.application_id}")
        connection.execute(f"PRAGMA user_version = {form.version}")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # Writing from the start, since a transaction that turns into a writing one cannot wait for others.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
