"""Sentences about checkpoints."""

from __future__ import annotations

from datetime import datetime

import pytest

from capsule_durable.checkpoints import texts
from capsule_durable.checkpoints.models import Entry
from capsule_worker.protocol import manifest as mf
from tests.support.catalogues import checkpoint

GENERATOR = "TypeError: cannot pickle 'generator' object"


def saved(session: str, number: int, *unsaved: mf.Variable) -> mf.Manifest:
    return checkpoint(session, number, variables=[mf.Variable(name="a", type="int"), *unsaved])


def gen(cell: int = 3) -> mf.Variable:
    return mf.Variable(name="gen", type="generator", cell=mf.SavedCell(number=cell), reason=GENERATOR)


def test_the_offer_names_size_and_time() -> None:
    moment = datetime.now().astimezone().replace(hour=13, minute=8)
    entry = Entry(
        id="a",
        session="s",
        number=1,
        parent=None,
        time=moment.timestamp(),
        execution_count=1,
        code="",
        name=None,
        description="",
        tags=[],
        size=9400,
        bytes_written=0,
        duration=0.0,
        head=True,
        variables=12,
        unsaved=1,
        notebook=None,
    )
    assert texts.offered(entry) == (
        "Your last session of this notebook is saved (11 variables, 9.4 kB, today 13:08)."
        " Run %capsule resume to restore it."
    )


def test_after_a_crash_what_is_restored_and_what_is_lost_is_named() -> None:
    assert texts.after_crash(saved("s", 3), "s", []) == (
        "Your variables are restored to their state after In [3]. You can continue."
    )
    assert texts.after_crash(saved("s", 1, gen(1)), "s", [2, 3]) == (
        "Your variables are restored to their state after In [1]. You can continue."
        " Not restored: gen (generators cannot be saved); re-run its cell (In [1])."
        " Changes from In [2] and In [3] are lost. Re-run those cells if you need them."
    )
    assert texts.lost_changes([4]) == "Changes from In [4] are lost. Re-run that cell if you need it."
    assert texts.lost_changes(range(1, 9)).startswith(
        "Changes from In [1], In [2], In [3], In [4], In [5] and 3 more are lost."
    )


def test_after_a_crash_of_the_kernel_cells_are_of_the_previous_session() -> None:
    text = texts.from_another_session(saved("old", 5, gen()), "new", "The kernel was killed and has restarted.")
    assert text == (
        "The kernel was killed and has restarted. Variables are restored to their state after In [5]."
        " Not restored: gen (generators cannot be saved); re-run its cell (In [3] of the previous session)."
    )


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (GENERATOR, "generators cannot be saved"),
        ("TypeError: cannot pickle '_thread.lock' object", "locks cannot be saved"),
        ("TypeError: cannot pickle 'TextIOWrapper' object", "TextIOWrapper objects cannot be saved"),
        ("ValueError: closed", "ValueError: closed"),
    ],
)
def test_reasons_are_plain(reason: str, text: str) -> None:
    assert mf.plain_reason(reason) == text


def test_outputs_are_not_named() -> None:
    unsaved = mf.Variable(name="_12", type="generator", reason=GENERATOR)
    assert texts.unsaved(saved("s", 1, unsaved), "s") == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "today 12:00"), (-86400.0, "yesterday 12:00"), (-2 * 86400.0, "2026-06-08 12:00")],
)
def test_days_that_are_close_are_in_words(seconds: float, text: str) -> None:
    noon = datetime(2026, 6, 10, 12).astimezone().timestamp()
    assert texts.format_day_and_time(noon + seconds, noon) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, ""), (999, "999 B"), (9400, "9.4 kB"), (5e6, "5.0 MB"), (2e9, "2.0 GB"), (3e12, "3.0 TB")],
)
def test_sizes(count: float | None, text: str) -> None:
    assert texts.format_size(count) == text
