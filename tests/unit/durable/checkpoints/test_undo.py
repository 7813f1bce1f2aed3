"""Undo: how far back some cells are."""

from __future__ import annotations

import pytest

from capsule_durable.checkpoints.models import Entry
from capsule_durable.checkpoints.undo import back, is_command

OURS = "ours"


def entry(name: str, parent: str | None, cell: int, code: str = "x = 1", session: str = OURS) -> Entry:
    return Entry(
        id=name,
        session=session,
        number=cell,
        parent=parent,
        time=0.0,
        execution_count=cell,
        code=code,
        name=None,
        description="",
        tags=[],
        size=0,
        bytes_written=0,
        duration=0.0,
        head=False,
        variables=0,
        unsaved=0,
        notebook=None,
    )


def chain(*entries: Entry) -> dict[str, Entry]:
    return {one.id: one for one in entries}


#: Cells 1, 2 and 3 have a checkpoint each; 4 only asked for one; 5 and 6 share one.
LINE = chain(
    entry("a", None, 1),
    entry("b", "a", 2),
    entry("c", "b", 3),
    entry("d", "c", 4, "%capsule checkpoint name"),
    entry("e", "d", 6),
)


@pytest.mark.parametrize(
    ("head", "cells", "found", "gone"),
    [
        ("c", 1, "b", 1),
        ("c", 2, "a", 2),
        ("c", 3, None, 2),
        ("d", 1, "b", 1),
        ("e", 1, "d", 2),
        ("e", 2, "d", 2),
        ("e", 3, "b", 3),
        ("e", 99, None, 4),
    ],
)
def test_so_many_cells_are_undone_and_no_fewer(head: str, cells: int, found: str | None, gone: int) -> None:
    ran = [number for number in (1, 2, 3, 5, 6) if number <= LINE[head].execution_count]
    before, undone = back(LINE[head], LINE, cells, ran, OURS)
    assert (before and before.id, undone) == (found, gone)


def test_cells_that_were_not_saved_count() -> None:
    assert back(LINE["c"], LINE, 2, [1, 2, 3, 5, 6], OURS) == (LINE["c"], 2)
    assert back(LINE["c"], LINE, 3, [1, 2, 3, 5, 6], OURS) == (LINE["b"], 3)


def test_cells_that_were_undone_do_not_count() -> None:
    # Cells 3 and 4 were undone, then 6 ran.
    line = chain(entry("a", None, 1), entry("b", "a", 2), entry("f", "b", 6))
    assert back(line["f"], line, 1, [1, 2, 6], OURS) == (line["b"], 1)
    assert back(line["f"], line, 2, [1, 2, 6], OURS) == (line["a"], 2)


def test_undo_continues_in_the_resumed_session() -> None:
    line = chain(
        entry("a", None, 7, session="theirs"),
        entry("b", "a", 8, "%capsule status", session="theirs"),
        entry("c", "b", 3),
    )
    assert back(line["c"], line, 1, [3], OURS) == (line["b"], 1)
    assert back(line["b"], line, 1, [], OURS) == (None, 0)
    assert back(line["c"], line, 2, [3], OURS) == (None, 1)


@pytest.mark.parametrize(
    ("code", "command"),
    [
        ("%capsule undo", True),
        ("  %capsule status\n\n%capsule checkpoints\n", True),
        ("%capsule status\nx = 1", False),
        ("x = 1", False),
        ("", False),
    ],
)
def test_a_cell_that_only_asks_is_a_command(code: str, command: bool) -> None:
    assert is_command(code) is command
