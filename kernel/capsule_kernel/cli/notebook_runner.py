"""``capsule run``: executes a notebook from its beginning, under an id with which it can go on where it stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from capsule_durable.errors import CapsuleError
from capsule_kernel.cli.notebook_files import write
from capsule_kernel.console.terminal import WrongUsage, plain

#: How a kernel's note begins that a cell waits for an input.
WAITS = "capsule: the cell waits for"
_COLOURS = {"ran": "green", "recorded": "cyan", "failed": "red", "not reached": "dim"}


class NotebookUnreadable(CapsuleError):
    """There is no notebook there. The message says why."""


@dataclass
class CellReport:
    """What became of a cell of the notebook.

    Args:
        place: its place among the cells of code, from 1.
        line: its first line.
    """

    place: int
    line: str
    state: str = "not reached"
    seconds: float = 0.0
    error: str = ""


@dataclass
class Report:
    """What became of a run."""

    id: str
    notebook: str
    output: str
    cells: list[CellReport] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether all of it was executed."""
        return not self.error and all(cell.state in ("ran", "recorded") for cell in self.cells)

    def to_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "id": self.id,
            "ok": self.ok,
            "notebook": self.notebook,
            "output": self.output,
            "seconds": self.seconds,
            "error": self.error or None,
            "cells": [vars(cell) for cell in self.cells],
        }


def run(
    notebook: Path,
    output: Path,
    *,
    run_id: str | None,
    parameters: Sequence[str],
    kernel: str,
    settings: dict[str, str],
    console: Console,
) -> Report:
    """Execute a notebook; the output file has after each cell what is known by then.

    Args:
        notebook: its path.
        output: where what comes of it goes.
        run_id: under which id; None for a new one.
        parameters: ``NAME=VALUE``, with a JSON value or a text.
        kernel: name of the kernelspec.
        settings: of the kernel, beside its configuration.
        console: where to show how far it has come.

    Raises:
        WrongUsage: a parameter makes no sense.
        NotebookUnreadable: there is no notebook.
    """
    content = _read(notebook)
    given = dict(_parameter(text) for text in parameters)
    if given:
        _inject(content, given)
    name = run_id or uuid.uuid4().hex[:12]
    report = Report(name, str(notebook), str(output))
    places = [index for index, cell in enumerate(content.cells) if cell.cell_type == "code" and cell.source.strip()]
    report.cells = [
        CellReport(place, content.cells[index].source.strip().splitlines()[0][:80])
        for place, index in enumerate(places, 1)
    ]
    console.print(
        f"Run [bold]{plain(name)}[/]: if it stops, `capsule run {plain(str(notebook))} --id {plain(name)}` goes on"
    )
    environment = {
        **os.environ,
        # As Jupyter's server does.
        "JPY_SESSION_NAME": str(notebook.resolve()),
        **settings,
        "CAPSULE_RUN_ID": name,
    }
    started = time.monotonic()
    with _progress(console, len(places)) as show:
        client = _Client(content, output, report, places, show, kernel_name=kernel, timeout=None)
        client.resources = {"metadata": {"path": str(notebook.parent.resolve())}}
        try:
            asyncio.run(client.async_execute(env=environment))
        except CellExecutionError as error:
            report.error = f"{error.ename}: {error.evalue}"
        except (DeadKernelError, RuntimeError) as error:
            report.error = f"the kernel failed: {error}"
        finally:
            report.seconds = time.monotonic() - started
            write(content, output)
    return report


def summary(report: Report) -> Table:
    """Return a table of what became of each cell."""
    table = Table(Column("cell", justify="right"), "what", Column("seconds", justify="right"), "begins with", "error")
    for cell in report.cells:
        colour = _COLOURS[cell.state]
        seconds = f"{cell.seconds:.2f}" if cell.state in ("ran", "failed") else ""
        table.add_row(str(cell.place), f"[{colour}]{cell.state}[/]", seconds, plain(cell.line), plain(cell.error))
    return table


class _Client(NotebookClient):
    """An nbclient that tells how far it has come."""

    def __init__(
        self, content: Any, output: Path, report: Report, places: list[int], show: _Show, **options: Any
    ) -> None:
        super().__init__(content, **options)
        self._output, self._report, self._show = output, report, show
        self._cells = dict(zip(places, report.cells, strict=True))
        self._started = 0.0
        self.on_cell_execute = self._begin
        self.on_cell_executed = self._end

    def _begin(self, cell: Any, cell_index: int) -> None:
        self._started = time.monotonic()
        # The kernel reads there what JupyterLab sends with a cell of its own accord.
        assert self.kc is not None
        self.kc.session.metadata = {"capsule": said} if (said := cell.metadata.get("capsule")) is not None else {}
        known = self._cells.get(cell_index)
        if known is not None:
            self._show.begin(known)

    def _end(self, cell: Any, cell_index: int, execute_reply: Any) -> None:  # noqa: ARG002  # nbclient's
        known = self._cells.get(cell_index)
        if known is None:
            return
        known.seconds = time.monotonic() - self._started
        body = execute_reply["content"]
        if body["status"] == "ok":
            recorded = execute_reply.get("metadata", {}).get("capsule", {}).get("recorded", False)
            known.state = "recorded" if recorded else "ran"
        else:
            known.state = "failed"
            known.error = f"{body.get('ename')}: {str(body.get('evalue', '')).partition(chr(10))[0]}"
        write(self.nb, self._output)
        self._show.end(known)

    def output(self, outs: Any, msg: Any, display_id: Any, cell_index: int) -> Any:
        body = msg.get("content", {})
        if msg.get("msg_type") == "stream" and str(body.get("text", "")).startswith("capsule: "):
            self._show.note(str(body["text"]).strip())
        return super().output(outs, msg, display_id, cell_index)


class _Show:
    """Shows how far a run has come: as a bar in a terminal, line by line elsewhere."""

    def __init__(self, console: Console, progress: Progress | None, task: Any) -> None:
        self._console, self._progress, self._task = console, progress, task

    def begin(self, cell: CellReport) -> None:
        if self._progress is not None:
            self._progress.update(self._task, line=plain(cell.line[:60]))

    def end(self, cell: CellReport) -> None:
        if self._progress is not None:
            self._progress.advance(self._task)
        else:
            taken = f" ({cell.seconds:.2f} s)" if cell.state != "recorded" else ""
            self._console.print(plain(f"cell {cell.place}: {cell.state}{taken} {cell.error}".rstrip()))

    def note(self, text: str) -> None:
        self._console.print(plain(text))


@contextlib.contextmanager
def _progress(console: Console, total: int) -> Iterator[_Show]:
    if not console.is_terminal:
        yield _Show(console, None, None)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[line]}"))
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Show(console, progress, progress.add_task("", total=total, line="the kernel starts"))


def _read(path: Path) -> Any:
    try:
        return nbformat.read(path, as_version=4)
    except OSError as error:
        raise NotebookUnreadable(f"{path} cannot be read: {error.strerror}") from error
    # nbformat raises many things for what is no notebook.
    except Exception as error:
        raise NotebookUnreadable(f"{path} is no notebook: {type(error).__name__}: {error}") from error


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise WrongUsage(f"--param takes NAME=VALUE, not {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _inject(content: Any, parameters: dict[str, Any]) -> None:
    """Put a cell with parameters behind the one with the tag ``parameters``, or before all (as papermill does)."""
    source = "# Parameters\n" + "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters"]})
    tagged = [index for index, one in enumerate(content.cells) if "parameters" in one.metadata.get("tags", [])]
    content.cells.insert(tagged[0] + 1 if tagged else 0, cell)
