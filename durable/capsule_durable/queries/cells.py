"""The cells of a session: how they ended, their outputs, and their promises."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from resonate.types import PromiseRecord

from capsule_durable import ids
from capsule_durable.config.settings import Settings
from capsule_durable.engines.client import connect
from capsule_durable.history.cells import CellRecord, CellStore
from capsule_durable.queries.history import NotRecorded, open_history
from capsule_durable.queries.inputs import is_input
from capsule_worker.protocol.model import Model

type CellState = Literal["ok", "error", "died", "interrupted", "timed_out"]
#: States of cells without a result, by the kind of the failure; of all others the state is ``error``.
_FAILURES: Mapping[str, CellState] = {
    "WorkerDied": "died",
    "KernelDied": "died",
    "ExecutionTimeout": "timed_out",
}


class Cell(Model):
    """A cell that has ended."""

    execution: str
    session: str
    #: As in ``In [number]``.
    number: int
    state: CellState
    #: Seconds since the epoch; so is ``ended``.
    started: float
    ended: float
    code: str
    #: Name and message of the exception, or the kind of the failure; None if the cell has succeeded.
    error: str | None
    #: How many outputs are recorded.
    outputs: int


class TraceStep(Model):
    """A promise of an execution."""

    id: str
    #: The promise of which it is a step; None for the execution's own.
    parent: str | None
    #: ``pending``, ``resolved``, or ``rejected`` and its variants.
    state: str
    #: Seconds since the epoch; so is ``settled``, None while it is pending.
    created: float
    settled: float | None
    kind: Literal["cell", "outcome", "input", "step"]


def read_cells(home: Path, session: str, number: int | None = None) -> list[CellRecord]:
    """Return the recorded cells of a session with their outputs, in the order in which they ended.

    Args:
        home: the user's directory.
        session: the session's id.
        number: only cells with this number, as in ``In [number]``.

    Raises:
        NotRecorded: the session has no such cell.
        StoreError: the history cannot be read.
    """
    with open_history(home) as database:
        found = CellStore(database).of_session(session, number)
    if not found:
        what = f"In [{number}] of session {session} is" if number is not None else f"The cells of session {session} are"
        raise NotRecorded(f"{what} not recorded, or not yet ended.")
    return found


def list_cells(home: Path, session: str) -> list[Cell]:
    """Return the cells of a session, in the order in which they ended.

    Args:
        home: the user's directory.
        session: the session's id.

    Raises:
        NotRecorded: the session has none.
        StoreError: the history cannot be read.
    """
    return [_cell(record) for record in read_cells(home, session)]


async def list_promises(settings: Settings, execution_id: str) -> list[TraceStep]:
    """Return the promises of an execution, in the order in which they were created; the execution's own is the first.

    Args:
        settings: the configuration, which names the engine.
        execution_id: the execution.

    Raises:
        StoreError, EngineUnavailable: the engine's file cannot be read.
    """
    root = ids.execution(execution_id)
    async with connect(settings) as engine:
        if engine is None:
            return []
        return [_step(promise, root) async for promise in engine.search_all(None, {"resonate:origin": root})]


def _cell(record: CellRecord) -> Cell:
    error, state = None, _FAILURES.get(record.status, "error")
    if record.outcome is None:
        error = record.status
    elif record.status == "ok":
        state = "ok"
    else:
        first_line = str(record.outcome.evalue or "").partition("\n")[0]
        error = f"{record.outcome.ename}: {first_line}"
        state = "interrupted" if record.outcome.ename == "KeyboardInterrupt" else "error"
    return Cell(
        execution=record.execution_id,
        session=record.session,
        number=record.number,
        state=state,
        started=record.started,
        ended=record.ended,
        code=record.code,
        error=error,
        outputs=len(record.outputs),
    )


def _step(promise: PromiseRecord, root: str) -> TraceStep:
    kind: Literal["cell", "outcome", "input", "step"]
    if promise.id == root:
        kind = "cell"
    elif promise.id == ids.outcome(root):
        kind = "outcome"
    else:
        kind = "input" if is_input(promise.id) else "step"
    return TraceStep(
        id=promise.id,
        parent=None if promise.id == root else promise.tags.get("resonate:parent"),
        state=promise.state,
        created=promise.created_at / 1000,
        settled=promise.settled_at / 1000 if promise.settled_at is not None else None,
        kind=kind,
    )
