"""The rows of runs: which process executes a run, with which options, and how far it has come.

A *run* is a notebook that is executed from its beginning under an id, so that the next process with the same id can
continue it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from capsule_durable.errors import CapsuleError
from capsule_durable.storage.process_identity import ProcessIdentity, is_allowed, state_of
from capsule_durable.storage.sqlite import Database

#: Seconds after which a process that has not ended loses a run whose lease it does not renew.
LEASE = 60.0


class RunTaken(CapsuleError):
    """Another process executes the run."""


@dataclass(frozen=True)
class RunRecord:
    """A run.

    Args:
        id: its id.
        owner: the identity of the process that executes it, as text; None if none does.
        owner_seen_at: when that process renewed its lease last, in seconds since the epoch.
        started_at: when the run began, in seconds since the epoch.
        executions: how many executions it has begun.
        options: what it was started with.
    """

    id: str
    owner: str | None
    owner_seen_at: float | None
    started_at: float
    executions: int
    options: dict[str, Any]


@dataclass(frozen=True)
class RunCell:
    """A cell of a run.

    Args:
        number: its position among the cells that the run has executed, from 1.
        source: the digest of its source.
        execution_id: the latest attempt to execute it.
        turn: which of the run's executions that is, from 1.
        checkpoint: the state after it; None until it has succeeded.
    """

    number: int
    source: bytes
    execution_id: str
    turn: int
    checkpoint: str | None


class RunStore:
    """The runs of a user. One thread uses it at a time.

    Args:
        database: the history.

    All methods raise StoreError if the file cannot be used.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def lock(self, run: str, owner: str, options: Mapping[str, Any] | None = None) -> None:
        """Acquire the lease of a run; begin the run if it does not exist.

        Args:
            run: its id.
            owner: the identity of the process, as text.
            options: what the run is started with; must be JSON. The options of an earlier start are replaced.

        Raises:
            RunTaken: another process owns the run, has not ended, and its lease has not expired.
        """
        with self._database.writing() as sql:
            row = sql.execute("SELECT owner, owner_seen_at FROM runs WHERE id = ?", (run,)).fetchone()
            now = time.time()
            if row is not None and row[0] not in (None, owner):
                expired = row[1] is None or row[1] <= now - LEASE
                if not is_allowed("take_over", state_of(row[0]), expired=expired):
                    other = ProcessIdentity.parse(row[0])
                    raise RunTaken(
                        f"run {run!r} is being executed by process {other.pid if other is not None else row[0]}: wait"
                        " until it has ended, or choose another id"
                    )
            sql.execute(
                "INSERT INTO runs (id, owner, owner_seen_at, started_at, options) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, owner_seen_at = excluded.owner_seen_at,"
                " options = excluded.options",
                (run, owner, now, now, json.dumps(dict(options or {}), sort_keys=True)),
            )

    def renew(self, run: str, owner: str) -> None:
        """Renew the lease of a run, which must happen more often than every ``LEASE`` seconds.

        Args:
            run: its id.
            owner: the identity of the process, as text. If another process owns the run, nothing changes.
        """
        with self._database.writing() as sql:
            sql.execute("UPDATE runs SET owner_seen_at = ? WHERE id = ? AND owner = ?", (time.time(), run, owner))

    def release(self, run: str, owner: str) -> None:
        """Release the lease of a run.

        Args:
            run: its id.
            owner: the identity of the process, as text. If another process owns the run, nothing changes.
        """
        with self._database.writing() as sql:
            sql.execute("UPDATE runs SET owner = NULL WHERE id = ? AND owner = ?", (run, owner))

    def get(self, run: str) -> RunRecord | None:
        """Return a run, or None if it does not exist.

        Args:
            run: its id.
        """
        with self._database.using() as sql:
            row = sql.execute(
                "SELECT id, owner, owner_seen_at, started_at, executions, options FROM runs WHERE id = ?", (run,)
            ).fetchone()
        if row is None:
            return None
        run_id, owner, seen_at, started_at, executions, options = row
        return RunRecord(run_id, owner, seen_at, started_at, executions, json.loads(options))

    def steps(self, run: str) -> list[RunCell]:
        """Return the cells of a run, in their order.

        Args:
            run: id of the run.
        """
        with self._database.using() as sql:
            rows = sql.execute(
                "SELECT position, source_digest, execution_id, attempt, checkpoint_id FROM run_cells WHERE run_id = ?"
                " ORDER BY position",
                (run,),
            ).fetchall()
        return [RunCell(*row) for row in rows]

    def begin(self, run: str, step: RunCell) -> None:
        """Record that a cell of a run begins. The rows of the cells after it are deleted.

        Args:
            run: the run.
            step: the cell.
        """
        with self._database.writing() as sql:
            sql.execute("DELETE FROM run_cells WHERE run_id = ? AND position >= ?", (run, step.number))
            sql.execute("UPDATE runs SET executions = ? WHERE id = ?", (step.turn, run))
            sql.execute(
                "INSERT INTO run_cells (run_id, position, source_digest, execution_id, attempt) VALUES (?, ?, ?, ?, ?)",
                (run, step.number, step.source, step.execution_id, step.turn),
            )

    def finish(self, run: str, number: int, checkpoint: str) -> None:
        """Record that a cell of a run has succeeded.

        Args:
            run: the run.
            number: the position of the cell.
            checkpoint: the state after it, which is on disk.
        """
        with self._database.writing() as sql:
            sql.execute(
                "UPDATE run_cells SET checkpoint_id = ? WHERE run_id = ? AND position = ?", (checkpoint, run, number)
            )


def source_of(code: str) -> bytes:
    """Return the digest of a cell's source, of 16 bytes.

    Args:
        code: the code of the cell.
    """
    return hashlib.blake2b(code.encode("utf-8", "surrogatepass"), digest_size=16).digest()
