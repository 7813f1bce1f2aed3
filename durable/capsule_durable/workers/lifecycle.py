"""The lifecycle of a worker and of a cell: two tables of transitions. Pure.

Rules:

- A worker runs cells only after it has reported that it is ready, and reports that once.
- One cell at a time is sent to a worker.
- A cell is settled exactly once: resolved by its result, or rejected by an error, a timeout, or the worker's end.
- A message for a cell that is settled, or for an unknown cell, changes nothing.

``python -m capsule_durable.workers.lifecycle`` draws the tables; docs/explanation/architecture.md has the drawing,
and a test compares them.
"""

from __future__ import annotations


class IllegalTransition(Exception):
    """An event is impossible in this state."""


class Transitions(dict[tuple[str, str], str]):
    """States and events, with the state that follows.

    Looking up an event that cannot happen in a state raises ``IllegalTransition``.
    """

    def __missing__(self, key: tuple[str, str]) -> str:
        raise IllegalTransition(f"{key[1]!r} cannot happen in the state {key[0]!r}")


WORKER = Transitions(
    {
        ("none", "launch"): "starting",
        ("none", "fail"): "unavailable",
        ("starting", "ready"): "ready",
        ("starting", "exit"): "none",
        ("ready", "exit"): "none",
        ("unavailable", "launch"): "starting",
        ("unavailable", "fail"): "unavailable",
    }
)

CELL = Transitions(
    {
        ("created", "dispatch"): "waiting",
        ("waiting", "send"): "running",
        ("waiting", "failure"): "rejected",
        ("running", "result"): "resolved",
        ("running", "failure"): "rejected",
    }
)


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
