"""The notebooks that come with the project, and the demo that runs two of them."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from rich.console import Console

from tests.support import ROOT
from tests.support.cli import CAPSULE, capsule, command_environment
from tests.support.notebooks import data, error, kinds, text
from tests.support.waiting import DEADLINE, poll_until

NOTEBOOKS = ROOT / "notebooks"


def _demo() -> Any:
    """Return the demo, whose parts run the notebooks and say what is not as it should be."""
    spec = importlib.util.spec_from_file_location("demo", NOTEBOOKS / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _check(notebook: NotebookNode) -> list[NotebookNode]:
    """Check that all code cells ran, and that only those failed that should; return those."""
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    failed = [cell for cell in code if any(output.output_type == "error" for output in cell.outputs)]
    assert failed == [cell for cell in code if "raises-exception" in cell.metadata.get("tags", [])]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    return failed


@pytest.fixture(scope="module")
def stress(home: Path, kernel_name: str) -> NotebookNode:
    """Return the stress notebook after it ran."""
    assert home.is_dir()
    notebook = nbformat.read(NOTEBOOKS / "stress.ipynb", as_version=4)
    NotebookClient(notebook, kernel_name=kernel_name, timeout=120, allow_errors=True).execute()
    return notebook


def test_the_quickstart_notebook_runs_and_only_the_cells_that_should_fail_do(
    kernel_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Capsule, also: it asks and is answered, it plots, and its variables survive the kill of its worker."""
    if kernel_name == "capsule":
        monkeypatch.setenv("CAPSULE_HOME", str(tmp_path / "home"))
        demo = _demo()
        assert demo._quickstart(Console(file=io.StringIO()), kernel_name, tmp_path) == []
        assert "<img" in (tmp_path / "quickstart.html").read_text()
        notebook = nbformat.read(tmp_path / "quickstart.executed.ipynb", as_version=4)
    else:
        notebook = nbformat.read(NOTEBOOKS / "quickstart.ipynb", as_version=4)
        NotebookClient(notebook, kernel_name=kernel_name, timeout=120, allow_errors=True).execute()
    _check(notebook)


def test_the_stress_notebook_runs_and_only_the_cells_that_should_fail_do(stress: NotebookNode) -> None:
    _check(stress)


def test_the_stress_notebook_shows_what_it_says(stress: NotebookNode) -> None:
    by_source = {cell.source: cell for cell in stress.cells if cell.cell_type == "code"}

    def text_of(beginning: str) -> str:
        (cell,) = [cell for source, cell in by_source.items() if source.startswith(beginning)]
        return "".join(output.text for output in cell.outputs if output.output_type == "stream")

    assert text_of("for i in range(20_000)") == "".join(f"{i}\n" for i in range(20_000))
    assert text_of("print('x' * 1_000_000)") == "x" * 1_000_000 + "\n"
    children = text_of("import ctypes, os, subprocess")
    for line in ("python first", "child by os.system", "child by subprocess", "C by printf", "bytes: "):
        assert line in children
    (displays,) = [cell for source, cell in by_source.items() if source.startswith("for i in range(1000)")]
    assert [output.data["text/plain"] for output in displays.outputs] == [str(i) for i in range(1000)]


@pytest.mark.capsule_only
def test_the_notebook_about_checkpoints_continues_with_its_variables(
    kernel_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPSULE_HOME", str(tmp_path))
    demo = _demo()
    assert demo._checkpoints(Console(file=io.StringIO()), kernel_name, tmp_path) == []
    assert "WorkerDied" in (tmp_path / "checkpoints.html").read_text()
    notebook = nbformat.read(tmp_path / "checkpoints.executed.ipynb", as_version=4)
    failed = _check(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [kinds(cell) for cell in failed] == [["error"]]
    assert error(failed[0])[0] == "WorkerDied"
    after = code[code.index(failed[0]) + 1]
    assert text(after).splitlines()[1:] == ["a Shop is still a Shop: True", "its notes are still the same list: True"]
    shown = {cell.source: "\n".join(data(cell)) for cell in code if cell.source.startswith("%capsule")}
    assert "orders" in shown["%capsule diff raw"]
    undone = r"Undid In \[9\]\. Restored \d+ variables to their state after In \[8\]\. Changed: .*\borders\b.*\."
    assert re.fullmatch(undone + r" Redo: %capsule restore \d+", shown["%capsule undo"])
    assert "raw" in shown["%capsule checkpoints orders"]
    assert str(tmp_path) in shown["%capsule status"]


@pytest.mark.capsule_only
def test_the_batch_notebook_does_its_steps_in_order_and_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = ["run", str(NOTEBOOKS / "batch.ipynb"), "--id", "batch", "--param", f"ledger={log}"]
    command += ["-o", str(tmp_path / "done.ipynb")]
    for _ in range(2):
        done = capsule(tmp_path / "home", *command)
        assert done.status == 0, done.err
        assert log.read_text().split() == ["prepared", "loaded", "charged", "counted", "finished"]


@pytest.mark.capsule_only
def test_the_notebook_that_asks_is_answered_from_another_process(tmp_path: Path) -> None:
    home, path = tmp_path / "home", tmp_path / "done.ipynb"
    command = [CAPSULE, "run", str(NOTEBOOKS / "human_in_the_loop.ipynb"), "-o", str(path)]
    with subprocess.Popen(command, env=command_environment(home), stderr=subprocess.DEVNULL) as process:
        try:
            (asked,) = poll_until(lambda: capsule(home, "pending", "--json").json["inputs"], "the question")
            assert capsule(home, "answer", asked["id"], "yes").status == 0
            assert process.wait(DEADLINE) == 0
        finally:
            # A run without an answer never ends, and the front ends the worker when it is told to.
            process.terminate()
    shown = "".join(text(cell) for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    assert "approved: A-17, A-18, A-19" in shown


@pytest.mark.capsule_only
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif("CAPSULE_TEST_DEMO" not in os.environ, reason="CAPSULE_TEST_DEMO=1 runs the whole demo")
def test_the_demo_shows_a_crash_and_continues(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, NOTEBOOKS / "demo.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("Welcome", "WorkerDied", "SIGKILL", "about to die", "Everything went as it should"):
        assert words in done.stdout or words in (tmp_path / "out" / "quickstart.executed.ipynb").read_text()
    told = ("8,760 hours of rides are still here", "its notes are still the same list: True", "Answered", "recorded")
    for words in told:
        assert words in done.stdout + done.stderr
    assert "<img" in (tmp_path / "out" / "quickstart.html").read_text()
    assert "WorkerDied" in (tmp_path / "out" / "checkpoints.html").read_text()
