"""What ``capsule`` does with checkpoints: the commands of ``%capsule``, for a terminal and for scripts.

Lists, comparisons and deletions need no kernel: they read the catalogue. Whatever changes the variables themselves
happens in the kernel that has them, since only its worker loads what was saved.
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
    from capsule_kernel.console.render import Shown

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
    """No kernel can be chosen: none runs, or more than one. The message says what to do."""


def add_to(app: typer.Typer) -> None:
    """Add the commands to an application."""
    examples: dict[Callable[..., None], str] = {
        status: "capsule status; capsule status analysis.ipynb",
        checkpoints: "capsule checkpoints model --session analysis.ipynb",
        checkpoint: "capsule checkpoint before-join -m 'both tables are clean' --tag clean",
        restore: "capsule restore before-join prices customers",
        undo: "capsule undo 2",
        diff: "capsule diff before-join after-join --json",
        show: "capsule show before-join",
        delete: "capsule delete before-join 1a1fd205b97f",
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
    from capsule_durable.queries.sessions import SessionList, session_list, session_status

    with open_catalogue() as catalogue:
        if session is None:
            print_answer(session_list(catalogue) if catalogue else SessionList(sessions=[]), as_json)
            return
        found = _existing(catalogue)
        print_answer(session_status(found, _session(found, session)), as_json)


def checkpoints(
    query: Annotated[
        list[str] | None, typer.Argument(metavar="[QUERY]...", help="Words in name, description, tags or id.")
    ] = None,
    session: OfSession = None,
    limit: Annotated[int, typer.Option(min=1, help="How many are listed.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List checkpoints, newest first. The exit status is 1 where a query finds none."""
    from capsule_durable.queries.checkpoints import checkpoint_list
    from capsule_worker.protocol.messages import CheckpointList

    words = " ".join(query or [])
    with open_catalogue() as catalogue:
        of = _session(_existing(catalogue), session).id if session is not None else None
        empty = CheckpointList(query=words, checkpoints=[], total=0)
        found = checkpoint_list(catalogue, words, of, limit) if catalogue else empty
        print_answer(found, as_json)
        if words and not found.checkpoints:
            raise typer.Exit(1)


def show(reference: Reference, session: OfSession = None, as_json: AsJson = False) -> None:
    """List the variables of a checkpoint."""
    from capsule_durable.queries.checkpoints import contents

    with open_catalogue() as found:
        catalogue = _existing(found)
        of = _session(catalogue, session).id if session is not None else None
        print_answer(contents(catalogue.manifest(catalogue.find(reference, of).id)), as_json)


def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="A checkpoint: its name, number or id.")],
    after: Annotated[
        str | None, typer.Argument(metavar="[B]", help="Another one. Default: the latest of the same session.")
    ] = None,
    session: OfSession = None,
    as_json: AsJson = False,
) -> None:
    """Compare two checkpoints: which variables were added, removed or changed."""
    from capsule_durable.queries.checkpoints import comparison

    with open_catalogue() as found:
        catalogue = _existing(found)
        of = _session(catalogue, session).id if session is not None else None
        first = catalogue.find(before, of)
        second = catalogue.find(after, of) if after is not None else catalogue.newest(first.session)
        assert second is not None
        print_answer(comparison(catalogue, first, second), as_json)


def delete(
    references: Annotated[
        list[str], typer.Argument(metavar="NAME|ID...", help="Names, numbers, ids, or the beginnings of ids.")
    ],
    session: OfSession = None,
    as_json: AsJson = False,
) -> None:
    """Delete checkpoints: all of those that are named, or none."""
    from capsule_durable.checkpoints import removal
    from capsule_durable.queries.checkpoints import listed
    from capsule_worker.protocol.messages import Deleted

    with open_catalogue() as found:
        catalogue = _existing(found)
        of = _session(catalogue, session).id if session is not None else None
        entries, freed = removal.delete(catalogue, references, of)
        print_answer(Deleted(checkpoints=[listed(entry) for entry in entries], freed=freed), as_json)


def checkpoint(
    name: Annotated[str, typer.Argument(help="A name for it.")],
    message: Annotated[str, typer.Option("-m", "--message", metavar="TEXT", help="A description.")] = "",
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A word to find it by; may be repeated.")] = None,
    session: InSession = None,
    existing: Existing = None,
    as_json: AsJson = False,
) -> None:
    """Save the variables of a running kernel under a name."""
    options = [*([f"--message={message}"] if message else []), *(f"--tag={each}" for each in tag or [])]
    _run_in_kernel(["checkpoint", *options, *_positional(name)], session, existing, as_json)


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
    """Restore a checkpoint, or some of its variables, in a running kernel."""
    options = ["--clear"] if clear else []
    _run_in_kernel(["restore", *options, *_positional(reference, *(variables or []))], session, existing, as_json)


def undo(
    cells: Annotated[int, typer.Argument(metavar="[N]", min=1, help="How many cells.")] = 1,
    session: InSession = None,
    existing: Existing = None,
    as_json: AsJson = False,
) -> None:
    """Restore the variables of a running kernel to their state before its last N cells."""
    _run_in_kernel(["undo", str(cells)], session, existing, as_json)


def gc(as_json: AsJson = False) -> None:
    """Delete expired checkpoints, sessions and unused data."""
    import time

    from capsule_durable.checkpoints.removal import Collection, collect_all
    from capsule_durable.checkpoints.retention import Retention
    from capsule_durable.config.sources import load

    settings, _ = load(os.environ, {}, Path.cwd())
    policy = Retention(
        count=settings.checkpoint_count,
        age=settings.checkpoint_days and settings.checkpoint_days * 86400.0,
        size=settings.checkpoint_size,
    )
    with open_catalogue() as catalogue:
        print_answer(collect_all(catalogue, policy, time.time()) if catalogue else Collection(), as_json)


def resume(
    earlier: Annotated[
        str | None,
        typer.Argument(metavar="[EARLIER]", help="A session's id, or its notebook. Default: this notebook's last one."),
    ] = None,
    session: InSession = None,
    existing: Existing = None,
    as_json: AsJson = False,
) -> None:
    """Restore the variables of an earlier session in a running kernel."""
    _run_in_kernel(["resume", *([earlier] if earlier is not None else [])], session, existing, as_json)


# -- without a kernel ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_catalogue() -> Iterator[Catalogue | None]:
    """Open the catalogue, with everything listed that was written; None if there is none yet."""
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


def _existing(catalogue: Catalogue | None) -> Catalogue:
    if catalogue is None:
        raise CapsuleError(f"there are no checkpoints in {home()}; CAPSULE_HOME, or the setting `home`, names another")
    return catalogue


def _session(catalogue: Catalogue, reference: str) -> SessionRow:
    from capsule_durable.checkpoints.models import resolve_session

    return resolve_session(reference, catalogue.sessions.all())


def print_answer(answer: Shown, as_json: bool) -> None:
    """Print an answer, for people or for programs.

    Args:
        answer: the answer.
        as_json: whether it is for programs.
    """
    from capsule_kernel.console.render import to_json, view_of
    from capsule_kernel.console.tables import Table, to_text

    view = view_of(answer)
    if as_json:
        print_json(to_json(answer))
    elif isinstance(view, Table) and view.rows and sys.stdout.isatty():
        print_table(view.columns, [[plain(cell) for cell in row] for row in view.rows], plain(view.caption))
    elif view is not None:
        print(to_text(view))


# -- in a kernel ---------------------------------------------------------------------------------------------


def _run_in_kernel(words: Sequence[str], session: str | None, existing: str | None, as_json: bool) -> None:
    """Have the chosen kernel run a command, and print what it shows."""
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
    """Return words that are not taken for options, though they may begin with a hyphen."""
    return [*(["--"] if any(word.startswith("-") for word in words) else []), *words]


def running_kernel(reference: str | None) -> tuple[Path, Callable[[], bool]]:
    """Return the connection file of a kernel, and a function that returns whether that kernel still runs.

    Args:
        reference: its session, or the notebook of that session; None for the only kernel that runs.

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
        raise NoKernel(f"several kernels run; choose one with --session: {which}")
    if reference is not None and elsewhere:
        raise NoKernel(
            f"the kernel of session {elsewhere[0].id} runs in another container or on another machine: run this there"
        )
    what = f"of session {known[0].id}" if reference is not None and known else "that keeps checkpoints"
    latest: Any = next((one for one in known if one.checkpoints), None)
    hint = f" and run `%capsule resume {latest.id}` there" if latest else ""
    raise NoKernel(f"no kernel {what} runs; open a notebook with this kernel{hint}")
