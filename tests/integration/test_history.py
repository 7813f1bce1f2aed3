"""The history is a file of its own: it depends on no engine, and no store depends on another."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from capsule_durable.checkpoints.catalogue import FILE_NAME as CATALOGUE
from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.engines.embedded.schema import FILE as ENGINE
from capsule_durable.history.schema import FILE as HISTORY
from capsule_durable.history.schema import SCHEMA
from tests.support.cli import capsule
from tests.support.kernels import Kernel, kernel
from tests.support.waiting import poll_until

NOTEBOOK = "/notebooks/kept.ipynb"

pytestmark = pytest.mark.usefixtures("clients_of_the_dead")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def cells(home: Path) -> int:
    """Return how many cells the history has."""
    if not (home / HISTORY).exists():
        return 0
    with contextlib.closing(sqlite3.connect(home / HISTORY)) as sql:
        try:
            return int(sql.execute("SELECT count(*) FROM cells").fetchone()[0])
        except sqlite3.OperationalError:  # its tables are being created
            return 0


def run_two_cells(one: Kernel) -> None:
    """Run two cells, and wait until they are in the history."""
    before = cells(one.home)
    one.ok("x = 6 * 7")
    assert one.text("print(x)") == "42\n"
    poll_until(lambda: cells(one.home) == before + 2, "the cells")


def shown(home: Path) -> list[str]:
    """Return the outputs of the notebook's latest session that `capsule outputs` prints."""
    done = capsule(home, "outputs", NOTEBOOK, "--json")
    assert done.status == 0, done.err
    return ["".join(output["text"] for output in cell["outputs"]) for cell in done.json["cells"]]


def remove(home: Path, name: str) -> None:
    """Delete a store and SQLite's files next to it."""
    for path in home.glob(f"{name}*"):
        path.unlink()


def test_the_history_is_kept_with_the_engine_in_memory(home: Path) -> None:
    with kernel(home, NOTEBOOK, engine="memory:") as one:
        run_two_cells(one)
        assert shown(home) == ["", "42\n"]
    assert not (home / ENGINE).exists()
    assert capsule(home, "verify").status == 0
    assert "KernelSessionStarted" in capsule(home, "log").out


def test_a_run_needs_no_engine_in_a_file(home: Path) -> None:
    for replayed in (False, True):
        with kernel(home, NOTEBOOK, engine="memory:", run_id="nightly") as one:
            assert one.text("import os; print(os.getpid())") != ""
            assert one.ok("n = 1").text("stderr") == ""
            if replayed:
                poll_until(lambda: capsule(home, "log").out.count("CellReplayed") == 2, "the events")
            else:
                one.kill()


@pytest.mark.parametrize("lost", [ENGINE, HISTORY, CATALOGUE])
def test_each_store_can_be_deleted_without_making_another_unreadable(home: Path, lost: str) -> None:
    with kernel(home, NOTEBOOK) as one:
        run_two_cells(one)
        poll_until(lambda: "CheckpointSaved" in capsule(home, "log").out, "a checkpoint")
    remove(home, lost)
    listed = {
        ENGINE: ["pending"],
        HISTORY: ["verify"],
        CATALOGUE: ["sessions"],
    }
    for name, command in listed.items():
        done = capsule(home, *command)
        assert "damaged" not in done.err
        assert (done.status == 0) == (name != lost or lost != HISTORY), done.err
    if lost != CATALOGUE:
        assert capsule(home, "sessions").out.count(NOTEBOOK) == 1
        with Catalogue(home) as catalogue:
            assert catalogue.checkpoints()
    if lost != HISTORY:
        assert shown(home) == ["", "42\n"]
    with kernel(home, NOTEBOOK) as one:
        assert one.ok("y = 1").text("stderr").count("capsule: ") <= 1, "at most the offer of the last session"
        run_two_cells(one)
    assert (home / lost).exists()
    assert capsule(home, "verify").status == 0


def test_the_history_can_be_turned_off_and_a_run_is_refused_then(home: Path) -> None:
    with kernel(home, NOTEBOOK, history_days=0) as one:
        assert one.ok("x = 1").text("stderr") == ""
    assert not (home / HISTORY).exists()
    done = capsule(home, "log")
    assert done.status == 1
    assert done.err.startswith("capsule: ")
    with kernel(home, NOTEBOOK, history_days=0, run_id="nightly") as one:
        reply = one.run("x = 1").reply
        assert reply["ename"] == "HistoryUnavailable"
        assert "history_days" in reply["evalue"]


@pytest.mark.parametrize("content", [b"no database " * 1000, None], ids=["damaged", "newer"])
def test_cells_run_though_the_history_cannot_be_used_and_a_run_is_refused(home: Path, content: bytes | None) -> None:
    home.mkdir()
    if content is not None:
        (home / HISTORY).write_bytes(content)
    else:
        with contextlib.closing(sqlite3.connect(home / HISTORY)) as sql:
            sql.execute(f"PRAGMA application_id = {SCHEMA.application_id}")
            sql.execute("PRAGMA user_version = 99")
    before = (home / HISTORY).read_bytes()
    with kernel(home, NOTEBOOK) as one:
        assert one.text("print(1)") == "1\n"
        one.ok("pass")
        one.wait_for_warning("history is not being recorded")
        one.ok("pass")
        assert one.ok("pass").text("stderr") == "", "it is said once"
    with kernel(home, NOTEBOOK, run_id="nightly") as one:
        reply = one.run("x = 1").reply
        assert reply["ename"] == "HistoryUnavailable"
        assert str(home / HISTORY) in reply["evalue"]
    assert (home / HISTORY).read_bytes() == before
    assert capsule(home, "pending").status == 0
