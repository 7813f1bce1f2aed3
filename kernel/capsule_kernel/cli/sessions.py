"""Commands about sessions: list them, their cells and outputs, and the events of the ledger."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from capsule_durable.errors import CapsuleError
from capsule_durable.text import coloured, visible
from capsule_kernel.cli.config import home, settings
from capsule_kernel.console.json_output import AsJson, print_json, with_schema
from capsule_kernel.console.terminal import first_line, plain, print_table

if TYPE_CHECKING:
    from capsule_durable.history.ledger import StoredEvent

# Each command imports what it needs.

Session = Annotated[str, typer.Argument(metavar="SESSION", help="Its id, or its notebook for the latest one.")]
CellNumber = Annotated[int | None, typer.Option(min=0, metavar="N", help="Only In [N]. Default: all cells.")]
_STATES = {"ok": "green", "resolved": "green", "pending": "yellow"}
#: Seconds between two reads of the ledger.
_POLL_INTERVAL = 0.5


def add_to(app: typer.Typer) -> None:
    """Add the commands.

    Args:
        app: where to add them.
    """
    examples: dict[Callable[..., None], str] = {
        sessions: "capsule sessions --json",
        cells: "capsule cells analysis.ipynb",
        trace: "capsule trace analysis.ipynb --cell 3",
        outputs: "capsule outputs analysis.ipynb --cell 3",
        export: "capsule export 1m7yj0pgy8pp9 -o recovered.ipynb",
        log: "capsule log analysis.ipynb --follow",
        verify: "capsule verify",
    }
    for command, example in examples.items():
        app.command(epilog=f"For example: {example}", rich_help_panel="Sessions")(command)


def sessions(as_json: AsJson = False) -> None:
    """List kernel sessions, newest first."""
    from capsule_durable.queries.sessions import SessionList, session_list
    from capsule_kernel.cli.checkpoints import open_catalogue, print_answer

    with open_catalogue() as catalogue:
        print_answer(session_list(catalogue) if catalogue is not None else SessionList(sessions=[]), as_json)


def cells(session: Session, as_json: AsJson = False) -> None:
    """List the cells of a session: their state, start and duration."""
    from capsule_durable.queries import cells

    found = cells.list_cells(home(), _session_id(session))
    if as_json:
        print_json({"cells": [cell.model_dump() for cell in found]}, "cells")
        return
    print_table(
        ["cell", "state", "started", "seconds", "code"],
        [
            [
                f"In \\[{cell.number}]",
                f"[{_STATES.get(cell.state, 'red')}]{cell.state}[/]",
                _time(cell.started),
                f"{cell.ended - cell.started:.2f}",
                plain(first_line(cell.code)),
            ]
            for cell in found
        ],
    )


def trace(session: Session, cell: CellNumber = None, as_json: AsJson = False) -> None:
    """Show the promises of the cells of a session: the cell's own, its outcome, its inputs."""
    import asyncio

    from capsule_durable.queries import cells

    directory = home()
    found = [
        (record, asyncio.run(cells.list_promises(settings(), record.execution_id)))
        for record in cells.read_cells(directory, _session_id(session), cell)
    ]
    if as_json:
        traces = [{"cell": one.number, "promises": [step.model_dump() for step in steps]} for one, steps in found]
        print_json({"traces": traces}, "traces")
        return
    from rich.console import Console
    from rich.tree import Tree

    console = Console()
    for record, steps in found:
        tree = Tree(f"In \\[{record.number}] {plain(first_line(record.code))}")
        branches: dict[str, Tree] = {}
        for step in steps:
            seconds = f" {step.settled - step.created:.3f} s" if step.settled is not None else ""
            text = f"{step.kind} [dim]{plain(step.id)}[/] [{_STATES.get(step.state, 'red')}]{step.state}[/]{seconds}"
            branches[step.id] = branches.get(step.parent or "", tree).add(text)
        if not steps:
            tree.add("[dim]its promises have expired[/]")
        console.print(tree)


def outputs(session: Session, cell: CellNumber = None, as_json: AsJson = False) -> None:
    """Print the recorded outputs of the cells of a session."""
    from capsule_durable.queries.cells import read_cells
    from capsule_kernel.cli.notebook_files import as_text, jupyter_outputs

    found = read_cells(home(), _session_id(session), cell)
    if as_json:
        print_json(
            {"cells": [{"cell": one.number, "outputs": jupyter_outputs(one.outputs)} for one in found]}, "outputs"
        )
        return
    for one in found:
        print(f"In [{one.number}]: {visible(first_line(one.code))}")
        print(coloured(as_text(one.outputs)))


def export(
    session: Session,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The notebook to write.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write the cells of a session with their outputs as a notebook."""
    from capsule_durable.queries.cells import read_cells
    from capsule_kernel.cli.notebook_files import notebook_of, write

    if output.exists() and not force:
        raise CapsuleError(f"{output} already exists (use --force to overwrite).")
    found = read_cells(home(), _session_id(session))
    write(notebook_of(found), output)
    print(f"Wrote {output}: {len(found)} cells")


def log(
    session: Annotated[
        str | None, typer.Argument(metavar="[SESSION]", help="Its id, or its notebook. Default: all sessions.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Also print new events, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the events of the ledger in their order; with --json, one object a line."""
    from capsule_durable.queries.events import list_events

    directory, last = home(), 0
    session_id = _session_id(session) if session is not None else None
    while True:
        for event in list_events(directory, session_id, last):
            last = event.n
            _print_event(event, as_json)
        if not follow:
            return
        time.sleep(_POLL_INTERVAL)


def verify(as_json: AsJson = False) -> None:
    """Check the hash chain of the ledger, and name the first event that was changed or is missing."""
    from capsule_durable.queries import events

    count, broken = events.verify(home())
    if as_json:
        print_json({"ok": broken is None, "events": count, "break": vars(broken) if broken else None}, "verification")
    elif broken is None:
        print(f"The ledger is intact: {count} events.")
    else:
        print(f"The ledger is broken: {broken.text}. The {count} events before it are intact.")
    if broken is not None:
        raise typer.Exit(1)


def _print_event(event: StoredEvent, as_json: bool) -> None:
    if as_json:
        print(json.dumps(with_schema("event", vars(event))), flush=True)
        return
    facts = " ".join(f"{name}={value}" for name, value in event.data.items() if value is not None)
    line = f"{event.n:6} {_time(event.at)} {event.session_id} {event.actor}: {event.type} {visible(facts)}"
    print(line.rstrip(), flush=True)


def _session_id(reference: str) -> str:
    from capsule_durable.checkpoints.models import resolve_session
    from capsule_kernel.cli.checkpoints import open_catalogue

    with open_catalogue() as catalogue:
        rows = catalogue.sessions.all() if catalogue is not None else []
    return resolve_session(reference, rows).id


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
