"""``capsule run`` and ``capsule runs``: execute a notebook under an id, and list such runs."""

from __future__ import annotations

import shlex
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from capsule_kernel.cli.config import home
from capsule_kernel.console.json_output import AsJson, print_json
from capsule_kernel.console.terminal import plain, print_table

# Each command imports what it needs.

#: Exit status of a run that Ctrl-C or SIGTERM has ended.
_INTERRUPTED = 130


class OnInput(StrEnum):
    """What ``input()`` does in a run."""

    WAIT = "wait"
    FAIL = "fail"


def add_to(app: typer.Typer) -> None:
    """Add the commands.

    Args:
        app: where to add them.
    """
    app.command(
        epilog="For example: capsule run report.ipynb -o done.ipynb --id nightly --param month=3 --retries 2",
        rich_help_panel="Batch",
    )(run)
    app.command(epilog="For example: capsule runs --json", rich_help_panel="Batch")(runs)


def run(
    notebook: Annotated[Path, typer.Argument(metavar="NOTEBOOK", help="The notebook; it is not changed.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Default: NOTEBOOK with .out before .ipynb.")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--id", metavar="RUN", help="Continue this run, or start it. Default: a new id.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A variable to set; the value is JSON or else text.")
    ] = None,
    retries: Annotated[int, typer.Option(min=0, help="How often to retry a cell that fails.")] = 0,
    timeout: Annotated[float | None, typer.Option(min=0.001, help="Time limit of a cell in seconds.")] = None,
    on_input: Annotated[OnInput, typer.Option(help="Let input() wait for `capsule answer`, or fail.")] = OnInput.WAIT,
    kernel: Annotated[str, typer.Option(help="Name of the kernel.")] = "capsule",
    as_json: AsJson = False,
) -> None:
    """Execute a notebook from its beginning, or continue a run after an interruption.

    Cells that have succeeded are replayed: their outputs and variables are restored. A cell that was changed, and the
    cells behind it, run again. Exit status: 0 all cells succeeded, 1 a cell or the kernel failed, 2 wrong usage,
    130 interrupted.
    """
    from rich.console import Console

    from capsule_kernel.cli import notebook_runner

    settings = {"CAPSULE_RETRIES": str(retries), "CAPSULE_ON_INPUT": on_input.value}
    if timeout is not None:
        settings["CAPSULE_EXECUTION_TIMEOUT"] = str(timeout)
    name = run_id or notebook_runner.new_run_id()
    command = ["capsule", "run", str(notebook), "--id", name]
    command += ["--output", str(output)] if output is not None else []
    command += [word for each in param or [] for word in ("--param", each)]
    command += ["--retries", str(retries)] if retries else []
    command += ["--timeout", str(timeout)] if timeout is not None else []
    command += ["--on-input", on_input.value] if on_input is not OnInput.WAIT else []
    command += ["--kernel", kernel] if kernel != "capsule" else []
    console = Console(stderr=True)
    report = notebook_runner.run(
        notebook,
        output or notebook.with_suffix(f".out{notebook.suffix}"),
        run_id=name,
        command=shlex.join(command),
        parameters=param or [],
        kernel=kernel,
        settings=settings,
        console=console,
    )
    if as_json:
        print_json(report.to_dict(), "run")
    else:
        console.print(notebook_runner.summary(report))
        if report.error:
            console.print(f"[red]{plain(report.error.splitlines()[0])}[/]", highlight=False, soft_wrap=True)
        print(notebook_runner.last_line(report))
    if report.state == "interrupted":
        console.print(plain(f"Interrupted. To continue: {report.command}"), highlight=False, soft_wrap=True)
        raise typer.Exit(_INTERRUPTED)
    if report.state != "done":
        raise typer.Exit(1)


def runs(as_json: AsJson = False) -> None:
    """List the runs, newest first."""
    from capsule_durable.queries.runs import list_runs

    found = list_runs(home())
    if as_json:
        print_json({"runs": [one.model_dump() for one in found]}, "runs")
        return
    if not found:
        print("No runs.")
        return
    colours = {"done": "green", "running": "yellow", "stopped": "yellow"}
    print_table(
        ["id", "state", "started", "cells that succeeded"],
        [
            [
                plain(one.id),
                f"[{colours.get(one.state, 'red')}]{one.state}[/]",
                time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.started)),
                f"{one.done} of {one.cells} executed",
            ]
            for one in found
        ],
    )
