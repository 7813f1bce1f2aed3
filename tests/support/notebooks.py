"""Notebooks made for a test, and a short way to read what ran in them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import nbformat.v4

from tests.support.conversation import class_name

if TYPE_CHECKING:
    from nbformat import NotebookNode


def notebook(*cells: str, kernel_name: str = "") -> NotebookNode:
    """Return a notebook of code cells; with a kernel name it says that it wants that kernel."""
    metadata: dict[str, Any] = {}
    if kernel_name:
        metadata["kernelspec"] = {"name": kernel_name, "display_name": kernel_name, "language": "python"}
    code = [nbformat.v4.new_code_cell(cell) for cell in cells]
    made: NotebookNode = nbformat.v4.new_notebook(cells=code, metadata=metadata)
    return made


def kinds(cell: NotebookNode) -> list[str]:
    """Return the types of a cell's outputs; of a stream, its name, in however many pieces it is kept."""
    found = [output.get("name") or output["output_type"] for output in cell["outputs"]]
    streams = {"stdout", "stderr"}
    return [kind for before, kind in pairwise(["", *found]) if kind != before or kind not in streams]


def text(cell: NotebookNode, stream: str = "stdout") -> str:
    """Return all that a cell wrote to a stream."""
    return "".join(output["text"] for output in cell["outputs"] if output.get("name") == stream)


def data(cell: NotebookNode, mime: str = "text/plain") -> list[Any]:
    """Return the data of one type that a cell displayed or had as its result."""
    return [output["data"][mime] for output in cell["outputs"] if mime in output.get("data", {})]


def error(cell: NotebookNode) -> tuple[str, str]:
    """Return name and text of a cell's only error."""
    (only,) = [output for output in cell["outputs"] if output["output_type"] == "error"]
    return class_name(only["ename"]), only["evalue"]
