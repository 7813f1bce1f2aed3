"""Remove checkpoints, sessions, and the files that nothing needs any more. Rows are removed first, files second."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterable

from capsule_durable.checkpoints.incoming import Incoming, is_up_to
from capsule_durable.checkpoints.models import Collected, SessionRow
from capsule_durable.checkpoints.retention import Candidate, Retention, dropped
from capsule_durable.checkpoints.schema import NEWEST
from capsule_durable.checkpoints.session_index import SessionIndex
from capsule_durable.storage.safe_directory import SafeDirectory
from capsule_durable.storage.sqlite import Database
from capsule_worker.protocol import manifest as mf

#: The suffixes of files that writers leave behind when they crash.
_LEFT_BEHIND = (mf.DRAFT_SUFFIX, mf.DRAFT_SUFFIX + mf.DAMAGED_SUFFIX, mf.CLAIM_SUFFIX + mf.DAMAGED_SUFFIX)

_NEWEST_OF = f"SELECT {NEWEST} FROM sessions WHERE id = ?"  # noqa: S608  # a constant
#: Moves heads whose checkpoint was removed to the newest checkpoint.
_FIX_HEADS = f"""
    UPDATE sessions SET head = {NEWEST} WHERE head IS NOT NULL AND head NOT IN (SELECT id FROM checkpoints)
"""  # noqa: S608  # a constant
_CANDIDATES = """
    SELECT id, number, time, name, packs, id IN (SELECT head FROM sessions WHERE head IS NOT NULL) AS head
    FROM checkpoints WHERE session = ? ORDER BY number
"""
#: The time of a session's latest checkpoint; how many of its checkpoints have a name or are another session's head.
_LAST_USE = """
    SELECT max(time) AS latest, count(name) + count(
        CASE WHEN id IN (SELECT head FROM sessions WHERE id != :session AND head IS NOT NULL) THEN 1 END
    ) AS needed
    FROM checkpoints WHERE session = :session
"""


class Garbage:
    """Removes data that is expired, deleted or left behind. It is a part of ``Catalogue``.

    Args:
        database: the catalogue's database.
        sessions: the catalogue's sessions.
        incoming: the checkpoints that the catalogue does not list yet.
    """

    def __init__(self, database: Database, sessions: SessionIndex, incoming: Incoming) -> None:
        self._database = database
        self._sessions = sessions
        self._incoming = incoming

    def in_use(self) -> set[str]:
        """Return the ids of checkpoints that cannot be deleted: head and newest of each session that runs."""
        with self._database.using() as connection:
            return self._in_use(connection)

    def delete(self, checkpoint_ids: Iterable[str]) -> int:
        """Delete checkpoints, named ones too, and return how many. The next ``collect`` removes their files.

        Head and newest of a session that runs stay: its next checkpoint is built on them.

        Args:
            checkpoint_ids: the checkpoints.
        """
        with self._database.writing() as connection:
            count = _delete(connection, set(checkpoint_ids) - self._in_use(connection))
            connection.execute(_FIX_HEADS)
        return count

    def collect(
        self, session_id: str, policy: Retention, now: float, *, has_writers: bool, newest_complete: int = 0
    ) -> Collected:
        """Drop the checkpoints that a policy does not keep, and remove the files that nothing needs any more.

        The head, the newest and named checkpoints are kept, and so is everything that a kept one needs.

        Args:
            session_id: the session. The numbers of its checkpoints only grow.
            policy: what is kept.
            now: seconds since the epoch.
            has_writers: whether a writer may be running. If so, files newer than the newest checkpoint in the catalogue
                are left alone. Otherwise the files that crashed writers left behind are removed.
            newest_complete: number of a checkpoint that was complete, even if it was removed since. No writer works on
                this one or an older one.

        Raises:
            UnknownSession: no session has this id.
        """
        self._sessions.get(session_id)
        directory = self._sessions.directory(session_id)
        with SafeDirectory(directory / mf.INCOMING) as incoming, SafeDirectory(directory / mf.PACKS) as packs:
            # During the transaction no manifest moves into the catalogue, so each is seen there or in `incoming`.
            with self._database.writing() as connection:
                candidates = _candidates(connection, session_id)
                found = {name.removesuffix(mf.PACK_SUFFIX): size for name, size in packs.sizes(mf.PACK_SUFFIX).items()}
                needed = self._incoming.needed_packs(incoming, session_id)
                gone = dropped(candidates, policy, now, found)
                needed.update(*(one.packs for one in candidates if one.id not in gone))
                _delete(connection, gone)
            surplus = {pack: size for pack, size in found.items() if pack not in needed}
            if has_writers:
                newest = max((one.number for one in candidates), default=0)
                surplus = {pack: size for pack, size in surplus.items() if is_up_to(pack, max(newest, newest_complete))}
            freed = sum(surplus.values())
            kept = sum(found.values()) - freed
            with self._database.using():
                for pack in surplus:
                    packs.remove(pack + mf.PACK_SUFFIX)
                if not has_writers:
                    left = incoming.sizes(*_LEFT_BEHIND)
                    freed += sum(left.values())
                    for name in left:
                        incoming.remove(name)
        return Collected(dropped=gone, freed=freed, kept=kept)

    def remove_sessions(self, policy: Retention, now: float) -> list[str]:
        """Remove expired sessions with all their data, and return their ids.

        A session is expired if its front and its writers have ended, nothing happened in it within the policy's age,
        none of its checkpoints has a name, and none is the head of another session.

        Args:
            policy: only its age matters; None keeps all.
            now: seconds since the epoch.
        """
        if policy.age is None:
            return []
        oldest = now - policy.age
        removed = []
        for session in self._sessions.all():
            if max(session.started, session.ended or 0.0) >= oldest:
                continue
            with self._sessions.access(session) as access:
                if not access.allows("collect") or access.has_writers:
                    continue
                # The last checkpoints of its writers count, too: they may be new, or have a name.
                self._incoming.import_session(session.id)
                if self._remove_session(session, oldest):
                    removed.append(session.id)
        return removed

    def _remove_session(self, session: SessionRow, oldest: float) -> bool:
        with self._database.writing() as connection:
            use = connection.execute(_LAST_USE, {"session": session.id}).fetchone()
            if use["needed"] or (use["latest"] or 0.0) >= oldest:
                return False
            connection.execute("DELETE FROM checkpoints WHERE session = ?", (session.id,))
            connection.execute("UPDATE sessions SET head = NULL WHERE id = ?", (session.id,))
        # The session's row is removed last: after a crash in between, the next call removes the rest.
        with self._database.using(), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._sessions.directory(session.id))
        with self._database.writing() as connection:
            connection.execute("DELETE FROM sessions WHERE id = ?", (session.id,))
        return True

    def _in_use(self, connection: sqlite3.Connection) -> set[str]:
        needed = set()
        for session in self._sessions.not_ended(connection):
            if self._sessions.is_running(session):
                (newest,) = connection.execute(_NEWEST_OF, (session.id,)).fetchone()
                needed |= {session.head, newest}
        return needed - {None}


def _candidates(connection: sqlite3.Connection, session_id: str) -> list[Candidate]:
    rows = connection.execute(_CANDIDATES, (session_id,)).fetchall()
    newest = max((row["number"] for row in rows), default=0)
    return [
        Candidate(
            id=row["id"],
            number=row["number"],
            time=row["time"],
            packs=frozenset(json.loads(row["packs"])),
            is_named=row["name"] is not None,
            is_current=bool(row["head"]) or row["number"] == newest,
        )
        for row in rows
    ]


def _delete(connection: sqlite3.Connection, checkpoint_ids: Iterable[str]) -> int:
    """Delete the rows of checkpoints, and return how many existed."""
    return connection.executemany(
        "DELETE FROM checkpoints WHERE id = ?", [(checkpoint_id,) for checkpoint_id in checkpoint_ids]
    ).rowcount
