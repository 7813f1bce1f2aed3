"""What ``capsule`` does with checkpoints: the words of ``%capsule``, for a terminal and for scripts.

Lists, comparisons and removals need no kernel: they read the catalogue. What concerns the variables themselves is done
by the kernel that has them, since only its worker loads what was saved.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from capsule_durable.errors import CapsuleError
from capsule_kernel.cli.config import home
from capsule_kernel.console.json_output import AsJson, print_json
from capsule_kernel.console.terminal import note, plain, print_table

if TYPE_CHECKING:
    from capsule_durable.checkpoints.catalogue import Catalogue
    from capsule_durable.checkpoints.models import SessionRow
    from capsule_durable.checkpoints.tables import Table

# As in `cli`, every command imports what it needs.

OfSession = Annotated[
    str | None, typer.Option(metavar="SESSION", help="Only of this session: its id, or its notebook.")
]
InSession = Annotated[
    str | None, typer.Option(metavar="SESSION", help="In the kernel of this session: its id, or its notebook.")
]
Existing = Annotated[
    str | None, typer.Option(metavar="FILE", help="In the kernel of this connection file, as jupyter console takes it.")
]
Reference = Annotated[str, typer.Argument(metavar="NAME|ID", help="Its name, number, id, or the beginning of the id.")]


class NoKernel(CapsuleError):
    """There is no kernel to do it, or more than one. The message says what to do."""


def add_to(app: typer.Typer) -> None:
    """Add the words to a command."""
    examples: dict[Callable[..., None], str] = {
        status: "capsule status; capsule status analysis.ipynb",
        checkpoints: "capsule checkpoints model --session analysis.ipynb",
        checkpoint: "capsule checkpoint before-join -m 'both tables are clean' --tag clean",
        restore: "capsule restore before-join prices customers",
        undo: "capsule undo 2",
        diff: "capsule diff before-join after-join --json",
        forget: "capsule forget before-join 1a1fd205b97f",
        resume: "capsule resume 1m7yj0pgy8pp9",
        gc: "capsule gc --json",
    }
    for command, example in examples.items():
        app.command(epilog=f"For example: {example}", rich_help_panel="Checkpoints")(command)


def status(
    session: Annotated[
        str | None, typer.Argument(metavar="[SESSION]", help="Its id, or its notebook. Default: all, in short.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what is saved, of which notebooks, and where."""
    from capsule_durable.checkpoints import commands

    with open_catalogue() as catalogue:
        if session is None:
            print_found(commands.sessions(catalogue) if catalogue else commands.NO_SESSIONS, as_json)
            return
        row = _session(_there(catalogue), session)
        print_found(commands.status(_there(catalogue), row, {}), as_json)


def checkpoints(
    query: Annotated[
        list[str] | None, typer.Argument(metavar="[QUERY]...", help="Words in name, description, tags or id.")
    ] = None,
    session: OfSession = None,
    limit: Annotated[int, typer.Option(min=1, help="How many are shown.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List checkpoints, newest first. The exit status is 1 where a query finds none."""
    from capsule_durable.checkpoints import commands

    words = " ".join(query or [])
    with open_catalogue() as catalogue:
        of = _session(_there(catalogue), session).id if session is not None else None
        table = commands.listing(catalogue, words, of, limit) if catalogue else commands.NO_CHECKPOINTS
        print_found(table, as_json)
        if words and not table.rows:
            raise typer.Exit(1)


def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="A checkpoint: its name, number or id.")],
    after: Annotated[
        str | None, typer.Argument(metavar="[B]", help="Another one. Default: the latest of the same session.")
    ] = None,
    session: OfSession = None,
    as_json: AsJson = False,
) -> None:
    """Compare two checkpoints: which variables were added, removed or changed."""
    from capsule_durable.checkpoints import commands

    with open_catalogue() as found:
        catalogue = _there(found)
        of = _session(catalogue, session).id if session is not None else None
        first = catalogue.find(before, of)
        second = catalogue.find(after, of) if after is not None else catalogue.newest(first.session)
        assert second is not None
        print_found(commands.comparison(catalogue, first, second), as_json)


def forget(
    references: Annotated[
        list[str], typer.Argument(metavar="NAME|ID...", help="Names, numbers, ids, or the beginnings of ids.")
    ],
    session: OfSession = None,
    as_json: AsJson = False,
) -> None:
    """Remove checkpoints: all of those that are named, or none."""
    from capsule_durable.checkpoints import commands

    with open_catalogue() as found:
        catalogue = _there(found)
        of = _session(catalogue, session).id if session is not None else None
        print_found(commands.forgetting(catalogue, references, of), as_json)


def checkpoint(
    name: Annotated[str, typer.Argument(help="A name for it.")],
    message: Annotated[str, typer.Option("-m", "--message", metavar="TEXT", help="A description.")] = "",
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A word to find it by; may be repeated.")] = None,
    session: InSession = None,
    existing: Existing = None,
    as_json: AsJson = False,
) -> None:
    """Have a running kernel save its variables under a name."""
    options = [*([f"--message={message}"] if message else []), *(f"--tag={each}" for each in tag or [])]
    _carry_out(["checkpoint", *options, *_positional(name)], session, existing, as_json)


def restore(
    reference: Reference,
    variables: Annotated[
        list[str] | None, typer.Argument(metavar="[VARIABLE]...", help="Only these. Default: all.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove all other variables.")] = False,
    session: InSession = None,
    existing: Existing = None,
    as_json: AsJson = False,
) -> None:
    """Have a running kernel bring back a checkpoint, or some variables of it."""
    options = ["--clear"] if clear else []
    _carry_out(["restore", *options, *_positional(reference, *(variables or []))], session, existing, as_json)


def undo(
    cells: Annotated[int, typer.Argument(metavar="[N]", min=1, help="How many cells.")] = 1,
    session: InSession = None,
    existing: Existing = None,
    as_json: AsJson = False,
) -> None:
    """Have a running kernel go back to the variables before its last N cells."""
    _carry_out(["undo", str(cells)], session, existing, as_json)


def gc(as_json: AsJson = False) -> None:
    """Remove what the settings do not keep: old checkpoints without a name, data that none needs, old sessions."""
    from capsule_durable.checkpoints import commands
    from capsule_durable.checkpoints.retention import Retention
    from capsule_durable.config.sources import load

    settings, _ = load(os.environ, {}, Path.cwd())
    policy = Retention(
        count=settings.checkpoint_count,
        age=settings.checkpoint_days and settings.checkpoint_days * 86400.0,
        size=settings.checkpoint_size,
    )
    with open_catalogue() as catalogue:
        print_found(commands.collecting(catalogue, policy) if catalogue else commands.NOTHING_COLLECTED, as_json)


def resume(
    earlier: Annotated[
        str | None,
        typer.Argument(metavar="[EARLIER]", help="A session's id, or its notebook. Default: this notebook's last one."),
    ] = None,
    session: InSession = None,
    existing: Existing = None,
    as_json: AsJson = False,
) -> None:
    """Have a running kernel go on with the variables of an earlier session."""
    _carry_out(["resume", *([earlier] if earlier is not None else [])], session, existing, as_json)


# -- without a kernel ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_catalogue() -> Iterator[Catalogue | None]:
    """Open the catalogue, None where there is none yet, with all in it that was written."""
    from capsule_durable.checkpoints.catalogue import FILE_NAME, Catalogue
    from capsule_durable.storage.errors import StoreError

    directory = home()
    if not (directory / FILE_NAME).exists():
        yield None
        return
    with Catalogue(directory) as catalogue:
        # A kernel that was killed could not list its last checkpoints. What is listed can be shown in any case.
        try:
            catalogue.incoming.import_all()
        except StoreError as error:
            note(str(error))
        yield catalogue


def _there(catalogue: Catalogue | None) -> Catalogue:
    if catalogue is None:
        raise CapsuleError(f"there are no checkpoints in {home()}; CAPSULE_HOME, or the setting `home`, says where")
    return catalogue


def _session(catalogue: Catalogue, reference: str) -> SessionRow:
    from capsule_durable.checkpoints.models import resolve_session

    return resolve_session(reference, catalogue.sessions.all())


def print_found(table: Table, as_json: bool) -> None:
    """Print a table, for people or for programs."""
    if as_json:
        print_json(table.data)
    elif table.rows and sys.stdout.isatty():
        rows = [[plain(cell) for cell in row] for row in table.rows]
        print_table(table.columns, rows, plain(table.caption))
    else:
        print(table.to_text())


# -- in a kernel ---------------------------------------------------------------------------------------------


def _carry_out(words: Sequence[str], session: str | None, existing: str | None, as_json: bool) -> None:
    """Have the kernel that is meant carry out a command, and print what it shows."""
    from capsule_kernel.cli import kernel_client

    runs: Callable[[], bool] = lambda: True  # noqa: E731  # one of two
    if existing is not None:
        connection_file = kernel_client.existing(existing)
    else:
        connection_file, runs = running_kernel(session)
    # A magic's line is one line.
    line = [" ".join(word.split("\n")) for word in words]
    answer = kernel_client.carry_out(connection_file, line, note, runs)
    if answer.error is not None:
        raise CapsuleError(answer.error)
    if as_json:
        print_json(answer.data)
    else:
        print("\n".join(answer.texts))


def _positional(*words: str) -> list[str]:
    """Return words that are taken for no options, though they may begin with a hyphen."""
    return [*(["--"] if any(word.startswith("-") for word in words) else []), *words]


def running_kernel(reference: str | None) -> tuple[Path, Callable[[], bool]]:
    """Return the connection file of the kernel that is meant, and what says whether that kernel still runs.

    Args:
        reference: its session, or that one's notebook; None for the only one that runs.

    Raises:
        NoKernel: none runs, or several do.
        UnknownSession: there is no such session.
    """
    from capsule_kernel.cli.kernel_client import connection_file_of

    with open_catalogue() as catalogue:
        known = catalogue.sessions.all() if catalogue else []
        if catalogue is not None and reference is not None:
            meant = _session(catalogue, reference)
            # Its notebook may have been opened again.
            again = [one for one in known if meant.notebook and one.notebook == meant.notebook]
            known = [meant] if meant.state == "running" else [meant, *again]
        elsewhere = [
            one
            for one in known
            if one.state == "unknown" and catalogue is not None and catalogue.sessions.is_running(one)
        ]
    # In this place, the pid of a process in another one belongs to another process or to none.
    files = {one.id: connection_file_of(one.pid) for one in known if one.state == "running"}
    running = [one for one in known if files.get(one.id)]
    if len(running) == 1:
        connection_file = files[running[0].id]
        assert connection_file is not None
        return connection_file, lambda: running[0].state == "running"
    if running:
        which = ", ".join(f"{one.id} ({one.notebook or one.kernel})" for one in running)
        raise NoKernel(f"several kernels run; say which one with --session: {which}")
    if reference is not None and elsewhere:
        raise NoKernel(
            f"the kernel of session {elsewhere[0].id} runs in another container or on another machine: run this there"
        )
    what = f"of session {known[0].id}" if reference is not None and known else "that keeps checkpoints"
    latest: Any = next((one for one in known if one.checkpoints), None)
    hint = f" and run `%capsule resume {latest.id}` there" if latest else ""
    raise NoKernel(f"no kernel {what} runs; open a notebook with this kernel{hint}")
