"""Converts recorded cells to notebooks, and their outputs to text."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_notebook, output_from_msg

from capsule_durable.history.cells import CellRecord
from capsule_kernel.jupyter import contents
from capsule_worker.protocol import Output


def jupyter_outputs(outputs: Iterable[Output]) -> list[Any]:
    """Return outputs in the form that a notebook stores: clear and update messages are applied.

    Args:
        outputs: the recorded outputs of a cell.
    """
    found: list[Any] = []
    places: dict[str, list[int]] = {}
    clearing = False
    for output in outputs:
        kind, body = contents.output_message(output)
        if kind == "clear_output":
            clearing = True
            if not body.get("wait"):
                found, places, clearing = [], {}, False
            continue
        if clearing:
            found, places, clearing = [], {}, False
        display = body.get("transient", {}).get("display_id")
        if kind == "update_display_data":
            for place in places.get(display, ()):
                found[place]["data"], found[place]["metadata"] = body["data"], body["metadata"]
            continue
        made = output_from_msg({"header": {"msg_type": kind}, "content": body})
        last = found[-1] if found else None
        if kind == "stream" and last is not None and last.output_type == "stream" and last.name == made.name:
            last.text += made.text
            continue
        if display is not None:
            places.setdefault(display, []).append(len(found))
        found.append(made)
    return found


def as_text(outputs: Iterable[Output]) -> str:
    """Return outputs as text for a terminal.

    Args:
        outputs: the recorded outputs of a cell.
    """
    parts = []
    for output in jupyter_outputs(outputs):
        if output.output_type == "stream":
            parts.append(output.text.rstrip("\n"))
        elif output.output_type == "error":
            parts.append("\n".join(output.traceback))
        else:
            parts.append(output.data.get("text/plain", f"<{', '.join(output.data)}>"))
    return "\n".join(parts)


def notebook_of(cells: Sequence[CellRecord]) -> Any:
    """Return cells as a notebook, in the order in which they ended.

    Args:
        cells: the recorded cells.
    """
    made = []
    for cell in cells:
        one = new_code_cell(cell.code, execution_count=cell.number, outputs=jupyter_outputs(cell.outputs))
        for output in one.outputs:
            if output.output_type == "execute_result":
                output.execution_count = cell.number
        made.append(one)
    kernelspec = {"name": "capsule", "display_name": "Python 3 (Capsule)", "language": "python"}
    return new_notebook(cells=made, metadata={"kernelspec": kernelspec, "language_info": {"name": "python"}})


def write(notebook: Any, path: Path) -> None:
    """Write a notebook to a file, completely or not at all.

    Args:
        notebook: the notebook.
        path: the file; an existing one is replaced.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(nbformat.writes(notebook), encoding="utf-8")
    draft.replace(path)
