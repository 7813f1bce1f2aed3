"""The command ``capsule run``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from capsule_kernel.console.terminal import plain, print_json

# As in `cli`, every command imports what it needs.


class OnInput(StrEnum):
    """What ``input()`` does in a run."""

    WAIT = "wait"
    FAIL = "fail"


def add_to(app: typer.Typer) -> None:
    """Add the word to a command."""
    app.command(
        epilog="For example: capsule run report.ipynb -o done.ipynb --id nightly --param month=3 --retries 2",
        rich_help_panel="Batch",
    )(run)


def run(
    notebook: Annotated[Path, typer.Argument(metavar="NOTEBOOK", help="The notebook; it stays as it is.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Default: NOTEBOOK with .out before .ipynb.")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--id", metavar="RUN", help="Go on with this run, or begin it. Default: a new one.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A variable to set; JSON, or else a text.")
    ] = None,
    retries: Annotated[int, typer.Option(min=0, help="How often a cell that fails is tried again.")] = 0,
    timeout: Annotated[float | None, typer.Option(min=0.001, help="How long a cell may run, in seconds.")] = None,
    on_input: Annotated[OnInput, typer.Option(help="Let input() wait for `capsule answer`, or fail.")] = OnInput.WAIT,
    kernel: Annotated[str, typer.Option(help="Name of the kernelspec.")] = "capsule",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Execute a notebook from its beginning. With the id of a run that stopped, go on where it stopped.

    Cells that have succeeded come back with what they showed, and the variables with them; a cell that was changed, and
    those behind it, run again. Exit status: 0 all cells succeeded, 1 one failed or the kernel did, 2 wrong usage.
    """
    from rich.console import Console

    from capsule_kernel.cli import notebook_runner

    settings = {"CAPSULE_RETRIES": str(retries), "CAPSULE_ON_INPUT": on_input.value}
    if timeout is not None:
        settings["CAPSULE_EXECUTION_TIMEOUT"] = str(timeout)
    console = Console(stderr=True)
    report = notebook_runner.run(
        notebook,
        output or notebook.with_suffix(f".out{notebook.suffix}"),
        run_id=run_id,
        parameters=param or [],
        kernel=kernel,
        settings=settings,
        console=console,
    )
    if as_json:
        print_json(report.to_dict())
    else:
        console.print(notebook_runner.summary(report))
        if report.error:
            console.print(f"[red]{plain(report.error.splitlines()[0])}[/]", highlight=False)
        print(report.output)
    if not report.ok:
        raise typer.Exit(1)
