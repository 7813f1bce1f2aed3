"""The tables of transitions, and the drawing of them in docs/explanation/architecture.md."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from capsule_durable.workers import lifecycle
from tests.support import ROOT


@pytest.mark.parametrize(
    ("table", "step", "events"),
    [
        (lifecycle.WORKER, lifecycle.next_worker_state, get_args(lifecycle.WorkerEvent)),
        (lifecycle.CELL, lifecycle.next_cell_state, get_args(lifecycle.CellEvent)),
    ],
)
def test_only_what_the_table_says_can_happen(table, step, events) -> None:
    states = {state for state, _ in table} | set(table.values())
    for state, event in product(states, events):
        if (state, event) in table:
            assert step(state, event) == table[state, event]
        else:
            with pytest.raises(lifecycle.IllegalTransition):
                step(state, event)


def test_a_settled_cell_stays_settled() -> None:
    for state, _ in lifecycle.CELL:
        assert state not in {"resolved", "rejected"}


def test_a_worker_is_ready_only_after_it_was_launched() -> None:
    assert [state for (state, event), after in lifecycle.WORKER.items() if after == "ready"] == ["starting"]


def test_the_drawing_in_the_documentation_is_the_tables() -> None:
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    assert lifecycle.drawing() in text
