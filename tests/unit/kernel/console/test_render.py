"""Answers as people and programs see them."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from capsule_durable.checkpoints.removal import Collection
from capsule_durable.checkpoints.texts import format_time
from capsule_durable.queries.sessions import SessionList
from capsule_kernel.console.render import JSON_MIME, render, to_json, view_of
from capsule_kernel.console.tables import to_text
from capsule_worker.protocol import messages as m

NOON = 1_700_000_000.0


def ref(number: int, **fields: Any) -> m.CheckpointRef:
    whole = {
        "id": f"id{number}",
        "number": number,
        "session": "s",
        "execution_count": number,
        "time": NOON,
        "size": 9400,
        "bytes_written": 200,
    }
    return m.CheckpointRef(**{**whole, **fields})


def entry(number: int, **fields: Any) -> m.Checkpoint:
    whole = {
        **ref(number).model_dump(),
        "parent": None,
        "code": "\nx = 1\ny",
        "description": "",
        "tags": [],
        "duration": 0.0,
        "head": True,
        "variables": 3,
        "unsaved": 1,
        "notebook": "a.ipynb",
        "starred": False,
    }
    return m.Checkpoint(**{**whole, **fields})


def shown(answer: Any) -> str:
    view = view_of(answer)
    assert view is not None
    return to_text(view)


def restored(**fields: Any) -> m.Restored:
    whole = {"session": "s", "checkpoint": ref(7), "source": "checkpoint", "restored": ["a", "b"]}
    return m.Restored(**{**whole, **fields})


def plan(**fields: Any) -> m.RestorePlan:
    return m.RestorePlan(manifest=b"", report=restored(**fields))


def test_an_undo_says_what_it_undid_and_how_to_take_it_back() -> None:
    undone = plan(
        restored=["a", "b", "c", "d", "e", "f", "_12"],
        undone=[m.CellRef(number=8)],
        changed=["df"],
        redo=ref(8),
    )
    assert shown(undone) == (
        "Undid In [8]. Restored 6 variables to their state after In [7]. Changed: df. Redo: %capsule restore 8"
    )
    other = m.StandbyTakeover(
        report=restored(
            source="standby",
            restored=["a"],
            undone=[m.CellRef(number=8), m.CellRef(number=9)],
            redo=ref(3, session="other"),
        )
    )
    assert shown(other) == (
        "Undid In [8] and In [9]. Restored 1 variable to its state after In [7]. Redo: %capsule restore id3"
    )


def test_a_restore_lists_restored_and_lost_variables() -> None:
    text = shown(
        plan(
            not_restored={"gen": "TypeError: cannot pickle 'generator' object", "s": "open", "_3": "x"},
            cells={"gen": m.CellRef(number=3), "s": m.CellRef(number=4)},
        )
    )
    assert text == (
        f"Restored 2 variables (a, b) from checkpoint 7 (id7), after In [7], {format_time(NOON)}."
        " Not restored: gen (generators cannot be saved), s (open); re-run their cells (In [3] and In [4])."
    )
    earlier = shown(
        plan(
            session="new",
            restored=[],
            checkpoint=ref(7, name="base"),
            not_restored={"s": "open"},
            cells={"s": m.CellRef(number=4)},
        )
    )
    assert earlier == (
        f'Restored no variables from checkpoint "base", after In [7], {format_time(NOON)}.'
        " Not restored: s (open); re-run its cell (In [4] of the previous session)."
    )


def status(**fields: Any) -> m.Status:
    whole = {
        "version": "1",
        "session": "s1",
        "kernel": "k",
        "kernel_pid": 12,
        "notebook": "a.ipynb",
        "state": "running",
        "saving": m.Saving(state="saved"),
    }
    return m.Status(**{**whole, **fields})


def test_a_status_has_a_row_for_everything_that_is_known() -> None:
    text = shown(
        status(
            last=entry(5),
            head=ref(4, name="base"),
            head_variables=11,
            head_unsaved=1,
            checkpoints=5,
            not_saved={"gen": "TypeError: cannot pickle 'generator' object"},
            standby=m.StandbyStatus(state="ready"),
            recovery=m.RecoveryStatus(source="standby", time=NOON, execution_count=3),
            profile="notebook",
            sandbox=[
                m.SandboxLayer(layer="processes", active=True),
                m.SandboxLayer(layer="signals", active=True),
                m.SandboxLayer(layer="system calls", active=True),
            ],
            hidden_environment=[f"KEY{number}" for number in range(13)],
            sizes=m.Sizes(session=2000, written=1000),
            mode="background",
            directory="/home/s1",
        )
    )
    assert text.splitlines() == [
        "Capsule",
        "Saving: saved after In [5]",
        f"Last saved: 5 (id5), after In [5], {format_time(NOON)}",
        f'Current checkpoint: "base", after In [4], {format_time(NOON)}',
        "Variables: 11 variables, 9.4 kB, 1 not saved",
        "Not saved: gen (generators cannot be saved)",
        "Hot standby: ready",
        f"Last recovery: from a standby at {format_time(NOON)}, to the state after In [3]",
        "Sandbox: notebook (processes, signals, system calls: active)",
        "Environment variables hidden from cells: 13",
        "Checkpoints: 5, 1.0 kB written, 2.0 kB on disk",
        "Mode: background",
        "Session: s1, running (process 12)",
        "Notebook: a.ipynb",
        "Directory: /home/s1",
    ]


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        ({}, "Saving: nothing to save yet"),
        ({"saving": m.Saving(state="off", reason="the setting is off")}, "Saving: off: the setting is off"),
        ({"saving": m.Saving(state="not_saving", reason="full")}, "Saving: not saving: full"),
        ({"standby": m.StandbyStatus(state="none", reason="a thread")}, "Hot standby: none: a thread"),
        ({"profile": "open"}, "Sandbox: open (cells run in processes of their own, but in no sandbox)"),
        (
            {
                "profile": "notebook",
                "sandbox": [
                    m.SandboxLayer(layer="signals", active=True),
                    m.SandboxLayer(layer="files", active=False, reason="old"),
                ],
            },
            "Sandbox: notebook (signals: active; files: not active: old)",
        ),
        ({"session": None, "notebook": None}, "Kernel: k"),
        ({"state": "elsewhere"}, "Session: s1, running elsewhere (process 12)"),
        ({"state": "killed"}, "Session: s1, was killed"),
        ({"state": "ended", "ended": NOON}, f"Session: s1, ended {format_time(NOON)}"),
    ],
)
def test_a_status_says_what_is_not_as_it_should_be(fields: dict[str, Any], row: str) -> None:
    assert row in shown(status(**fields)).splitlines()


def test_lists_say_what_they_leave_out() -> None:
    found = m.CheckpointList(query="a b", checkpoints=[entry(2, tags=["clean"])], total=3)
    lines = shown(found).splitlines()
    assert lines[0] == "Checkpoints matching 'a b', the latest 1 of 3"
    assert lines[1].startswith("session  ")
    assert lines[3].endswith("x = 1 [clean]")
    assert "3 (1 not saved)" in lines[3]
    of_one = found.model_copy(update={"session": "s"})
    assert not shown(of_one).splitlines()[1].startswith("session")


def test_tables_are_complete() -> None:
    variables = [
        m.Variable(name="a", type="int", size=5, cell=m.CellRef(number=1), saved=True),
        m.Variable(name="s", type="socket", size=0, saved=False, reason="open"),
    ]
    contents = shown(m.CheckpointContents(checkpoint=ref(1, name="n"), variables=variables))
    assert contents.startswith(f'Checkpoint 1 "n" (id1), after In [1], {format_time(NOON)}, 9.4 kB (200 B new)\n')
    assert contents.splitlines()[-1].endswith("not saved: open")
    change = m.Change(name="a", kind="changed", type_before="int", type_after="str", size_before=1, size_after=1)
    diff = m.CheckpointDiff(before=ref(1), after=ref(2, name="n"), changes=[change])
    assert shown(diff).startswith('From 1 (id1) to "n"\n')
    assert "int → str" in shown(diff)
    assert shown(diff.model_copy(update={"changes": []})) == 'From 1 (id1) to "n": no variable differs'
    assert shown(m.Deleted(checkpoints=[entry(3)], freed=1500)).startswith("Deleted, 1.5 kB freed\n")
    assert shown(Collection(1500, 2, ["s"], 1)).splitlines()[1:] == [
        "Freed: 1.5 kB",
        "Checkpoints: 2 deleted",
        "Sessions: 1 deleted, 1 in use",
    ]
    assert shown(SessionList(sessions=[])) == "Sessions: none"


def test_every_answer_has_a_form_for_programs() -> None:
    answers = [
        status(),
        m.CheckpointList(checkpoints=[entry(1)], total=1),
        m.CheckpointContents(checkpoint=ref(1), variables=[]),
        m.CheckpointDiff(before=ref(1), after=ref(2), changes=[]),
        m.Deleted(checkpoints=[], freed=0),
        plan(),
        m.StandbyTakeover(report=restored()),
        m.Done(),
        m.SubshellList(ids=["a"]),
    ]
    assert {type(answer) for answer in answers} == set(get_args(m.Answer))
    for answer in [*answers, SessionList(sessions=[]), Collection()]:
        found = to_json(answer)
        assert found["schema"].startswith("capsule.")
        assert found["schema"].endswith("/1")
        assert found["api"] == 1
        assert "kind" not in found
        json.dumps(found, allow_nan=False)
    assert to_json(plan())["restored"] == ["a", "b"]
    assert render(m.Done()) == {}
    assert render(plan())[JSON_MIME] == to_json(plan())
