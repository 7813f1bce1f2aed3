"""What a session's cells showed, and what happened in it, from another terminal."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.support.cli import CAPSULE, capsule, command_environment
from tests.support.kernels import KILL, Kernel, kernel
from tests.support.waiting import poll_until

NOTEBOOK = "/notebooks/told.ipynb"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def one(home: Path) -> Iterator[Kernel]:
    with kernel(home, NOTEBOOK) as opened:
        yield opened


def wait_for_cells(home: Path, count: int) -> list[dict[str, object]]:
    def look() -> list[dict[str, object]]:
        done = capsule(home, "cells", NOTEBOOK, "--json")
        found = done.json["cells"] if done.status == 0 else []
        return found if len(found) >= count else []

    return poll_until(look, "the cells")


def test_what_cells_showed_can_be_had_again(home: Path, one: Kernel, tmp_path: Path) -> None:
    one.ok("for i in range(3): print('line', i)\nimport sys; print('warned', file=sys.stderr)\n41 + 1")
    one.ok("from IPython.display import clear_output, display, HTML")
    one.ok("pass\nprint('gone'); clear_output(); display(HTML('<b>x</b>'))")
    one.run("1 / 0")
    one.died(KILL)
    cells = wait_for_cells(home, 5)
    assert [cell["state"] for cell in cells] == ["ok", "ok", "ok", "error", "died"]
    assert [cell["error"] for cell in cells[-2:]] == ["ZeroDivisionError: division by zero", "WorkerDied"]
    shown = capsule(home, "outputs", NOTEBOOK)
    assert shown.status == 0, shown.err
    assert "line 0\nline 1\nline 2" in shown.out
    assert "42" in shown.out
    assert "gone" not in shown.out
    assert "ZeroDivisionError" in shown.out
    assert "line" not in capsule(home, "outputs", NOTEBOOK, "--cell", "3").out
    (second,) = capsule(home, "outputs", NOTEBOOK, "--cell", "3", "--json").json["cells"]
    assert second["outputs"][0]["data"]["text/html"] == "<b>x</b>"
    assert "ZeroDivisionError" not in capsule(home, "cells", NOTEBOOK).out
    assert "In [4]" in capsule(home, "cells", NOTEBOOK).out

    path = tmp_path / "recovered.ipynb"
    assert f"Wrote {path}: 5 cells" in capsule(home, "export", NOTEBOOK, "-o", str(path)).out
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, 3, 4, 5]
    assert notebook.cells[0].outputs[-1].data["text/plain"] == "42"
    refused = capsule(home, "export", NOTEBOOK, "-o", str(path))
    assert refused.status == 1
    assert f"{path} already exists (use --force to overwrite)." in refused.err


def test_events_are_listed_in_order_and_changes_to_them_are_detected(home: Path, one: Kernel) -> None:
    one.ok("x = 1")
    one.died(KILL)
    one.ok("x")
    wait_for_cells(home, 3)

    def events() -> list[dict[str, object]]:
        return [json.loads(line) for line in capsule(home, "log", NOTEBOOK, "--json").out.splitlines()]

    found = poll_until(lambda: [e for e in events() if e["type"] == "CheckpointSaved"] and events(), "the events")
    types = [event["type"] for event in found]
    assert types[:3] == ["KernelSessionStarted", "WorkerStarted", "CellStarted"]
    assert types.index("WorkerExited") < types.index("CellEnded", types.index("WorkerExited"))
    ended = [event["data"] for event in found if event["type"] == "CellEnded"]
    assert [data["status"] for data in ended] == ["ok", "WorkerDied", "ok"]
    assert all(len(data["outputs_digest"]) == 32 for data in ended)
    assert "execution_count=1" in capsule(home, "log").out
    whole = capsule(home, "verify")
    assert whole.status == 0
    assert "is intact" in whole.out
    one.close()
    with sqlite3.connect(home / "history.sqlite3") as sql:
        sql.execute("UPDATE events SET data = replace(data, 'WorkerDied', 'ok') WHERE type = 'CellEnded'")
    sql.close()
    broken = capsule(home, "verify", "--json")
    assert broken.status == 1
    fault = broken.json["break"]
    assert fault["text"] == f"record {fault['n']} was changed"
    assert "is broken" in capsule(home, "verify").out


def test_the_promises_of_cells_are_shown(home: Path, one: Kernel) -> None:
    one.ok("x = 1")
    one.died(KILL)
    wait_for_cells(home, 2)
    first, second = capsule(home, "trace", NOTEBOOK, "--json").json["traces"]
    assert [(step["kind"], step["state"]) for step in first["promises"]] == [
        ("cell", "resolved"),
        ("outcome", "resolved"),
    ]
    assert [step["state"] for step in second["promises"]] == ["rejected", "rejected"]
    assert second["promises"][1]["parent"] == second["promises"][0]["id"]
    shown = capsule(home, "trace", NOTEBOOK, "--cell", "2").out
    assert "outcome" in shown
    assert "rejected" in shown
    assert "x = 1" not in shown


def test_data_that_the_settings_do_not_keep_is_removed(home: Path, one: Kernel) -> None:
    for number in range(4):
        one.ok(f"x = {number}")
    one.restart()
    one.close()
    before = capsule(home, "checkpoints", "--json").json["checkpoints"]
    assert len(before) >= 4
    assert capsule(home, "gc", "--json", CAPSULE_CHECKPOINT_COUNT="2").json["checkpoints"] == len(before) - 2
    assert len(capsule(home, "checkpoints", "--json").json["checkpoints"]) == 2
    assert capsule(home, "gc").status == 0


def test_every_word_has_help_with_an_example_and_can_be_completed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["cells", "checkpoints", "delete", "diff", "export", "gc", "log", "outputs", "pending", "resume", "run"]
    words += ["answer", "cancel", "runs", "sessions", "show", "status", "trace", "undo", "verify"]
    overview = capsule(home, "--help").out
    for word in words:
        assert word in overview
        if word in ("run", "trace", "gc", "cancel"):
            text = capsule(home, word, "--help").out
            assert f"For example: capsule {word}" in text
    # Otherwise the shell is the one that has started the tests.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    assert "complete" in capsule(home, "--show-completion", "bash").out


def test_the_ledger_can_be_followed(home: Path, one: Kernel) -> None:
    one.ok("x = 1")
    wait_for_cells(home, 1)
    command = [CAPSULE, "log", NOTEBOOK, "--follow", "--json"]
    with subprocess.Popen(command, env=command_environment(home), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert json.loads(process.stdout.readline())["type"] == "KernelSessionStarted"
            one.ok("y = 2\nprint('followed')")
            while True:
                event = json.loads(process.stdout.readline())
                if event["type"] == "CellStarted" and event["data"]["execution_count"] == 2:
                    break
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 130


def test_a_command_reports_that_nothing_is_kept(home: Path) -> None:
    for words in (["cells", "x"], ["outputs", "x"], ["export", "x", "-o", "y.ipynb"], ["log"], ["verify"]):
        done = capsule(home, *words)
        assert done.status == 1
        assert done.err.startswith("capsule: ")
        assert "Internal error" not in done.err
    assert capsule(home, "sessions").status == 0
    assert not home.exists()
