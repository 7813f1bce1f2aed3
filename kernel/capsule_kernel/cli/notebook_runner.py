"""Executes a notebook from its beginning, under an id with which it can be continued after an interruption."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import nbformat
from jupyter_core.utils import ensure_async
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from capsule_durable.errors import CapsuleError
from capsule_kernel.cli import kernelspec
from capsule_kernel.cli.notebook_files import write
from capsule_kernel.console.terminal import WrongUsage, first_line, plain

type State = Literal["ran", "replayed", "failed", "interrupted", "not run"]

#: Seconds that an interrupted cell may take to end before its kernel is ended.
INTERRUPT_TIMEOUT = 10.0
_COLOURS: dict[State, str] = {
    "ran": "green",
    "replayed": "cyan",
    "failed": "red",
    "interrupted": "yellow",
    "not run": "dim",
}


class NotebookUnreadable(CapsuleError):
    """The file is not a notebook, or cannot be read. The message says why."""


@dataclass
class CellReport:
    """The result of a cell of the notebook.

    Args:
        place: its position among the cells with code, counted from 1.
        line: its first line.
        state: its state.
        seconds: how long it took, replaying included.
        error: name and first line of its exception; empty if there is none.
    """

    place: int
    line: str
    state: State = "not run"
    seconds: float = 0.0
    error: str = ""


@dataclass
class Report:
    """The result of a run.

    Args:
        id: names the run.
        notebook: path of the notebook.
        output: path of the notebook with the outputs.
        command: the command that continues the run.
        cells: the results of its cells.
        seconds: how long the run took.
        error: why it has ended early; empty if all of it was executed.
        is_interrupted: whether it was interrupted by Ctrl-C or SIGTERM.
    """

    id: str
    notebook: str
    output: str
    command: str
    cells: list[CellReport] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""
    is_interrupted: bool = False

    @property
    def state(self) -> Literal["done", "failed", "interrupted"]:
        """``done`` if all cells were executed and have succeeded."""
        if not self.error and all(cell.state in ("ran", "replayed") for cell in self.cells):
            return "done"
        return "interrupted" if self.is_interrupted else "failed"

    def count(self, state: State) -> int:
        """Return how many cells are in a state.

        Args:
            state: the state.
        """
        return sum(cell.state == state for cell in self.cells)

    def to_dict(self) -> dict[str, Any]:
        """Return the report in its JSON form."""
        return {
            "id": self.id,
            "ok": self.state == "done",
            "state": self.state,
            "notebook": self.notebook,
            "output": self.output,
            "command": self.command,
            "seconds": self.seconds,
            "error": self.error or None,
            "cells": [vars(cell) for cell in self.cells],
        }


def new_run_id() -> str:
    """Return a new id for a run."""
    return uuid.uuid4().hex[:12]


def run(
    notebook: Path,
    output: Path,
    *,
    run_id: str,
    command: str,
    parameters: Sequence[str],
    kernel: str,
    settings: dict[str, str],
    console: Console,
) -> Report:
    """Execute a notebook. The output file is written after each cell.

    SIGINT and SIGTERM interrupt the running cell; the output file is complete and the report says so. A second signal,
    and one before the kernel is ready, ends the kernel at once.

    Args:
        notebook: its path.
        output: path of the notebook with the outputs.
        run_id: the id of the run.
        command: the command that continues the run.
        parameters: ``NAME=VALUE``, with a JSON value or a text.
        kernel: name of the kernelspec.
        settings: environment variables of the kernel, in addition to those of this process.
        console: where to show the progress.

    Raises:
        WrongUsage: a parameter cannot be used, or no kernel has this name.
        NotebookUnreadable: the file is not a notebook, or cannot be read.
    """
    content = _read(notebook)
    given = dict(_parameter(text) for text in parameters)
    if given:
        _inject(content, given)
    known = kernelspec.names()
    if kernel not in known:
        raise WrongUsage(f'No kernel named "{kernel}" (choose from {", ".join(known)}).')
    report = Report(run_id, str(notebook), str(output), command)
    places = [index for index, cell in enumerate(content.cells) if cell.cell_type == "code" and cell.source.strip()]
    report.cells = [CellReport(place, first_line(content.cells[index].source)) for place, index in enumerate(places, 1)]
    started_text = f"Run {run_id} started. To continue it after an interruption: {command}"
    console.print(plain(started_text), highlight=False, soft_wrap=True)
    environment = {
        **os.environ,
        # Jupyter Server sets it, too.
        "JPY_SESSION_NAME": str(notebook.resolve()),
        **settings,
        "CAPSULE_RUN_ID": run_id,
    }
    started = time.monotonic()
    with _progress(console, len(places)) as progress:
        client = _Client(content, output, report, places, progress, kernel_name=kernel, timeout=None)
        client.resources = {"metadata": {"path": str(notebook.parent.resolve())}}
        try:
            asyncio.run(client.execute_until_signal(environment))
        except CellExecutionError as error:
            report.error = f"{error.ename}: {error.evalue}"
        except (_Interrupted, asyncio.CancelledError):
            report.error = "the run was interrupted"
        except (DeadKernelError, RuntimeError) as error:
            report.error = f"the kernel failed: {error}"
        finally:
            report.seconds = time.monotonic() - started
            write(content, output)
    return report


def summary(report: Report) -> Table:
    """Return a table of the results of all cells.

    Args:
        report: the result of the run.
    """
    table = Table(Column("cell", justify="right"), "state", Column("seconds", justify="right"), "code", "error")
    for cell in report.cells:
        colour = _COLOURS[cell.state]
        seconds = f"{cell.seconds:.2f}" if cell.state in ("ran", "failed", "interrupted") else ""
        table.add_row(str(cell.place), f"[{colour}]{cell.state}[/]", seconds, plain(cell.line), plain(cell.error))
    return table


def last_line(report: Report) -> str:
    """Return the line that sums up a run.

    Args:
        report: the result of the run.
    """
    counts = f"{report.count('ran')} run, {report.count('replayed')} replayed, {report.count('failed')} failed"
    more = [f"{report.count(state)} {state}" for state in ("interrupted", "not run") if report.count(state)]
    return f"Wrote {report.output}: {', '.join([counts, *more])} in {report.seconds:.1f} s"


class _Interrupted(Exception):
    """A signal has interrupted the run between two cells."""


class _Client(NotebookClient):
    """An nbclient that reports its progress and that signals interrupt."""

    def __init__(
        self, content: Any, output: Path, report: Report, places: list[int], progress: _Progress, **options: Any
    ) -> None:
        super().__init__(content, **options)
        self._output, self._report, self._progress = output, report, progress
        self._cells = dict(zip(places, report.cells, strict=True))
        self._started = 0.0
        self._task: asyncio.Task[Any] | None = None
        self._interrupting: asyncio.Task[None] | None = None
        self._cell_ended = asyncio.Event()
        self.on_cell_execute = self._begin
        self.on_cell_executed = self._end

    async def execute_until_signal(self, environment: dict[str, str]) -> None:
        """Execute the notebook.

        Args:
            environment: the environment of the kernel.

        Raises:
            _Interrupted, asyncio.CancelledError: a signal has ended the run.
        """
        self._task = asyncio.current_task()
        try:
            await self.async_execute(env=environment)
        except asyncio.CancelledError:
            # nbclient ends a kernel only once it is ready.
            if self.km is not None:
                await self._async_cleanup_kernel()
            raise
        finally:
            if self._interrupting is not None:
                self._interrupting.cancel()

    async def async_start_new_kernel(self, **options: Any) -> None:
        """Start the kernel; from here on, signals interrupt the run and not just end the kernel."""
        with contextlib.suppress(RuntimeError):  # not the main thread
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, self._on_signal)
        await super().async_start_new_kernel(**options)

    def _on_signal(self) -> None:
        assert self._task is not None
        if self._report.is_interrupted or self.kc is None:
            self.shutdown_kernel = "immediate"
            self._task.cancel()
        else:
            self._interrupting = asyncio.get_running_loop().create_task(self._interrupt(self._task))
        self._report.is_interrupted = True

    async def _interrupt(self, run: asyncio.Task[Any]) -> None:
        """Interrupt the running cell, and end the kernel if that does not end the cell."""
        assert self.km is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INTERRUPT_TIMEOUT):
                await ensure_async(self.km.interrupt_kernel())
                await self._cell_ended.wait()
                return
        run.cancel()

    def _begin(self, cell: Any, cell_index: int) -> None:
        if self._report.is_interrupted:
            raise _Interrupted
        self._started = time.monotonic()
        self._cell_ended.clear()
        # JupyterLab sends these metadata with each cell by itself.
        assert self.kc is not None
        options = cell.metadata.get("capsule")
        self.kc.session.metadata = {"capsule": options} if options is not None else {}
        known = self._cells.get(cell_index)
        if known is not None:
            self._progress.begin(known)

    def _end(self, cell: Any, cell_index: int, execute_reply: Any) -> None:  # noqa: ARG002  # nbclient's
        self._cell_ended.set()
        known = self._cells.get(cell_index)
        if known is None:
            return
        known.seconds = time.monotonic() - self._started
        body = execute_reply["content"]
        if body["status"] == "ok":
            is_replayed = execute_reply.get("metadata", {}).get("capsule", {}).get("recorded", False)
            known.state = "replayed" if is_replayed else "ran"
        else:
            known.state = "interrupted" if self._report.is_interrupted else "failed"
            known.error = f"{body.get('ename')}: {first_line(str(body.get('evalue', '')), 1000)}"
        write(self.nb, self._output)
        self._progress.end(known)

    def output(self, outs: Any, msg: Any, display_id: Any, cell_index: int) -> Any:
        """Show the notes of the kernel; everything else is nbclient's."""
        body = msg.get("content", {})
        if msg.get("msg_type") == "stream" and str(body.get("text", "")).startswith("capsule: "):
            self._progress.note(str(body["text"]).strip())
        return super().output(outs, msg, display_id, cell_index)


class _Progress:
    """Shows the progress of a run: as a bar in a terminal, line by line elsewhere."""

    def __init__(self, console: Console, bar: Progress | None, task: Any) -> None:
        self._console, self._bar, self._task = console, bar, task

    def begin(self, cell: CellReport) -> None:
        if self._bar is not None:
            self._bar.update(self._task, line=plain(cell.line[:60]))

    def end(self, cell: CellReport) -> None:
        if self._bar is not None:
            self._bar.advance(self._task)
        else:
            seconds = f" ({cell.seconds:.2f} s)" if cell.state != "replayed" else ""
            self._console.print(plain(f"cell {cell.place}: {cell.state}{seconds} {cell.error}".rstrip()))

    def note(self, text: str) -> None:
        self._console.print(plain(text), soft_wrap=True)


@contextlib.contextmanager
def _progress(console: Console, total: int) -> Iterator[_Progress]:
    if not console.is_terminal:
        yield _Progress(console, None, None)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[line]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Progress(console, bar, bar.add_task("", total=total, line="starting the kernel"))


def _read(path: Path) -> Any:
    try:
        return nbformat.read(path, as_version=4)
    except OSError as error:
        raise NotebookUnreadable(f"Cannot read {path}: {error.strerror}.") from error
    # nbformat raises many types for files that are not notebooks.
    except Exception as error:
        raise NotebookUnreadable(f"{path} is not a notebook: {type(error).__name__}: {error}") from error


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise WrongUsage(f'--param needs NAME=VALUE, not "{text}".')
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _inject(content: Any, parameters: dict[str, Any]) -> None:
    """Insert a cell with parameters after the cell with the tag ``parameters``, or before all cells, like papermill."""
    source = "# Parameters\n" + "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters"]})
    tagged = [index for index, one in enumerate(content.cells) if "parameters" in one.metadata.get("tags", [])]
    content.cells.insert(tagged[0] + 1 if tagged else 0, cell)
