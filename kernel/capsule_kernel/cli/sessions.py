"""What ``capsule`` tells of sessions: which there are, what their cells showed, and what happened in them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from capsule_durable.errors import CapsuleError
from capsule_durable.text import coloured, visible
from capsule_kernel.console.terminal import plain, print_json, print_table

if TYPE_CHECKING:
    from capsule_durable.config.settings import Settings
    from capsule_durable.history.cells import CellRecord
    from capsule_durable.history.ledger import StoredEvent
    from capsule_durable.storage.sqlite import Database

# As in `cli`, every command imports what it needs.

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Session = Annotated[str, typer.Argument(metavar="SESSION", help="Its id, or its notebook, for the latest one.")]
_STATES = {"resolved": "green", "pending": "yellow"}
#: Seconds between two looks at the ledger.
_LOOK = 0.5


class NothingKept(CapsuleError):
    """There is nothing of what was asked for."""


def add_to(app: typer.Typer) -> None:
    """Add the words to a command."""
    examples: dict[Callable[..., None], str] = {
        sessions: "capsule sessions --json",
        cells: "capsule cells analysis.ipynb",
        tree: "capsule tree analysis.ipynb --cell 3",
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
    """List the cells of a session: how they ended, when, and after how long."""
    found = _cells(session, None)
    if as_json:
        print_json(
            [
                {
                    "execution": cell.execution_id,
                    "cell": cell.number,
                    "status": cell.status,
                    "started": cell.started,
                    "ended": cell.ended,
                    "code": cell.code,
                }
                for cell in found
            ]
        )
        return
    colours = {"ok": "green"}
    print_table(
        ["cell", "status", "began", "seconds", "code"],
        [
            [
                f"In \\[{cell.number}]",
                f"[{colours.get(cell.status, 'red')}]{plain(cell.status)}[/]",
                time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(cell.started)),
                f"{cell.ended - cell.started:.2f}",
                plain(_first_line(cell.code)),
            ]
            for cell in found
        ],
    )


def tree(
    session: Session,
    cell: Annotated[int | None, typer.Option(min=0, metavar="N", help="Only of In [N]. Default: of all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the promises of a session's cells: each cell's own, its outcome, its inputs."""
    import asyncio

    from capsule_durable.queries import inputs

    found = _cells(session, cell)
    trees = [(one, asyncio.run(inputs.trace(_settings(), one.execution_id))) for one in found]
    if as_json:
        print_json([{"cell": one.number, "promises": [vars(step) for step in steps]} for one, steps in trees])
        return
    from rich.console import Console
    from rich.tree import Tree

    console = Console()
    for one, steps in trees:
        branch = Tree(f"In \\[{one.number}] {plain(_first_line(one.code))}")
        places: dict[str, Tree] = {}
        for step in steps:
            taken = f" {step.settled - step.created:.3f} s" if step.settled is not None else ""
            text = f"{step.what} [dim]{plain(step.id)}[/] [{_STATES.get(step.state, 'red')}]{step.state}[/]{taken}"
            places[step.id] = places.get(step.parent or "", branch).add(text)
        if not steps:
            branch.add("[dim]its promises are not kept any more[/]")
        console.print(branch)


def outputs(
    session: Session,
    cell: Annotated[int | None, typer.Option(min=0, metavar="N", help="Only of In [N]. Default: of all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print what the cells of a session showed, also where nobody was looking."""
    from capsule_kernel.cli.notebook_files import as_text, jupyter_outputs

    found = _cells(session, cell)
    if as_json:
        print_json([{"cell": one.number, "outputs": jupyter_outputs(one.outputs)} for one in found])
        return
    for one in found:
        print(f"In [{one.number}]: {visible(_first_line(one.code))}")
        print(coloured(as_text(one.outputs)))


def export(
    session: Session,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The notebook to write.")],
    force: Annotated[bool, typer.Option("--force", help="Also in place of a file that is there.")] = False,
) -> None:
    """Write the cells of a session, with what they showed, as a notebook."""
    from capsule_kernel.cli.notebook_files import notebook_of, write

    if output.exists() and not force:
        raise CapsuleError(f"{output} is there; --force replaces it")
    found = _cells(session, None)
    write(notebook_of(found), output)
    print(f"Wrote {len(found)} cells to {output}")


def log(
    session: Annotated[
        str | None, typer.Argument(metavar="[SESSION]", help="Its id, or its notebook. Default: all.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until you stop it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the ledger: what happened, in order. As JSON, one object a line."""
    from capsule_durable.history.ledger import Ledger

    of = _session_id(session) if session is not None else None
    with _database() as database:
        ledger, last = Ledger(database), 0
        while True:
            for event in ledger.events(of, last):
                last = event.n
                _print_event(event, as_json)
            if not follow:
                return
            time.sleep(_LOOK)


def verify(as_json: AsJson = False) -> None:
    """Check the ledger from its first record to its last, and name the first that was changed or is missing."""
    from capsule_durable.history.ledger import Ledger

    with _database() as database:
        count, fault = Ledger(database).verify()
    if as_json:
        print_json({"ok": fault is None, "records": count, "fault": vars(fault) if fault is not None else None})
    elif fault is None:
        print(f"The ledger is whole: {count} records.")
    else:
        print(f"The ledger is broken: {fault.text}. The {count} before it are right.")
    if fault is not None:
        raise typer.Exit(1)


def _print_event(event: StoredEvent, as_json: bool) -> None:
    import json

    if as_json:
        print(json.dumps(vars(event)), flush=True)
        return
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at))
    facts = " ".join(f"{name}={value}" for name, value in event.data.items() if value is not None)
    print(f"{event.n:6} {when} {event.session_id} {event.actor}: {event.type} {visible(facts)}".rstrip(), flush=True)


def _first_line(code: str) -> str:
    lines = [line for line in code.splitlines() if line.strip()]
    return lines[0][:80] if lines else ""


def _cells(session: str, number: int | None) -> list[CellRecord]:
    from capsule_durable.history.cells import CellStore

    of = _session_id(session)
    with _database() as database:
        found = CellStore(database).of_session(of, number)
    if not found:
        what = f"no cell In [{number}]" if number is not None else "no cell"
        raise NothingKept(f"session {of} has {what} that has ended")
    return found


def _session_id(reference: str) -> str:
    from capsule_durable.checkpoints.models import resolve_session
    from capsule_kernel.cli.checkpoints import open_catalogue

    with open_catalogue() as catalogue:
        rows = catalogue.sessions() if catalogue is not None else []
    return resolve_session(reference, rows).id


@contextlib.contextmanager
def _database() -> Iterator[Database]:
    from capsule_durable.history.schema import FILE, SCHEMA
    from capsule_durable.storage.sqlite import Database

    path = Path(_settings().home) / FILE
    if not path.exists():
        raise NothingKept(f"nothing is kept yet: there is no {path}")
    database = Database(path, SCHEMA)
    try:
        yield database
    finally:
        database.close()


def _settings() -> Settings:
    from capsule_durable.config.settings import load

    return load(os.environ, {}, Path.cwd())[0]
