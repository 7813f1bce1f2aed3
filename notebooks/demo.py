"""Shows the main feature on real notebooks: run them, kill their workers, and continue with their variables.

``make demo`` runs this. It writes the executed notebooks, also as HTML pages, to ``out/``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

HERE = Path(__file__).parent
ANSWER = "Ada"
#: Seconds that each step of the demo may take.
TIMEOUT = 90.0
KILL = "import os\nprint('about to die')\nos.kill(os.getpid(), 9)"
ALIVE = "f'{len(rides):,} hours of rides are still here'"


class AnsweringClient(NotebookClient):
    """Runs a notebook and answers its inputs, like a person at the keyboard."""

    console: Console

    async def async_execute_cell(self, cell: NotebookNode, cell_index: int, *args: Any, **kwargs: Any) -> NotebookNode:
        """Run one cell, and print a line about it."""
        if cell.cell_type != "code":
            return await super().async_execute_cell(cell, cell_index, *args, **kwargs)
        started = time.monotonic()
        self.allow_errors = "raises-exception" in cell.metadata.get("tags", [])
        assert self.kc is not None
        # nbclient tells the kernel that it cannot answer inputs; this client can.
        self.kc.allow_stdin = True
        answering = asyncio.ensure_future(self._answer())
        try:
            executed = await super().async_execute_cell(cell, cell_index, *args, **kwargs)
        finally:
            answering.cancel()
        first = cell.source.strip().splitlines()[0][:52]
        number = f"[{cell.execution_count}]"
        self.console.print(f"  {escape(number):>7}  {escape(first):<54} {time.monotonic() - started:6.2f} s")
        return executed

    # The base class binds its own.
    execute_cell = run_sync(async_execute_cell)

    async def _answer(self) -> None:
        assert self.kc is not None
        while True:
            request = await self.kc.stdin_channel.get_msg()
            if request["header"]["msg_type"] == "input_request":
                self.console.print(f"           the notebook asks: {request['content']['prompt']}[bold]{ANSWER}[/]")
                self.kc.input(ANSWER)


def main() -> int:
    """Run the demo; return 0 if everything was as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel", default="capsule", help="kernel to use (default: capsule)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="where the results go (default: out)")
    arguments = parser.parse_args()
    if sys.platform != "linux":
        print("The demo needs Linux, as the kernel does.", file=sys.stderr)
        return 1
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 80)
    arguments.out.mkdir(parents=True, exist_ok=True)
    # What the demo saves is nothing that its user wants to find among their own.
    os.environ.setdefault("CAPSULE_HOME", os.fspath(arguments.out.absolute() / "home"))

    failures = _quickstart(console, arguments.kernel, arguments.out)
    failures += _checkpoints(console, arguments.kernel, arguments.out)
    failures += _batch(console, arguments.kernel, arguments.out)
    failures += _question(console, arguments.kernel, arguments.out)
    for failure in failures:
        console.print(f"[red]  unexpected: {escape(failure)}[/]")
    console.print("[red]The demo failed.[/]" if failures else "[green]Everything went as it should.[/]")
    return 1 if failures else 0


def _quickstart(console: Console, kernel: str, out: Path) -> list[str]:
    """Run the first notebook, kill its worker, and continue; return the problems."""
    notebook = nbformat.read(HERE / "quickstart.ipynb", as_version=4)
    client = AnsweringClient(notebook, timeout=120, kernel_name=kernel)
    client.console = console
    console.rule("[bold]1  A notebook, from its first cell to its last")
    with client.setup_kernel():
        _run_all(client)
        failures = _check_notebook(notebook) + _check_answer(notebook)
        _save(notebook, "quickstart", out, console)

        console.rule("[bold]2  The same kernel; now a cell kills the process that it runs in")
        died, outputs = _run(client, KILL)
        _show(console, KILL, outputs)
        if died.get("ename") != "WorkerDied" or "SIGKILL" not in str(died.get("evalue")):
            failures.append("the killed cell did not fail with WorkerDied")

        console.rule("[bold]3  The kernel continues with its variables")
        started = time.monotonic()
        reply, outputs = _run(client, ALIVE)
        _show(console, ALIVE, outputs)
        console.print(f"  answered {(time.monotonic() - started) * 1000:.0f} ms after it was sent\n")
        if reply["status"] != "ok" or "8,760 hours" not in _text(outputs):
            failures.append("the cell after the killed one did not work")
    return failures


def _checkpoints(console: Console, kernel: str, out: Path) -> list[str]:
    """Run the notebook about checkpoints, and show the crash of its worker and the recovery; return the problems."""
    notebook = nbformat.read(HERE / "checkpoints.ipynb", as_version=4)
    client = AnsweringClient(notebook, timeout=120, kernel_name=kernel)
    client.console = console
    console.rule("[bold]4  Checkpoints: names, differences, undo, and a crash")
    with client.setup_kernel():
        _run_all(client)
    failures = _check_notebook(notebook)
    _save(notebook, "checkpoints", out, console)

    console.rule("[bold]5  Some of its outputs")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell, after in pairwise(code):
        if cell.source.startswith(("%capsule diff", "%capsule undo")):
            _show(console, cell.source, cell.outputs)
            console.print()
        elif "raises-exception" in cell.metadata.get("tags", []):
            for one in (cell, after):
                _show(console, one.source, one.outputs)
                console.print()
            if "WorkerDied" not in _text(cell.outputs) or "still the same list: True" not in _text(after.outputs):
                failures.append("the variables were not restored")
    return failures


def _batch(console: Console, kernel: str, out: Path) -> list[str]:
    """Kill a batch run in the middle, and continue it; return the problems."""
    console.rule("[bold]6  A batch run, killed in its fourth cell with all processes that it started")
    # The notebook runs in its own directory.
    log = (out / "batch.log").absolute()
    log.unlink(missing_ok=True)
    command = [
        *_capsule("run", HERE / "batch.ipynb", "--kernel", kernel, "--id", f"demo-{time.time():.0f}"),
        *("--param", f"ledger={log}", "-o", str(out / "batch.executed.ipynb")),
    ]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + TIMEOUT
    while "charged" not in (log.read_text() if log.exists() else "") and process.poll() is None:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    _kill(process)
    console.print("  killed\n")

    console.rule("[bold]7  The same command again")
    done = subprocess.run(command, check=False)
    console.print(f"  what ran: {', '.join(log.read_text().split())}\n")
    if done.returncode or log.read_text().split() != [
        "prepared",
        "loaded",
        "charged",
        "charged",
        "counted",
        "finished",
    ]:
        return ["the batch run was not continued where it was killed"]
    return []


def _question(console: Console, kernel: str, out: Path) -> list[str]:
    """Answer the input of a batch run from another process; return the problems."""
    console.rule("[bold]8  A batch run requests an input, and another terminal answers it")
    path = out / "human_in_the_loop.executed.ipynb"
    process = subprocess.Popen(_capsule("run", HERE / "human_in_the_loop.ipynb", "--kernel", kernel, "-o", path))
    pending: list[Any] = []
    deadline = time.monotonic() + TIMEOUT
    while not pending and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
        found = subprocess.run(_capsule("pending", "--json"), capture_output=True, text=True, check=False)
        pending = json.loads(found.stdout)["inputs"] if found.returncode == 0 else []
    if not pending:
        _kill(process)
        return ["the batch run did not ask"]
    subprocess.run(_capsule("pending"), check=False)
    subprocess.run(_capsule("answer", pending[0]["id"], "yes"), check=False)
    status = process.wait(TIMEOUT)
    text = "".join(_text(cell.get("outputs", [])) for cell in nbformat.read(path, as_version=4).cells)
    return [] if status == 0 and "approved: A-17, A-18, A-19" in text else ["the answer did not reach the batch run"]


def _capsule(*words: object) -> list[str]:
    """Return the command line of ``capsule`` with some arguments."""
    return [
        sys.executable,
        "-c",
        "import sys; from capsule_kernel.cli.main import main; sys.exit(main())",
        *map(str, words),
    ]


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it has started, at once (Linux)."""
    family = [process.pid]
    for pid in family:
        with contextlib.suppress(OSError):
            for listing in Path(f"/proc/{pid}/task").glob("*/children"):
                family += map(int, listing.read_text().split())
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _run_all(client: AnsweringClient) -> None:
    started = time.monotonic()
    for index, cell in enumerate(client.nb.cells):
        client.execute_cell(cell, index)
    client.console.print(f"\n  {_count(client.nb)} cells in {time.monotonic() - started:.1f} s")


def _run(client: NotebookClient, code: str) -> tuple[dict[str, Any], list[NotebookNode]]:
    """Run one more cell in the client's kernel; return its reply and its outputs."""
    cell = nbformat.v4.new_code_cell(code, metadata={"tags": ["raises-exception"]})
    client.nb.cells.append(cell)
    client.execute_cell(cell, len(client.nb.cells) - 1)
    errors = [output for output in cell.outputs if output.output_type == "error"]
    reply: dict[str, Any] = {"status": "error", **errors[0]} if errors else {"status": "ok"}
    return reply, list(cell.outputs)


def _text(outputs: list[NotebookNode]) -> str:
    parts = []
    for output in outputs:
        if output.output_type == "stream":
            parts.append(output.text)
        elif output.output_type == "error":
            parts.append("\n".join(output.traceback))
        elif "data" in output:
            parts.append(output.data.get("text/plain", ""))
    return "".join(part if part.endswith("\n") else part + "\n" for part in parts)


def _show(console: Console, code: str, outputs: list[NotebookNode]) -> None:
    for line in code.splitlines():
        console.print(f"  [blue]>[/] {escape(line)}")
    for line in _text(outputs).splitlines():
        console.print(Padding(Text.from_ansi(line), (0, 0, 0, 4)))


def _count(notebook: NotebookNode) -> int:
    return sum(cell.cell_type == "code" for cell in notebook.cells)


def _check_notebook(notebook: NotebookNode) -> list[str]:
    """Return what is not as the notebook's author meant it."""
    wrong = []
    for cell in notebook.cells:
        failed = any(output.output_type == "error" for output in cell.get("outputs", []))
        if failed != ("raises-exception" in cell.metadata.get("tags", [])):
            wrong.append(f"the cell that begins with {cell.source.splitlines()[0]!r}")
    return wrong


def _check_answer(notebook: NotebookNode) -> list[str]:
    wrong = []
    text = "".join(_text(cell.get("outputs", [])) for cell in notebook.cells)
    if f"Welcome, {ANSWER}!" not in text:
        wrong.append("the answer did not reach the notebook")
    if not any("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])):
        wrong.append("there is no plot")
    return wrong


def _save(notebook: NotebookNode, name: str, out: Path, console: Console) -> None:
    executed, page = out / f"{name}.executed.ipynb", out / f"{name}.html"
    nbformat.write(notebook, executed)
    body, _ = HTMLExporter().from_notebook_node(notebook)
    page.write_text(body, encoding="utf-8")
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("the executed notebook", os.fspath(executed))
    table.add_row("a page of it", os.fspath(page))
    console.print(table)
    console.print()


if __name__ == "__main__":
    sys.exit(main())
