"""Import checkpoints: move manifests from a session's ``incoming`` directory into the catalogue.

A checkpoint counts from the moment its manifest is in ``incoming``. The import adds the row first and removes the file
second. A crash at any point leaves the checkpoint in one of the two places, or in both, which does no harm.
"""

from __future__ import annotations

import fcntl
import json
import logging
from typing import Any

from capsule_durable.checkpoints.schema import NEWEST
from capsule_durable.checkpoints.session_index import SessionIndex
from capsule_durable.errors import ProtocolError
from capsule_durable.storage.errors import StoreError
from capsule_durable.storage.safe_directory import SafeDirectory
from capsule_durable.storage.sqlite import Database
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol.manifest import Manifest

logger = logging.getLogger(__name__)

_ADD = """
    INSERT INTO checkpoints (
        id, session, number, parent, time, execution_count, name, description, tags, size, bytes_written, duration,
        variables, unsaved, code, packs, manifest
    ) VALUES (
        :id, :session, :number, :parent, :time, :execution_count, :name, :description, :tags, :size, :bytes_written,
        :duration, :variables, :unsaved, :code, :packs, :manifest
    ) ON CONFLICT (id) DO NOTHING
"""
_MOVE_HEAD = f"UPDATE sessions SET head = {NEWEST} WHERE id = ?"  # noqa: S608  # a constant
_NEWEST_NUMBER = "SELECT max(number) FROM checkpoints WHERE session = ?"


class Incoming:
    """The checkpoints that workers have written and the catalogue does not list yet. It is a part of ``Catalogue``.

    Args:
        database: the catalogue's database.
        sessions: the catalogue's sessions.
    """

    def __init__(self, database: Database, sessions: SessionIndex) -> None:
        self._database = database
        self._sessions = sessions

    def import_session(self, session_id: str) -> list[Manifest]:
        """Import the new checkpoints of a session, and return them, oldest first.

        The session's head moves to the newest of them. Manifests that cannot be read, and drafts that no process will
        finish, are logged and set aside with the suffix ``.damaged``.

        Args:
            session_id: the session.

        Raises:
            UnknownSession: no session has this id.
            StoreError: a file cannot be read or removed, or the catalogue cannot be written.
        """
        self._sessions.get(session_id)
        imported = []
        with SafeDirectory(self._sessions.directory(session_id) / mf.INCOMING) as incoming:
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
                    imported.append(manifest)
                with self._database.using():
                    incoming.remove(name)
            drafts = incoming.names(mf.DRAFT_SUFFIX)
            newest = self._newest_number(session_id) if drafts else None
            for name in drafts:
                if newest is not None and is_up_to(name, newest):
                    self._set_aside(incoming, name, "its writer ended before it was complete")
        return imported

    def import_all(self) -> None:
        """Import the new checkpoints of all sessions, also of those whose kernel was killed before it could do so.

        Raises:
            StoreError: some could not be imported; all were tried.
        """
        failed: StoreError | None = None
        for session in self._sessions.all():
            incoming = self._sessions.directory(session.id) / mf.INCOMING
            if any(incoming.glob(f"*{mf.MANIFEST_SUFFIX}")):
                try:
                    self.import_session(session.id)
                except StoreError as error:
                    failed = error
        if failed is not None:
            raise failed

    def finish(self, session_id: str) -> None:
        """Finish the checkpoints that a worker had written when it died, but not synchronized to disk.

        Call it only if the machine has not crashed since, and if no writer of that worker is left.

        Args:
            session_id: the session.

        Raises:
            OSError: a directory cannot be synchronized, or a file cannot be renamed.
        """
        directory = self._sessions.directory(session_id)
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

    def needed_packs(self, incoming: SafeDirectory, session_id: str) -> set[str]:
        """Return the packs that are needed by checkpoints which are complete, or nearly so, but not in the catalogue.

        Args:
            incoming: the session's directory of that name.
            session_id: the session.
        """
        needed: set[str] = set()
        for name in incoming.names(mf.MANIFEST_SUFFIX, mf.DRAFT_SUFFIX):
            try:
                found = self._read(incoming, name, session_id)
            except ProtocolError:
                continue
            if found is not None:
                needed |= found[1].packs
        for name in incoming.names(mf.CLAIM_SUFFIX):
            needed |= _leased_packs(incoming, name)
        return needed

    def _newest_number(self, session_id: str) -> int | None:
        with self._database.using() as connection:
            number: int | None = connection.execute(_NEWEST_NUMBER, (session_id,)).fetchone()[0]
        return number

    def _read(self, incoming: SafeDirectory, name: str, session_id: str) -> tuple[bytes, Manifest] | None:
        """Return a manifest's bytes and content; None if another process has taken the file.

        Raises:
            ProtocolError: the file is not a manifest of this session.
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
        """Add the row of a manifest, and make the checkpoint its session's head; return whether the row is new."""
        with self._database.writing() as connection:
            # If the file is gone, another process has imported the checkpoint, which may have been dropped since.
            if not incoming.has(name):
                return False
            is_new = connection.execute(_ADD, _row(manifest, data)).rowcount == 1
            if is_new:
                connection.execute(_MOVE_HEAD, (manifest.session,))
        return is_new

    def _set_aside(self, incoming: SafeDirectory, name: str, why: str) -> None:
        logger.warning("cannot use %s: %s", incoming.path / name, why)
        with self._database.using():
            try:
                incoming.rename(name, name + mf.DAMAGED_SUFFIX)
            except FileNotFoundError:
                logger.debug("%s was removed already", incoming.path / name)


def is_up_to(name: str, number: int) -> bool:
    """Return whether a file belongs to a checkpoint with this number or a smaller one.

    Args:
        name: name of the file, which begins with the number of its checkpoint.
        number: the number.
    """
    digits = name.partition("-")[0]
    return digits.isascii() and digits.isdigit() and int(digits) <= number


def _row(manifest: Manifest, data: bytes) -> dict[str, Any]:
    """Return the parameters of ``_ADD``.

    Args:
        manifest: the checkpoint.
        data: the same, as it was written.
    """
    return {
        "id": manifest.id,
        "session": manifest.session,
        "number": manifest.number,
        "parent": manifest.parent,
        "time": manifest.time,
        "execution_count": manifest.execution_count,
        "name": manifest.name or None,
        "description": manifest.description,
        "tags": json.dumps(manifest.tags),
        "size": manifest.size,
        "bytes_written": manifest.bytes_written,
        "duration": manifest.duration,
        "variables": len(manifest.variables),
        "unsaved": sum(variable.reason is not None for variable in manifest.variables),
        "code": manifest.code,
        "packs": json.dumps(sorted(manifest.packs)),
        "manifest": data,
    }


def _leased_packs(incoming: SafeDirectory, name: str) -> set[str]:
    """Return the packs that a writer needs if it runs: it holds a lock on its claim. Remove the claim otherwise."""
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
