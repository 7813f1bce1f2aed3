"""Parametrised notebooks run by papermill."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from tests.support.notebooks import data, error, kinds, notebook, text

if TYPE_CHECKING:
    from pathlib import Path

    from nbformat import NotebookNode

    from tests.support.processes import Family


def _written(path: Path, *cells: str, kernel_name: str) -> Path:
    """Write a notebook whose first cell holds its parameters."""
    book = notebook(*cells, kernel_name=kernel_name)
    book.cells[0]["metadata"]["tags"] = ["parameters"]
    nbformat.write(book, path)
    return path


def _cells(path: Path) -> list[NotebookNode]:
    return list(nbformat.read(path, as_version=4).cells)


def test_parameters_reach_the_notebook_and_its_outputs_are_kept(
    kernel_name: str, family: Family, tmp_path: Path
) -> None:
    source = _written(
        tmp_path / "in.ipynb",
        "alpha = 0\nname = 'default'",
        "print(alpha, name)",
        "alpha * 2",
        kernel_name=kernel_name,
    )
    target = tmp_path / "out.ipynb"
    papermill.execute_notebook(
        source, target, parameters={"alpha": 21, "name": "Ada"}, kernel_name=kernel_name, progress_bar=False
    )
    defaults, injected, printed, result = _cells(target)
    assert "injected-parameters" in injected["metadata"]["tags"]
    assert "alpha = 21" in injected["source"]
    assert "alpha = 0" in defaults["source"]
    assert text(printed) == "21 Ada\n"
    assert data(result) == ["42"]
    family.wait_until_gone()


def test_the_kernel_named_in_the_notebook_is_used(kernel_name: str, tmp_path: Path) -> None:
    source = _written(tmp_path / "in.ipynb", "n = 1", "n + 1", kernel_name=kernel_name)
    papermill.execute_notebook(source, tmp_path / "out.ipynb", progress_bar=False)
    book = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert book.metadata["kernelspec"]["name"] == kernel_name
    assert data(book.cells[-1]) == ["2"]


def test_a_failing_notebook_raises_and_its_outputs_so_far_are_kept(
    kernel_name: str, family: Family, tmp_path: Path
) -> None:
    source = _written(
        tmp_path / "in.ipynb",
        "alpha = 0",
        "print('reached')",
        "print('here too'); 1 / alpha",
        "print('not reached')",
        kernel_name=kernel_name,
    )
    target = tmp_path / "out.ipynb"
    with pytest.raises(PapermillExecutionError, match="ZeroDivisionError"):
        papermill.execute_notebook(source, target, kernel_name=kernel_name, progress_bar=False)
    cells = [cell for cell in _cells(target) if cell["cell_type"] == "code"]
    reached, failed, unreached = cells[-3:]
    assert text(reached) == "reached\n"
    assert kinds(failed) == ["stdout", "error"]
    assert error(failed)[0] == "ZeroDivisionError"
    assert unreached["outputs"] == []
    family.wait_until_gone()


@pytest.mark.capsule_only
def test_a_killed_worker_fails_the_run_by_its_name(kernel_name: str, family: Family, tmp_path: Path) -> None:
    source = _written(tmp_path / "in.ipynb", "alpha = 0", "import os; os.kill(os.getpid(), 9)", kernel_name=kernel_name)
    with pytest.raises(PapermillExecutionError, match="WorkerDied"):
        papermill.execute_notebook(source, tmp_path / "out.ipynb", kernel_name=kernel_name, progress_bar=False)
    family.wait_until_gone()
