"""When a checkpoint is begun: decisions of a schedule, with times that tests choose."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from capsule_worker.checkpoints.schedule import DEFER_SECONDS, MAX_DEFER_SECONDS, MIN_RISK_RATIO, Schedule

#: What a cell did: read only, changed something, or asked about checkpoints.
READ = {"can_defer": True, "should_save": True}
CHANGE = {"can_defer": False, "should_save": True}
ASK = {"can_defer": False, "should_save": False}


@dataclass(frozen=True)
class Case:
    name: str
    #: Times in seconds at which cells end, and what they did; or the name of another event.
    events: tuple[tuple[float, dict[str, bool]] | str, ...]
    #: When the deferred checkpoint becomes due, after the last cell.
    deferred_until: float | None = None
    is_due: bool = False
    has_unsaved_work: bool = False


CASES = (
    Case("nothing has run", ()),
    Case("a cell that changed something", ((1.0, CHANGE),), is_due=True, has_unsaved_work=True),
    Case("a cell that asked about checkpoints", ((1.0, ASK),)),
    Case("a question after a change", ((1.0, CHANGE), (2.0, ASK)), is_due=True, has_unsaved_work=True),
    Case("a cell that only read", ((1.0, READ),), deferred_until=1.0 + DEFER_SECONDS, has_unsaved_work=True),
    Case(
        "several cells that only read",
        ((1.0, READ), (1.02, READ), (1.04, READ)),
        deferred_until=1.04 + DEFER_SECONDS,
        has_unsaved_work=True,
    ),
    Case(
        "cells that only read, one after the other for long",
        tuple((1.0 + step / 100, READ) for step in range(99)),
        deferred_until=1.0 + MAX_DEFER_SECONDS,
        has_unsaved_work=True,
    ),
    Case("a change after cells that only read", ((1.0, READ), (1.02, CHANGE)), is_due=True, has_unsaved_work=True),
    Case("the deferred checkpoint becomes due", ((1.0, READ), "request_deferred"), is_due=True, has_unsaved_work=True),
    Case("the deferred checkpoint becomes due in a cell", ((1.0, READ), "cell", "request_deferred")),
    Case("a cell runs", ((1.0, CHANGE), "cell")),
    Case("a comm has run", ("request",), is_due=True, has_unsaved_work=True),
    Case("a checkpoint is being begun", ((1.0, CHANGE), "begin"), has_unsaved_work=True),
    Case("a checkpoint was begun", ((1.0, CHANGE), "begin", "end")),
    Case("a checkpoint was begun before the deferred one", ((1.0, READ), "begin", "end")),
    Case("a change while a checkpoint is begun", ("begin", "request", "end"), is_due=True, has_unsaved_work=True),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_decision_follows_from_what_has_happened(case: Case) -> None:
    schedule, deferred_until = Schedule(), None
    for event in case.events:
        if event == "cell":
            schedule.in_cell = True
        elif isinstance(event, str):
            getattr(schedule, event)()
        else:
            schedule.in_cell = True
            at, what = event
            deferred_until = schedule.end_cell(at, 0.1, **what)
    if case.deferred_until is not None:
        assert deferred_until == pytest.approx(case.deferred_until)
        assert schedule.is_deferred
    assert schedule.is_due is case.is_due
    assert schedule.has_unsaved_work is case.has_unsaved_work


@pytest.mark.parametrize(
    ("cells", "fork", "is_worthwhile"),
    [
        ([], 0.01, False),
        ([0.01], 0.01, False),
        ([0.01 * MIN_RISK_RATIO], 0.01, False),
        ([0.03] * 3, 0.01, True),
        ([60.0], 0.2, True),
    ],
)
def test_a_standby_is_worth_a_fork_when_much_work_is_at_risk(
    cells: list[float], fork: float, is_worthwhile: bool
) -> None:
    schedule = Schedule()
    schedule.fork_seconds = fork
    for number, seconds in enumerate(cells):
        schedule.end_cell(float(number), seconds, **CHANGE)
    assert schedule.is_standby_worthwhile() is is_worthwhile
    schedule.reset_risk()
    assert not schedule.is_standby_worthwhile()
