"""The kernel's own process is killed, or restarted; the notebook is opened again: what comes back, and what is said."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsule_durable.engines.embedded.schema import FILE
from tests.support.kernels import Kernel, kernel

NOTEBOOK = "/notebooks/analysis.ipynb"


pytestmark = pytest.mark.usefixtures("clients_of_the_dead")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def one(home: Path) -> Iterator[Kernel]:
    with kernel(home) as opened:
        yield opened


def outcomes(home: Path) -> list[tuple[str, str]]:
    """Return the outcomes that the store has, in order, and their states."""
    with sqlite3.connect(home / FILE) as connection:
        found = connection.execute("SELECT id, state FROM promises WHERE id LIKE '%:1' ORDER BY n").fetchall()
    connection.close()
    return found


def test_a_killed_kernel_comes_back_with_its_variables(home: Path, one: Kernel, tmp_path: Path) -> None:
    one.ok("x = [1]\ny = x\ndef add(n):\n    x.append(n)")
    one.ok("add(2)")
    log = tmp_path / "log"
    one.begin(f"add(3)\nopen({str(log)!r}, 'a').write('ran ')\nprint('there')\nimport time\ntime.sleep(100)")
    one.kill_front()
    done = one.ok("add(4)\nprint(x, x is y, Out, len(In))")
    # Everything is as it was before the cell that ran, which is not run again.
    assert done.text() == "[1, 2, 4] True {} 4\n"
    assert log.read_text() == "ran "
    assert done.of("execute_input")[0]["execution_count"] == 3
    said = done.text("stderr")
    assert "The kernel was killed and has restarted. Variables are restored to their state after In [2]." in said
    assert "the kernel's process ended while In [3] ran" in said
    # It is said once.
    assert one.ok("pass").text("stderr") == ""
    states = [state for _, state in outcomes(home)]
    assert states == ["resolved", "resolved", "rejected", "resolved", "resolved"]


def test_a_kernel_that_is_killed_again_and_again_keeps_its_variables(one: Kernel) -> None:
    one.ok("n = 0")
    for number in range(1, 4):
        one.ok("n += 1")
        one.kill_front()
        # Also where it is killed before it has saved anything itself.
        one.kill_front()
        assert one.text("print(n)") == f"{number}\n"


def test_kernels_of_one_name_leave_each_other_alone(home: Path, tmp_path: Path) -> None:
    files = [tmp_path / name / "kernel-7.json" for name in "ab"]
    go = tmp_path / "go"
    with contextlib.ExitStack() as kernels:
        for file in files:
            file.parent.mkdir()
        first = kernels.enter_context(contextlib.closing(Kernel(home, connection_file=str(files[0]))))
        first.begin(
            f"x = 'first'\nprint(x)\nimport os, time\nwhile not os.path.exists({str(go)!r}):\n    time.sleep(0.05)"
        )
        second = kernels.enter_context(contextlib.closing(Kernel(home, connection_file=str(files[1]))))
        assert second.ok("x = 'second'").text("stderr") == ""
        go.touch()
        assert first.text("print(x)") == "first\n"
        assert [state for _, state in outcomes(home)] == ["resolved"] * 3
        first.kill_front()
        assert first.text("print(x)") == "first\n"
        assert second.text("print(x)") == "second\n"


def test_a_restarted_kernel_starts_empty_and_keeps_its_checkpoints(home: Path) -> None:
    with kernel(home, NOTEBOOK) as one:
        one.ok("x = 41")
        one.ok("%capsule checkpoint before")
        one.restart()
        done = one.run("x")
        assert done.reply["ename"] == "NameError"
        assert done.of("execute_input")[0]["execution_count"] == 1
        assert done.text("stderr") == ""
        one.ok("%capsule restore before")
        assert one.text("print(x)") == "41\n"


def test_a_notebook_that_is_opened_again_is_offered_its_variables(home: Path) -> None:
    with kernel(home, NOTEBOOK) as one:
        one.ok("x = 41")
    with kernel(home, NOTEBOOK) as one:
        done = one.run("x")
        assert done.reply["ename"] == "NameError"
        offer = re.search(
            r"Your last session of this notebook is saved \(1 variable, [\d.]+ k?B, today \d\d:\d\d\)\."
            r" Run %capsule resume to restore it\.",
            done.text("stderr"),
        )
        assert offer is not None, done.text("stderr")
        one.ok("%capsule resume")
        assert one.text("print(x + 1)") == "42\n"
    with kernel(home, "/notebooks/another.ipynb") as one:
        assert one.ok("1").text("stderr") == ""


def test_a_session_is_resumed_automatically_if_configured(home: Path) -> None:
    with kernel(home, NOTEBOOK) as one:
        one.ok("x = 41")
    with kernel(home, NOTEBOOK, resume="auto") as one:
        done = one.ok("print(x + 1)")
        assert done.text() == "42\n"
        assert "This continues your last session of this notebook. Variables are restored" in done.text("stderr")
    with kernel(home, NOTEBOOK, resume="never") as one:
        done = one.run("x")
        assert done.reply["ename"] == "NameError"
        assert done.text("stderr") == ""


def test_what_is_about_to_be_saved_when_the_front_dies_is_saved(home: Path) -> None:
    """The worker is alone from then on, in the middle of finding out what has changed."""
    # The first thing that a checkpoint does, when it is no longer due and not yet being written.
    slow = (
        "import time\nfrom capsule_worker.checkpoints.lazy_restore import LazyRestore\n"
        "begin = LazyRestore.record_loaded\n"
        "def slowly(self):\n    time.sleep(0.7)\n    begin(self)\nLazyRestore.record_loaded = slowly\n"
    )
    with kernel(home, NOTEBOOK) as one:
        one.ok("before = 1")
        one.ok("%capsule checkpoint first")
        one.ok(f"{slow}x = 41")
    with kernel(home, NOTEBOOK, resume="auto") as one:
        assert one.text("print(before, x)") == "1 41\n"
