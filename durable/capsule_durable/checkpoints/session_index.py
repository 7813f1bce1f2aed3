"""The index of sessions: which exist, which of them run, and where their data is."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from capsule_durable import ids
from capsule_durable.checkpoints import session_locks
from capsule_durable.checkpoints.models import SessionRow, UnknownSession
from capsule_durable.checkpoints.session_locks import SessionLocks
from capsule_durable.config.paths import ensure
from capsule_durable.storage.process_identity import ProcessIdentity, ProcessState, Purpose, is_allowed
from capsule_durable.storage.safe_directory import SafeDirectory
from capsule_durable.storage.sqlite import Database
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol.fsync import fsync_path

_SELECT = """
    SELECT id, kernel, notebook, process, started, ended, head,
        (SELECT count(*) FROM checkpoints AS c WHERE c.session = sessions.id) AS checkpoints
    FROM sessions
"""


@dataclass(frozen=True, slots=True)
class Access:
    """What this process may do with a session while it holds the locks that it acquired.

    Args:
        state: the state of the session's front.
        locks: the session's locks.
    """

    state: ProcessState
    locks: SessionLocks

    def allows(self, purpose: Purpose) -> bool:
        """Return whether this process may use the session's data.

        Args:
            purpose: what this process wants to do.
        """
        return is_allowed(purpose, self.state, locks=self.locks.both)

    @property
    def has_writers(self) -> bool:
        """Whether a writer of the session may be running."""
        return self.locks.writers == "held"


class SessionIndex:
    """All sessions of one home. It is a part of ``Catalogue``, which creates it.

    Args:
        database: the catalogue's database.
        directory: the directory with one directory for each session.
        clock: returns seconds since the epoch.
    """

    def __init__(self, database: Database, directory: Path, clock: Callable[[], float]) -> None:
        self._database = database
        self._directory = directory
        self._clock = clock
        #: The descriptors that hold the locks of sessions that began here, by session id.
        self._locks: dict[str, int] = {}

    def release_locks(self) -> None:
        """Release the locks of sessions that began here. Idempotent."""
        while self._locks:
            os.close(self._locks.popitem()[1])

    # -- beginning and end -----------------------------------------------------------------------------------

    def begin(
        self, kernel: str, notebook: str | None, process: ProcessIdentity, session_id: str | None = None
    ) -> SessionRow:
        """Begin a session: give it an id and directories, and lock it until the catalogue is closed.

        Args:
            kernel: identifies the kernel across its restarts.
            notebook: path of the notebook, if it is known.
            process: the front. While it runs the session is not deleted.
            session_id: the id of the session; None for a new one.

        Raises:
            StoreError: the session cannot be created.
        """
        started = self._clock()
        session_id = session_id or ids.new_session_id(started)
        # Locked before other processes can see it: one that finds the lock free may remove the session.
        with self._database.using():
            directory = ensure(ensure(self._directory) / session_id)
            self._locks[session_id] = session_locks.hold(directory)
            for part in (mf.PACKS, mf.INCOMING):
                ensure(directory / part)
            for path in (directory, self._directory, self._directory.parent):
                fsync_path(path)
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO sessions (id, kernel, notebook, process, started) VALUES (?, ?, ?, ?, ?)",
                (session_id, kernel, notebook, str(process), started),
            )
        return self.get(session_id)

    def end(self, session_id: str) -> None:
        """Record that a session has ended. If it had ended before, nothing changes.

        Args:
            session_id: the session.

        Raises:
            UnknownSession: no session has this id.
        """
        self.get(session_id)
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE sessions SET ended = ? WHERE id = ? AND ended IS NULL", (self._clock(), session_id)
            )

    # -- locks -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def access(self, session: SessionRow, timeout: float = 0.0) -> Iterator[Access]:
        """Determine what this process may do with a session, and hold the session's locks in the block.

        Args:
            session: the session.
            timeout: seconds to wait for the writers of a front that has ended.
        """
        if session.state == "running":
            yield Access("running", SessionLocks())
            return
        is_own = session.id in self._locks
        with session_locks.acquired(self.directory(session.id), own=is_own, timeout=timeout) as locks:
            # The state is read again: the process may have ended before the locks were acquired.
            yield Access(session.state, locks)

    def is_running(self, session: SessionRow) -> bool:
        """Return whether a session's front runs, or may run.

        Args:
            session: the session.
        """
        if session.ended is not None:
            return False
        state = session.state
        lock = session_locks.session_lock(self.directory(session.id)) if state == "unknown" else "held"
        return not is_allowed("recover", state, locks=lock)

    # -- queries ---------------------------------------------------------------------------------------------

    def get(self, session_id: str) -> SessionRow:
        """Return a session.

        Args:
            session_id: the session.

        Raises:
            UnknownSession: no session has this id.
        """
        found = self._one("WHERE id = ?", session_id)
        if found is None:
            raise UnknownSession(session_id)
        return found

    def all(self) -> list[SessionRow]:
        """Return all sessions, newest first."""
        with self._database.using() as connection:
            rows = connection.execute(f"{_SELECT} ORDER BY started DESC, id DESC").fetchall()
        return [_session(row) for row in rows]

    def not_ended(self, connection: sqlite3.Connection) -> list[SessionRow]:
        """Return the sessions that were not ended: those that run, and those whose front was killed.

        Args:
            connection: the catalogue's connection, which this thread uses.
        """
        return [_session(row) for row in connection.execute(f"{_SELECT} WHERE ended IS NULL").fetchall()]

    def killed(self, session_id: str) -> SessionRow | None:
        """Return the previous session of the same kernel, if its front was killed before it could end the session.

        Args:
            session_id: the session that follows it.

        Raises:
            UnknownSession: no session has this id.
        """
        session = self.get(session_id)
        previous = self._one(
            "WHERE kernel = ? AND (started, id) < (?, ?) ORDER BY started DESC, id DESC LIMIT 1",
            session.kernel,
            session.started,
            session.id,
        )
        if previous is None or previous.ended is not None or self.is_running(previous):
            return None
        return previous

    def previous(self, session_id: str) -> SessionRow | None:
        """Return the latest earlier session of the same notebook that has a checkpoint.

        Where the notebook is not known, the session is one of the same kernel.

        Args:
            session_id: the session that follows it.

        Raises:
            UnknownSession: no session has this id.
        """
        session = self.get(session_id)
        column, value = ("notebook", session.notebook) if session.notebook else ("kernel", session.kernel)
        return self._one(
            f"WHERE {column} = ? AND (started, id) < (?, ?) AND checkpoints > 0 ORDER BY started DESC, id DESC LIMIT 1",
            value,
            session.started,
            session.id,
        )

    # -- data ------------------------------------------------------------------------------------------------

    def directory(self, session_id: str) -> Path:
        """Return the directory of a session's data. It need not exist.

        Args:
            session_id: the session.

        Raises:
            UnknownSession: the text has characters that no session id has.
        """
        if not session_id or set(session_id) - set(ids.DIGITS):
            raise UnknownSession(session_id)
        return self._directory / session_id

    def disk_use(self, session_id: str) -> int:
        """Return the size of a session's packs in bytes.

        Args:
            session_id: the session.
        """
        with SafeDirectory(self.directory(session_id) / mf.PACKS) as packs:
            return sum(packs.sizes(mf.PACK_SUFFIX).values())

    def _one(self, condition: str, *values: object) -> SessionRow | None:
        with self._database.using() as connection:
            row = connection.execute(f"{_SELECT} {condition}", values).fetchone()
        return None if row is None else _session(row)


def _session(row: sqlite3.Row) -> SessionRow:
    return SessionRow.model_validate(dict(row))
