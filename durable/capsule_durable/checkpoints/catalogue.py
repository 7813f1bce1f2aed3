"""The catalogue: which sessions and checkpoints exist. Its parts import, index and remove them.

``sessions`` is the index of sessions, ``incoming`` imports what workers wrote, and ``garbage`` removes what has
expired. The catalogue itself finds checkpoints and changes their names and the sessions' heads.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from capsule_durable.checkpoints.garbage import Garbage
from capsule_durable.checkpoints.incoming import Incoming
from capsule_durable.checkpoints.models import Entry, UnknownCheckpoint, matches, resolve
from capsule_durable.checkpoints.schema import SCHEMA
from capsule_durable.checkpoints.session_index import SessionIndex
from capsule_durable.config.paths import SESSIONS
from capsule_durable.errors import ProtocolError
from capsule_durable.storage.errors import StoreDamaged
from capsule_durable.storage.sqlite import Database
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol.manifest import Manifest

FILE_NAME = "checkpoints.sqlite3"

_SELECT = """
    SELECT c.id, c.session, c.number, c.parent, c.time, c.execution_count, c.code, c.name, c.description, c.tags,
        c.size, c.bytes_written, c.duration, c.variables, c.unsaved, s.notebook,
        c.id IN (SELECT head FROM sessions WHERE head IS NOT NULL) AS head
    FROM checkpoints AS c JOIN sessions AS s ON s.id = c.session
"""
_ANNOTATE = """
    UPDATE checkpoints SET name = nullif(coalesce(:name, name), ''), description = coalesce(:description, description),
        tags = coalesce(:tags, tags)
    WHERE id = :id
"""


class Catalogue:
    """All checkpoints of one home. Several threads may use one object, and several processes one home.

    It has one connection, and a lock around it. Every method, and every method of its parts, may raise StoreError: the
    file is damaged, the disk is full, read-only or failing, or another process has held the file for ten seconds.

    Args:
        home: the directory for data. It is created if it does not exist.
        clock: returns seconds since the epoch.

    Raises:
        StoreError: the catalogue cannot be opened, or was made by a newer version.
    """

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(home / FILE_NAME, SCHEMA, "FULL")
        self._database.connection.row_factory = sqlite3.Row
        self.sessions = SessionIndex(self._database, home / SESSIONS, clock)
        self.incoming = Incoming(self._database, self.sessions)
        self.garbage = Garbage(self._database, self.sessions, self.incoming)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, and release the locks of sessions that began here. Idempotent."""
        try:
            self._database.close()
        finally:
            self.sessions.release_locks()

    # -- queries ---------------------------------------------------------------------------------------------

    def checkpoints(self, query: str = "", session: str | None = None, limit: int | None = None) -> list[Entry]:
        """Return checkpoints, newest first.

        Args:
            query: words, all of which must occur in name, description, tags or id, in any case.
            session: id of the session whose checkpoints are returned; None for all sessions.
            limit: the most that are returned; None for all.
        """
        where, order = ("WHERE c.session = ?", "") if session else ("", "c.time DESC,")
        with self._database.using() as connection:
            rows = connection.execute(
                f"{_SELECT} {where} ORDER BY {order} c.number DESC, c.time DESC", (session,) if session else ()
            ).fetchall()
        return [entry for entry in map(_entry, rows) if matches(entry, query)][:limit]

    def find(self, reference: str, session: str | None = None) -> Entry:
        """Return the checkpoint that a reference stands for: a name, a number ("12", "#12"), an id or its beginning.

        Args:
            reference: what the user wrote. A name stands for the newest checkpoint that has it.
            session: id of the session in which the reference was written. Its checkpoints come first, and numbers are
                numbers of its checkpoints.

        Raises:
            UnknownCheckpoint: the reference stands for none, or for several; the message names the closest.
        """
        return resolve(reference, self.checkpoints(), session)

    def manifest(self, checkpoint_id: str) -> Manifest:
        """Return the manifest of a checkpoint, with the name, description and tags that the checkpoint has now.

        Args:
            checkpoint_id: the checkpoint.

        Raises:
            UnknownCheckpoint: no checkpoint has this id.
            StoreDamaged: the manifest is damaged.
        """
        with self._database.using() as connection:
            row = connection.execute(
                "SELECT name, description, tags, manifest FROM checkpoints WHERE id = ?", (checkpoint_id,)
            ).fetchone()
        if row is None:
            raise _no_checkpoint(checkpoint_id)
        try:
            manifest = mf.load(row["manifest"])
        except ProtocolError as error:
            raise StoreDamaged(
                f"checkpoint {checkpoint_id} is damaged: {error}; delete it and use another one"
            ) from error
        annotations = {"name": row["name"], "description": row["description"], "tags": json.loads(row["tags"])}
        return manifest.model_copy(update=annotations)

    def head(self, session_id: str) -> Entry | None:
        """Return the current checkpoint of a session, or None.

        Args:
            session_id: the session.
        """
        return self._one("c.id = (SELECT head FROM sessions WHERE id = ?)", session_id)

    def newest(self, session_id: str) -> Entry | None:
        """Return the checkpoint of a session that was written last, or None.

        Args:
            session_id: the session.
        """
        return self._one("c.session = ? ORDER BY c.number DESC, c.time DESC LIMIT 1", session_id)

    # -- changes ---------------------------------------------------------------------------------------------

    def set_head(self, session_id: str, checkpoint_id: str) -> None:
        """Record the current checkpoint of a session: one of its own, or one of a session that it resumes.

        Args:
            session_id: the session.
            checkpoint_id: the checkpoint.

        Raises:
            UnknownSession: no session has this id.
            UnknownCheckpoint: no checkpoint has this id.
        """
        self.sessions.get(session_id)
        with self._database.writing() as connection:
            if not connection.execute("SELECT 1 FROM checkpoints WHERE id = ?", (checkpoint_id,)).fetchone():
                raise _no_checkpoint(checkpoint_id)
            connection.execute("UPDATE sessions SET head = ? WHERE id = ?", (checkpoint_id, session_id))

    def annotate(
        self,
        checkpoint_id: str,
        name: str | None = None,
        description: str | None = None,
        tags: Iterable[str] | None = None,
    ) -> None:
        """Change the name, the description or the tags of a checkpoint. Several checkpoints may have the same name.

        Args:
            checkpoint_id: the checkpoint.
            name: the name; "" removes it, so that the checkpoint can expire; None leaves it.
            description: None leaves it.
            tags: all tags; None leaves them.

        Raises:
            UnknownCheckpoint: no checkpoint has this id.
        """
        values = {
            "id": checkpoint_id,
            "name": name,
            "description": description,
            "tags": None if tags is None else json.dumps(list(tags)),
        }
        with self._database.writing() as connection:
            count = connection.execute(_ANNOTATE, values).rowcount
        if not count:
            raise _no_checkpoint(checkpoint_id)

    def _one(self, condition: str, session_id: str) -> Entry | None:
        with self._database.using() as connection:
            row = connection.execute(f"{_SELECT} WHERE {condition}", (session_id,)).fetchone()
        return None if row is None else _entry(row)


def _entry(row: sqlite3.Row) -> Entry:
    return Entry.model_validate({**dict(row), "tags": json.loads(row["tags"])})


def _no_checkpoint(checkpoint_id: str) -> UnknownCheckpoint:
    return UnknownCheckpoint(checkpoint_id, f"there is no checkpoint with the id {checkpoint_id!r}")
