"""The catalogue's statements, and what becomes of their rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from capsule_durable.checkpoints.models import Entry, SessionRow
from capsule_durable.checkpoints.retention import Candidate
from capsule_worker.protocol.manifest import Manifest

SESSIONS = """
    SELECT id, kernel, notebook, process, started, ended, head,
        (SELECT count(*) FROM checkpoints AS c WHERE c.session = sessions.id) AS checkpoints
    FROM sessions
"""
ENTRIES = """
    SELECT c.id, c.session, c.number, c.parent, c.time, c.execution_count, c.code, c.name, c.description, c.tags,
        c.size, c.bytes_written, c.duration, c.variables, c.unsaved, s.notebook,
        c.id IN (SELECT head FROM sessions WHERE head IS NOT NULL) AS head
    FROM checkpoints AS c JOIN sessions AS s ON s.id = c.session
"""
#: The newest checkpoint of the session in whose row it stands.
NEWEST = "(SELECT c.id FROM checkpoints AS c WHERE c.session = sessions.id ORDER BY c.number DESC, c.time DESC LIMIT 1)"
#: The newest checkpoint of a session.
NEWEST_OF = f"SELECT {NEWEST} AS newest FROM sessions WHERE id = ?"  # noqa: S608  # a constant
#: Brings heads that are gone back to the newest checkpoint.
MEND_HEADS = f"""
    UPDATE sessions SET head = {NEWEST} WHERE head IS NOT NULL AND head NOT IN (SELECT id FROM checkpoints)
"""  # noqa: S608  # a constant
MOVE_HEAD = f"UPDATE sessions SET head = {NEWEST} WHERE id = ?"  # noqa: S608  # a constant
ADD = """
    INSERT INTO checkpoints (
        id, session, number, parent, time, execution_count, name, description, tags, size, bytes_written, duration,
        variables, unsaved, code, packs, manifest
    ) VALUES (
        :id, :session, :number, :parent, :time, :execution_count, :name, :description, :tags, :size, :bytes_written,
        :duration, :variables, :unsaved, :code, :packs, :manifest
    ) ON CONFLICT (id) DO NOTHING
"""
ANNOTATE = """
    UPDATE checkpoints SET name = nullif(coalesce(:name, name), ''), description = coalesce(:description, description),
        tags = coalesce(:tags, tags)
    WHERE id = :id
"""
#: When a session's latest checkpoint was taken, and how many have a name or another session's head at them.
LAST_USE = """
    SELECT max(time) AS latest, count(name) + count(
        CASE WHEN id IN (SELECT head FROM sessions WHERE id != :session AND head IS NOT NULL) THEN 1 END
    ) AS needed
    FROM checkpoints WHERE session = :session
"""
CANDIDATES = """
    SELECT id, number, time, name, packs, id IN (SELECT head FROM sessions WHERE head IS NOT NULL) AS head
    FROM checkpoints WHERE session = ? ORDER BY number
"""


def values(manifest: Manifest, data: bytes) -> dict[str, Any]:
    """Return what ``ADD`` needs.

    Args:
        manifest: the checkpoint.
        data: the same, as it came.
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


def session_of(row: sqlite3.Row) -> SessionRow:
    """Return a row of ``SESSIONS``."""
    return SessionRow.model_validate(dict(row))


def entry_of(row: sqlite3.Row) -> Entry:
    """Return a row of ``ENTRIES``."""
    return Entry.model_validate({**dict(row), "tags": json.loads(row["tags"])})


def candidates_of(found: list[sqlite3.Row]) -> list[Candidate]:
    """Return the rows of ``CANDIDATES``."""
    newest = max((row["number"] for row in found), default=0)
    return [
        Candidate(
            id=row["id"],
            number=row["number"],
            time=row["time"],
            packs=frozenset(json.loads(row["packs"])),
            named=row["name"] is not None,
            current=bool(row["head"]) or row["number"] == newest,
        )
        for row in found
    ]


def drop(connection: sqlite3.Connection, checkpoint_ids: Iterable[str]) -> int:
    """Delete checkpoints, and return how many there were."""
    return connection.executemany(
        "DELETE FROM checkpoints WHERE id = ?", [(checkpoint_id,) for checkpoint_id in checkpoint_ids]
    ).rowcount
