"""The catalogue: which sessions and checkpoints there are, and which files they need.

A checkpoint counts from the moment its manifest is in ``incoming``. The catalogue takes it over, row first, file
second, so that a crash at any point leaves it in one of the two places, or in both, which does no harm. It goes in the
same order: rows first, packs second.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from capsule_durable import ids
from capsule_durable.checkpoints import rows, session_locks
from capsule_durable.checkpoints.models import (
    Collected,
    Entry,
    SessionRow,
    UnknownCheckpoint,
    UnknownSession,
    matches,
    resolve,
)
from capsule_durable.checkpoints.retention import Retention, dropped
from capsule_durable.checkpoints.schema import FORM
from capsule_durable.checkpoints.session_locks import SessionLocks
from capsule_durable.config.paths import SESSIONS, ensure
from capsule_durable.errors import ProtocolError
from capsule_durable.storage.errors import StoreDamaged, StoreError
from capsule_durable.storage.process_identity import ProcessIdentity, ProcessState, Purpose, is_allowed
from capsule_durable.storage.safe_directory import SafeDirectory, is_from, sync
from capsule_durable.storage.sqlite import Database
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol.manifest import Manifest

__all__ = ["Catalogue", "Collected", "Entry", "SessionRow", "UnknownCheckpoint", "UnknownSession"]

FILE_NAME = "catalogue.sqlite3"

#: What writers that have crashed leave behind.
_LEFT = (mf.DRAFT_SUFFIX, mf.DRAFT_SUFFIX + mf.DAMAGED_SUFFIX, mf.CLAIM_SUFFIX + mf.DAMAGED_SUFFIX)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Access:
    """What this process may do with a session, as long as it holds the locks that it acquired.

    Args:
        state: what is known of the session's front.
        locks: the session's locks.
    """

    state: ProcessState
    locks: SessionLocks

    def allows(self, purpose: Purpose) -> bool:
        """Return whether this process may use the session's data.

        Args:
            purpose: for what.
        """
        return is_allowed(purpose, self.state, locks=self.locks.both)

    @property
    def has_writers(self) -> bool:
        """Whether a writer of the session may be at work."""
        return self.locks.writers == "held"


class Catalogue:
    """All checkpoints of one home. Several threads may use one object, and several processes one home.

    There is one connection, and a lock around it. Every method may raise StoreError: the file is damaged, the disk
    full, read-only or failing, or another process has held the file for ten seconds.

    Args:
        home: the directory for data; it is made if there is none.
        clock: seconds since the epoch.

    Raises:
        StoreError: the catalogue cannot be opened, or was made by a newer version.
    """

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        self._sessions = home / SESSIONS
        #: The descriptors that hold the locks of sessions that began here, by session.
        self._held: dict[str, int] = {}
        self._clock = clock
        self._database = Database(home / FILE_NAME, FORM, "FULL")
        self._database.connection.row_factory = sqlite3.Row

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, and release the locks of sessions that began here. Closing twice does nothing."""
        try:
            self._database.close()
        finally:
            while self._held:
                os.close(self._held.popitem()[1])

    # -- sessions --------------------------------------------------------------------------------------------

    def begin_session(
        self, kernel: str, notebook: str | None, process: ProcessIdentity, session_id: str | None = None
    ) -> SessionRow:
        """Begin a session: give it an id and directories, and lock it until the catalogue is closed.

        Args:
            kernel: what identifies the kernel across its restarts.
            notebook: path of the notebook, if it is known.
            process: the front; while it lives the session is not deleted.
            session_id: its id; None for a new one.
        """
        started = self._clock()
        session_id = session_id or ids.new_session_id(started)
        # Locked before other processes can see it: one that finds the lock free may remove the session.
        with self._database.using():
            directory = ensure(ensure(self._sessions) / session_id)
            self._held[session_id] = session_locks.hold(directory)
            for part in (mf.PACKS, mf.INCOMING):
                ensure(directory / part)
            for path in (directory, self._sessions, self._sessions.parent):
                sync(path)
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO sessions (id, kernel, notebook, process, started) VALUES (?, ?, ?, ?, ?)",
                (session_id, kernel, notebook, str(process), started),
            )
        return self.session(session_id)

    @contextlib.contextmanager
    def access(self, session: SessionRow, patience: float = 0.0) -> Iterator[Access]:
        """Determine what this process may do with a session, and hold the session's locks in the block.

        Args:
            session: the session.
            patience: for how many seconds to wait for the writers of a front that has ended.
        """
        if session.state == "running":
            yield Access("running", SessionLocks())
            return
        is_own = session.id in self._held
        with session_locks.acquired(self.directory(session.id), own=is_own, patience=patience) as locks:
            # The state is read again: the process may have ended before the locks were acquired.
            yield Access(session.state, locks)

    def runs(self, session: SessionRow) -> bool:
        """Return whether a session's front runs, or may run.

        Args:
            session: the session.
        """
        if session.ended is not None:
            return False
        state = session.state
        lock = session_locks.session_lock(self.directory(session.id)) if state == "unknown" else "held"
        return not is_allowed("recover", state, locks=lock)

    def end_session(self, session_id: str) -> None:
        """Note that a session has ended. One that had ended before stays as it is.

        Raises:
            UnknownSession: there is none.
        """
        self.session(session_id)
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE sessions SET ended = ? WHERE id = ? AND ended IS NULL", (self._clock(), session_id)
            )

    def session(self, session_id: str) -> SessionRow:
        """Return a session.

        Raises:
            UnknownSession: there is none of this id.
        """
        with self._database.using() as connection:
            row = connection.execute(f"{rows.SESSIONS} WHERE id = ?", (session_id,)).fetchone()
        if row is None:
            raise UnknownSession(session_id)
        return rows.session_of(row)

    def sessions(self) -> list[SessionRow]:
        """Return all sessions, newest first."""
        with self._database.using() as connection:
            found = connection.execute(f"{rows.SESSIONS} ORDER BY started DESC, id DESC").fetchall()
        return [rows.session_of(row) for row in found]

    def killed_session(self, session_id: str) -> SessionRow | None:
        """Return the previous session of the same kernel, if its front was killed before it could end the session.

        Raises:
            UnknownSession: there is none of this id.
        """
        session = self.session(session_id)
        with self._database.using() as connection:
            row = connection.execute(
                f"{rows.SESSIONS} WHERE kernel = ? AND (started, id) < (?, ?) ORDER BY started DESC, id DESC LIMIT 1",
                (session.kernel, session.started, session.id),
            ).fetchone()
        before = None if row is None else rows.session_of(row)
        return before if before is not None and before.ended is None and not self.runs(before) else None

    def previous_session(self, session_id: str) -> SessionRow | None:
        """Return the latest earlier session that has a checkpoint and belongs to the same notebook.

        Where the notebook is not known, it is the same kernel that counts.

        Raises:
            UnknownSession: there is none of this id.
        """
        session = self.session(session_id)
        column, value = ("notebook", session.notebook) if session.notebook else ("kernel", session.kernel)
        with self._database.using() as connection:
            row = connection.execute(
                f"{rows.SESSIONS} WHERE {column} = ? AND (started, id) < (?, ?) AND checkpoints > 0 "
                "ORDER BY started DESC, id DESC LIMIT 1",
                (value, session.started, session.id),
            ).fetchone()
        return None if row is None else rows.session_of(row)

    def directory(self, session_id: str) -> Path:
        """Return the directory of a session's data. It need not exist.

        Raises:
            UnknownSession: it is no session's id, for it has characters that none has.
        """
        if not session_id or set(session_id) - set(ids.DIGITS):
            raise UnknownSession(session_id)
        return self._sessions / session_id

    def disk_use(self, session_id: str) -> int:
        """Return how many bytes a session's packs take."""
        with SafeDirectory(self.directory(session_id) / mf.PACKS) as packs:
            return sum(packs.sizes(mf.PACK_SUFFIX).values())

    # -- checkpoints -----------------------------------------------------------------------------------------

    def import_incoming(self, session_id: str) -> list[Manifest]:
        """List the checkpoints that were written since, and return those that are new, oldest first.

        The session's head moves to the newest of them. Manifests that cannot be read and drafts that nobody will finish
        are reported in the log, and set aside with the suffix ``.damaged``.

        Raises:
            UnknownSession: there is none.
        """
        self.session(session_id)
        adopted = []
        with SafeDirectory(self.directory(session_id) / mf.INCOMING) as incoming:
            for name in incoming.names(mf.MANIFEST_SUFFIX):
                try:
                    found = self._read(incoming, name, session_id)
                except ProtocolError as error:
                    self._set_aside(incoming, name, str(error))
                    continue
                if found is None:
                    continue
                data, manifest = found
                if self._add(incoming, name, data, manifest):
                    adopted.append(manifest)
                with self._database.using():
                    incoming.remove(name)
            drafts = incoming.names(mf.DRAFT_SUFFIX)
            newest = self.newest(session_id) if drafts else None
            for name in drafts:
                if newest is not None and is_from(name, newest.number):
                    self._set_aside(incoming, name, "its writer ended before it was complete")
        return adopted

    def finish(self, session_id: str) -> None:
        """Finish the checkpoints that a worker had handed to the system when it died, but not brought to the disk.

        Call it only where no machine has failed since, and when no writer of that worker is left.
        """
        directory = self.directory(session_id)
        with SafeDirectory(directory / mf.INCOMING) as incoming, SafeDirectory(directory / mf.PACKS) as packs:
            for name in incoming.names(mf.DRAFT_SUFFIX):
                try:
                    found = self._read(incoming, name, session_id)
                    for pack in found[1].packs if found is not None else ():
                        packs.sync(pack + mf.PACK_SUFFIX)
                    incoming.sync(name)
                except (ProtocolError, OSError) as error:
                    self._set_aside(incoming, name, f"its writer ended before it was complete: {error}")
                    continue
                incoming.rename(name, name.removesuffix(mf.DRAFT_SUFFIX) + mf.MANIFEST_SUFFIX)
            packs.sync()
            incoming.sync()

    def import_all(self) -> None:
        """List what any session wrote since, also where its kernel was killed before it could do so.

        Raises:
            StoreError: some could not be listed; all were tried.
        """
        failed: StoreError | None = None
        for session in self.sessions():
            if any((self.directory(session.id) / mf.INCOMING).glob(f"*{mf.MANIFEST_SUFFIX}")):
                try:
                    self.import_incoming(session.id)
                except StoreError as error:
                    failed = error
        if failed is not None:
            raise failed

    def checkpoints(self, query: str = "", session: str | None = None, limit: int | None = None) -> list[Entry]:
        """Return checkpoints, newest first.

        Args:
            query: words, all of which must occur in name, description, tags or id, in any case.
            session: id of the session whose checkpoints are wanted; None: all.
            limit: the most that are returned; None: all.
        """
        where, order = ("WHERE c.session = ?", "") if session else ("", "c.time DESC,")
        with self._database.using() as connection:
            found = connection.execute(
                f"{rows.ENTRIES} {where} ORDER BY {order} c.number DESC, c.time DESC", (session,) if session else ()
            ).fetchall()
        return [entry for entry in map(rows.entry_of, found) if matches(entry, query)][:limit]

    def find(self, reference: str, session: str | None = None) -> Entry:
        """Return the checkpoint that a person means: by name, number ("12", "#12"), id or the beginning of it.

        Args:
            reference: what the person wrote. A name stands for the newest checkpoint that has it.
            session: id of the session in which it was written: its checkpoints come first, and numbers are its.

        Raises:
            UnknownCheckpoint: there is none, or more than one; it names the closest.
        """
        return resolve(reference, self.checkpoints(), session)

    def manifest(self, checkpoint_id: str) -> Manifest:
        """Return what a checkpoint consists of, with the name, description and tags that it has now.

        Raises:
            UnknownCheckpoint: there is none of this id.
            StoreDamaged: its manifest is damaged.
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
                f"checkpoint {checkpoint_id} is damaged: {error}; forget it and use another one"
            ) from error
        annotations = {"name": row["name"], "description": row["description"], "tags": json.loads(row["tags"])}
        return manifest.model_copy(update=annotations)

    def head(self, session_id: str) -> Entry | None:
        """Return the checkpoint at which a session stands, or None."""
        return self._entry("c.id = (SELECT head FROM sessions WHERE id = ?)", session_id)

    def set_head(self, session_id: str, checkpoint_id: str) -> None:
        """Note at which checkpoint a session stands: one of its own, or another session's that it was resumed from.

        Raises:
            UnknownSession: there is no such session.
            UnknownCheckpoint: there is no such checkpoint.
        """
        self.session(session_id)
        with self._database.writing() as connection:
            if not connection.execute("SELECT 1 FROM checkpoints WHERE id = ?", (checkpoint_id,)).fetchone():
                raise _no_checkpoint(checkpoint_id)
            connection.execute("UPDATE sessions SET head = ? WHERE id = ?", (checkpoint_id, session_id))

    def newest(self, session_id: str) -> Entry | None:
        """Return the checkpoint of a session that was written last, or None."""
        return self._entry("c.session = ? ORDER BY c.number DESC, c.time DESC LIMIT 1", session_id)

    def annotate(
        self,
        checkpoint_id: str,
        name: str | None = None,
        description: str | None = None,
        tags: Iterable[str] | None = None,
    ) -> None:
        """Change what people wrote about a checkpoint. Others may have the same name; it stands for the newest.

        Args:
            checkpoint_id: its id.
            name: its name; "": it has none, and so is not kept for its sake; None: as it was.
            description: None: as it was.
            tags: all of its tags; None: as they were.

        Raises:
            UnknownCheckpoint: there is none of this id.
        """
        values = {
            "id": checkpoint_id,
            "name": name,
            "description": description,
            "tags": None if tags is None else json.dumps(list(tags)),
        }
        with self._database.writing() as connection:
            found = connection.execute(rows.ANNOTATE, values).rowcount
        if not found:
            raise _no_checkpoint(checkpoint_id)

    # -- what goes -------------------------------------------------------------------------------------------

    def in_use(self) -> set[str]:
        """Return the ids of the checkpoints that cannot be forgotten: head and newest of each session that runs."""
        with self._database.using() as connection:
            return self._in_use(connection)

    def forget(self, checkpoint_ids: Iterable[str]) -> int:
        """Drop checkpoints, named ones too, and return how many. Their files go with the next ``collect``.

        Head and newest of a session that runs stay: its next checkpoint is built on them.
        """
        with self._database.writing() as connection:
            forgotten = rows.drop(connection, set(checkpoint_ids) - self._in_use(connection))
            connection.execute(rows.MEND_HEADS)
        return forgotten

    def collect(self, session_id: str, policy: Retention, now: float, writing: bool, known: int = 0) -> Collected:
        """Drop what the policy does not keep, and remove the files that nothing needs any more.

        The head, the newest and named checkpoints are kept, and so is whatever a kept one needs.

        Args:
            session_id: the session; numbers of its checkpoints never fall.
            policy: what is kept.
            now: seconds since the epoch.
            writing: whether a writer may be at work: then what is newer than the newest checkpoint in the catalogue is
                left alone. Otherwise what writers that crashed left behind is removed.
            known: number of a checkpoint that was complete, though it need not be there any more: no writer is at
                work on what is no newer.

        Raises:
            UnknownSession: there is none.
        """
        self.session(session_id)
        directory = self.directory(session_id)
        with SafeDirectory(directory / mf.INCOMING) as incoming, SafeDirectory(directory / mf.PACKS) as packs:
            # While the transaction lasts no manifest moves into the catalogue, so each is seen there or in `incoming`.
            with self._database.writing() as connection:
                candidates = rows.candidates_of(connection.execute(rows.CANDIDATES, (session_id,)).fetchall())
                found = {name.removesuffix(mf.PACK_SUFFIX): size for name, size in packs.sizes(mf.PACK_SUFFIX).items()}
                needed = self._needed_by_incoming(incoming, session_id)
                gone = dropped(candidates, policy, now, found)
                needed.update(*(one.packs for one in candidates if one.id not in gone))
                rows.drop(connection, gone)
            surplus = {pack: size for pack, size in found.items() if pack not in needed}
            if writing:
                newest = max((one.number for one in candidates), default=0)
                surplus = {pack: size for pack, size in surplus.items() if is_from(pack, max(newest, known))}
            freed = sum(surplus.values())
            kept = sum(found.values()) - freed
            with self._database.using():
                for pack in surplus:
                    packs.remove(pack + mf.PACK_SUFFIX)
                if not writing:
                    left = incoming.sizes(*_LEFT)
                    freed += sum(left.values())
                    for name in left:
                        incoming.remove(name)
        return Collected(dropped=gone, freed=freed, kept=kept)

    def forget_sessions(self, policy: Retention, now: float) -> list[str]:
        """Remove sessions that nobody needs, with all their data, and return their ids.

        Their fronts and writers have ended; nothing happened in them within the policy's age; none of their
        checkpoints has a name, and no other session stands at one.

        Args:
            policy: only its age matters; None keeps all.
            now: seconds since the epoch.
        """
        if policy.age is None:
            return []
        oldest = now - policy.age
        removed = []
        for session in self.sessions():
            if max(session.started, session.ended or 0.0) >= oldest:
                continue
            with self.access(session) as access:
                if not access.allows("collect") or access.has_writers:
                    continue
                # What its last writer left counts, too: it may be new, or have a name.
                self.import_incoming(session.id)
                if self._drop_session(session, oldest):
                    removed.append(session.id)
        return removed

    def _drop_session(self, session: SessionRow, oldest: float) -> bool:
        with self._database.writing() as connection:
            use = connection.execute(rows.LAST_USE, {"session": session.id}).fetchone()
            if use["needed"] or (use["latest"] or 0.0) >= oldest:
                return False
            connection.execute("DELETE FROM checkpoints WHERE session = ?", (session.id,))
            connection.execute("UPDATE sessions SET head = NULL WHERE id = ?", (session.id,))
        # The session goes last: after a crash in between the rest is removed the next time.
        with self._database.using(), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.directory(session.id))
        with self._database.writing() as connection:
            connection.execute("DELETE FROM sessions WHERE id = ?", (session.id,))
        return True

    # -- parts -----------------------------------------------------------------------------------------------

    def _in_use(self, connection: sqlite3.Connection) -> set[str]:
        needed = set()
        for row in connection.execute(f"{rows.SESSIONS} WHERE ended IS NULL").fetchall():
            session = rows.session_of(row)
            if self.runs(session):
                (newest,) = connection.execute(rows.NEWEST_OF, (session.id,)).fetchone()
                needed |= {session.head, newest}
        return needed - {None}

    def _entry(self, condition: str, session_id: str) -> Entry | None:
        with self._database.using() as connection:
            row = connection.execute(f"{rows.ENTRIES} WHERE {condition}", (session_id,)).fetchone()
        return None if row is None else rows.entry_of(row)

    def _read(self, incoming: SafeDirectory, name: str, session_id: str) -> tuple[bytes, Manifest] | None:
        """Return a manifest's bytes and content; None: another process has taken it.

        Raises:
            ProtocolError: it is no manifest of this session.
        """
        with self._database.using():
            try:
                with incoming.open(name) as file:
                    data = file.read(mf.MAX_MANIFEST + 1)
            except FileNotFoundError:
                return None
        manifest = mf.load(data)
        if manifest.session != session_id:
            raise ProtocolError(f"it belongs to session {manifest.session!r}")
        return data, manifest

    def _add(self, incoming: SafeDirectory, name: str, data: bytes, manifest: Manifest) -> bool:
        """Make a row of a manifest, and the checkpoint its session's head; return whether it was not there."""
        with self._database.writing() as connection:
            # Without its file it was taken by another process, and may have been dropped since.
            if not incoming.has(name):
                return False
            added = connection.execute(rows.ADD, rows.values(manifest, data)).rowcount == 1
            if added:
                connection.execute(rows.MOVE_HEAD, (manifest.session,))
        return added

    def _needed_by_incoming(self, incoming: SafeDirectory, session_id: str) -> set[str]:
        """Return the packs that checkpoints need which are whole, or nearly so, but not in the catalogue yet."""
        needed: set[str] = set()
        for name in incoming.names(mf.MANIFEST_SUFFIX, mf.DRAFT_SUFFIX):
            try:
                found = self._read(incoming, name, session_id)
            except ProtocolError:
                continue
            if found is not None:
                needed |= found[1].packs
        for name in incoming.names(mf.CLAIM_SUFFIX):
            needed |= _claimed(incoming, name)
        return needed

    def _set_aside(self, incoming: SafeDirectory, name: str, why: str) -> None:
        logger.warning("%s is of no use: %s", incoming.path / name, why)
        with self._database.using():
            try:
                incoming.rename(name, name + mf.DAMAGED_SUFFIX)
            except FileNotFoundError:
                logger.debug("%s was gone already", incoming.path / name)


def _claimed(incoming: SafeDirectory, name: str) -> set[str]:
    """Return the packs that a writer needs, if it lives: it holds a lock on its claim."""
    try:
        with incoming.open(name) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return set(file.read(mf.MAX_MANIFEST).decode("utf-8", "replace").split())
            incoming.remove(name)
    except FileNotFoundError:
        pass
    return set()


def _no_checkpoint(checkpoint_id: str) -> UnknownCheckpoint:
    return UnknownCheckpoint(checkpoint_id, f"there is no checkpoint with the id {checkpoint_id!r}")
