"""The notebooks that come with the project, and the demo that runs two of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support import ROOT
from tests.support.notebooks import data, error, kinds, text

NOTEBOOKS = ROOT / "notebooks"


@pytest.mark.parametrize("name", ["quickstart", "stress"])
def test_a_notebook_runs_and_only_the_cells_that_should_fail_do(kernel_name: str, name: str) -> None:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    NotebookClient(notebook, kernel_name=kernel_name, timeout=120, allow_errors=True).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    failed = [cell.source for cell in code if any(output.output_type == "error" for output in cell.outputs)]
    assert failed == [cell.source for cell in code if "raises-exception" in cell.metadata.get("tags", [])]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    nbformat.validate(notebook)


def test_the_stress_notebook_shows_what_it_says(kernel_name: str) -> None:
    notebook = nbformat.read(NOTEBOOKS / "stress.ipynb", as_version=4)
    NotebookClient(notebook, kernel_name=kernel_name, timeout=120, allow_errors=True).execute()
    by_source = {cell.source: cell for cell in notebook.cells if cell.cell_type == "code"}

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
def test_the_notebook_about_checkpoints_goes_on_with_its_variables(
    kernel_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPSULE_HOME", str(tmp_path))
    notebook = nbformat.read(NOTEBOOKS / "checkpoints.ipynb", as_version=4)
    NotebookClient(notebook, kernel_name=kernel_name, timeout=120, allow_errors=True).execute()
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    failed = [cell for cell in code if any(output.output_type == "error" for output in cell.outputs)]
    assert [cell.source for cell in failed] == [
        cell.source for cell in code if "raises-exception" in cell.metadata.get("tags", [])
    ]
    assert [kinds(cell) for cell in failed] == [["error"]]
    assert error(failed[0])[0] == "WorkerDied"
    after = code[code.index(failed[0]) + 1]
    assert text(after).splitlines()[1:] == ["a Shop is still a Shop: True", "its notes are still the same list: True"]
    shown = {cell.source: "\n".join(data(cell)) for cell in code if cell.source.startswith("%capsule")}
    assert "orders" in shown["%capsule diff raw"]
    assert "back" in shown["%capsule undo"]
    assert "raw" in shown["%capsule checkpoints orders"]
    assert str(tmp_path) in shown["%capsule status"]


@pytest.mark.capsule_only
@pytest.mark.timeout(240)
def test_the_demo_shows_a_death_and_goes_on(tmp_path: Path) -> None:
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
