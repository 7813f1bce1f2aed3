"""The life of a worker and of a cell: two tables of transitions, and nothing else. Pure.

Rules:

- A worker runs cells only after it has said that it is ready, and says so once.
- One cell at a time is sent to a worker.
- A cell is settled exactly once: resolved by its result, or rejected by an error, a timeout, or the worker's end.
- Whatever comes for a cell that is settled, or for none, changes nothing.

``python -m capsule_durable.workers.lifecycle`` draws the tables; ARCHITECTURE.md holds the drawing, and a test
compares them.
"""

from __future__ import annotations

from typing import Literal

WorkerState = Literal["none", "starting", "ready", "unavailable"]
WorkerEvent = Literal["launch", "ready", "exit", "fail"]

CellState = Literal["created", "waiting", "running", "resolved", "rejected"]
CellEvent = Literal["dispatch", "send", "result", "failure"]

WORKER: dict[tuple[WorkerState, WorkerEvent], WorkerState] = {
    ("none", "launch"): "starting",
    ("none", "fail"): "unavailable",
    ("starting", "ready"): "ready",
    ("starting", "exit"): "none",
    ("ready", "exit"): "none",
    ("unavailable", "launch"): "starting",
    ("unavailable", "fail"): "unavailable",
}

CELL: dict[tuple[CellState, CellEvent], CellState] = {
    ("created", "dispatch"): "waiting",
    ("waiting", "send"): "running",
    ("waiting", "failure"): "rejected",
    ("running", "result"): "resolved",
    ("running", "failure"): "rejected",
}


class IllegalTransition(Exception):
    """Something happened that cannot happen in this state."""


def next_worker_state(state: WorkerState, event: WorkerEvent) -> WorkerState:
    """Return the state of the worker's place after ``event``.

    Raises:
        IllegalTransition: ``event`` cannot happen in ``state``.
    """
    try:
        return WORKER[state, event]
    except KeyError:
        raise IllegalTransition(f"a worker that is {state!r} cannot {event}") from None


def next_cell_state(state: CellState, event: CellEvent) -> CellState:
    """Return the state of a cell after ``event``.

    Raises:
        IllegalTransition: ``event`` cannot happen in ``state``.
    """
    try:
        return CELL[state, event]
    except KeyError:
        raise IllegalTransition(f"a cell that is {state!r} cannot take {event!r}") from None


def drawing() -> str:
    """Return both tables as Mermaid state diagrams."""
    parts = []
    for title, first, table in (("worker", "none", WORKER), ("cell", "created", CELL)):
        lines = ["```mermaid", "stateDiagram-v2", f"    %% the life of a {title}", f"    [*] --> {first}"]
        lines += [f"    {state} --> {after}: {event}" for (state, event), after in table.items()]
        parts.append("\n".join([*lines, "```"]))
    return "\n\n".join(parts)


if __name__ == "__main__":
    print(drawing())
