"""The runs: notebooks that were executed under an id."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from capsule_durable.queries.history import NotRecorded, open_history
from capsule_durable.storage.process_identity import state_of
from capsule_worker.protocol.model import Model

#: A run with the number of its cells that were executed, and of those that have succeeded.
_RUNS = (
    "SELECT runs.id, runs.owner, runs.started, count(c.run), count(c.checkpoint) FROM runs"
    " LEFT JOIN run_cells AS c ON c.run = runs.id GROUP BY runs.id ORDER BY runs.started DESC, runs.id"
)


class Run(Model):
    """A run."""

    id: str
    #: ``stopped``: its process has ended, and the run has not. ``done``: all cells that it executed have succeeded.
    state: Literal["running", "failed", "done", "stopped"]
    #: Seconds since the epoch.
    started: float
    #: How many cells were executed, the last attempt of each counted; ``done`` of them have succeeded.
    cells: int
    done: int


def list_runs(home: Path) -> list[Run]:
    """Return the runs that are stored, newest first.

    Args:
        home: the user's directory.

    Raises:
        StoreError: the history cannot be read.
    """
    try:
        with open_history(home) as database, database.using() as sql:
            rows = sql.execute(_RUNS).fetchall()
    except NotRecorded:
        return []
    return [
        Run(id=run_id, state=_state(owner, cells - done), started=started, cells=cells, done=done)
        for run_id, owner, started, cells, done in rows
    ]


def _state(owner: str | None, failed: int) -> Literal["running", "failed", "done", "stopped"]:
    """Return the state of a run.

    Args:
        owner: the identity of the process that executes it, as text; None once that process has released it.
        failed: how many of its executed cells have not succeeded.
    """
    if owner is not None:
        return "stopped" if state_of(owner) == "ended" else "running"
    return "failed" if failed else "done"
