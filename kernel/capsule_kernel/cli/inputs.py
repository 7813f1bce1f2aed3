"""What ``capsule`` does with cells that wait or run: lists the inputs, answers them, ends them and the cells."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from capsule_durable.errors import CapsuleError
from capsule_durable.text import visible
from capsule_kernel.console.terminal import WrongUsage, plain, print_json, print_table

if TYPE_CHECKING:
    from capsule_durable.checkpoints.models import SessionRow
    from capsule_durable.config.settings import Settings
    from capsule_durable.queries.inputs import PendingInput

# As in `cli`, every command imports what it needs.


def add_to(app: typer.Typer) -> None:
    """Add the words to a command."""
    app.command(epilog="For example: capsule pending --json", rich_help_panel="Inputs")(pending)
    app.command(epilog="For example: capsule answer 3f2a9c1e.1 yes", rich_help_panel="Inputs")(answer)
    app.command(epilog="For example: capsule cancel report.ipynb", rich_help_panel="Inputs")(cancel)


def pending(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the inputs that wait for an answer, the oldest first."""
    from capsule_durable.queries import inputs

    found = asyncio.run(inputs.pending(_settings()))
    sessions = _sessions()
    if as_json:
        print_json(
            [
                {
                    "id": one.id,
                    "prompt": one.prompt,
                    "password": one.password,
                    "asked": one.asked,
                    "age": time.time() - one.asked,
                    "notebook": _notebook(one, sessions),
                    "cell": one.cell,
                    "code": one.code,
                }
                for one in found
            ]
        )
        return
    if not found:
        print("No input waits.")
        return
    print_table(
        ["id", "prompt", "cell", "notebook", "waits for"],
        [
            [
                one.short,
                plain(one.prompt) + (" [dim](a secret)[/]" if one.password else ""),
                f"In \\[{one.cell}]" if one.cell is not None else "",
                plain(_notebook(one, sessions) or ""),
                _duration(time.time() - one.asked),
            ]
            for one in found
        ],
    )


def answer(
    reference: Annotated[str, typer.Argument(metavar="ID", help="The input's id, or the beginning of it.")],
    value: Annotated[
        str | None, typer.Argument(metavar="[VALUE]", help="The answer. Default: you are asked; a secret is not shown.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Answer an input that waits. A secret goes to its kernel and is kept nowhere; all else is kept with the cell."""
    from capsule_durable.queries import inputs

    settings = _settings()
    one = inputs.find(asyncio.run(inputs.pending(settings)), reference)
    if value is None:
        value = _ask(one)
    if one.password:
        _tell_kernel(one, value)
    else:
        asyncio.run(inputs.answer(settings, one.id, value))
    _say({"id": one.id, "state": "resolved"}, f"Answered {one.short}.", as_json)


def cancel(
    reference: Annotated[
        str, typer.Argument(metavar="ID", help="An input's id, or the beginning of it; or a session, or its notebook.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Let an input end without an answer: its cell gets an EOFError. Or interrupt the cell that a session runs."""
    from capsule_durable.checkpoints.models import UnknownSession
    from capsule_durable.queries import inputs
    from capsule_kernel.cli import kernel_client
    from capsule_kernel.cli.checkpoints import running_kernel

    settings = _settings()
    try:
        one = inputs.find(asyncio.run(inputs.pending(settings)), reference)
    except inputs.NoSuchInput as unknown:
        try:
            file, _ = running_kernel(reference)
        except UnknownSession as error:
            raise inputs.NoSuchInput(f"{unknown}; and {error}") from None
        kernel_client.request(file, "interrupt_request", {})
        _say({"session": reference, "state": "interrupted"}, f"Interrupted {reference}.", as_json)
        return
    asyncio.run(inputs.cancel(settings, one.id))
    _say({"id": one.id, "state": "rejected_canceled"}, f"Cancelled {one.short}.", as_json)


def _ask(one: PendingInput) -> str:
    if not sys.stdin.isatty():
        # What comes through a pipe ends with its line.
        return sys.stdin.readline().removesuffix("\n")
    prompt = visible(one.prompt)
    try:
        return getpass.getpass(prompt) if one.password else input(prompt)
    except EOFError:
        raise WrongUsage("no answer was given") from None


def _tell_kernel(one: PendingInput, value: str) -> None:
    """Give a secret to the kernel that waits for it."""
    from capsule_kernel.cli import kernel_client

    session = _sessions().get(one.kernel)
    is_running = session is not None and session.state == "running"
    file = kernel_client.connection_file_of(session.pid) if session is not None and is_running else None
    if file is None:
        raise kernel_client.KernelUnreachable(
            "its kernel does not run, so it cannot be told a secret: start it again first"
        )
    if not kernel_client.request(file, "capsule_answer_request", {"id": one.id, "value": value}).get("taken"):
        raise CapsuleError("it does not wait any more")


def _say(data: dict[str, str], text: str, as_json: bool) -> None:
    if as_json:
        print_json(data)
    else:
        print(text)


def _settings() -> Settings:
    from capsule_durable.config.sources import load

    return load(os.environ, {}, Path.cwd())[0]


def _sessions() -> dict[str, SessionRow]:
    """Return the latest session of each kernel, by the word that stands for the kernel."""
    from capsule_durable import ids
    from capsule_kernel.cli.checkpoints import open_catalogue

    with open_catalogue() as catalogue:
        rows = catalogue.sessions.all() if catalogue is not None else []
    found: dict[str, SessionRow] = {}
    for row in rows:
        found.setdefault(ids.slug(row.kernel), row)
    return found


def _notebook(one: PendingInput, sessions: dict[str, SessionRow]) -> str | None:
    session = sessions.get(one.kernel)
    return (session.notebook or session.kernel) if session is not None else None


def _duration(seconds: float) -> str:
    """Return a time in words that fit a column."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
