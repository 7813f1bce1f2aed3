"""The tables of transitions, and the drawing of them in docs/explanation/architecture.md."""

from __future__ import annotations

from itertools import product

import pytest

from capsule_durable.workers import lifecycle
from tests.support import ROOT


@pytest.mark.parametrize("table", [lifecycle.WORKER, lifecycle.CELL], ids=["worker", "cell"])
def test_only_events_in_the_table_can_happen(table) -> None:
    states = {state for state, _ in table} | set(table.values())
    events = {event for _, event in table}
    for state, event in product(states, events):
        if (state, event) in table:
            assert table[state, event] in states
        else:
            with pytest.raises(lifecycle.IllegalTransition, match=event):
                table[state, event]


def test_a_settled_cell_stays_settled() -> None:
    for state, _ in lifecycle.CELL:
        assert state not in {"resolved", "rejected"}


def test_a_worker_is_ready_only_after_it_was_launched() -> None:
    assert [state for (state, event), after in lifecycle.WORKER.items() if after == "ready"] == ["starting"]


def test_the_drawing_in_the_documentation_is_the_tables() -> None:
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    assert lifecycle.drawing() in text
