"""Commands about inputs of cells: list, answer and cancel them; and interrupt a running cell."""

from __future__ import annotations

import asyncio
import getpass
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from capsule_durable.errors import CapsuleError
from capsule_durable.text import visible
from capsule_kernel.cli.config import settings
from capsule_kernel.console.json_output import AsJson, print_json
from capsule_kernel.console.terminal import WrongUsage, duration, plain, print_table

if TYPE_CHECKING:
    from capsule_durable.checkpoints.models import SessionRow
    from capsule_durable.config.settings import Settings
    from capsule_durable.queries.inputs import Input

# Each command imports what it needs.


class InputSettled(CapsuleError):
    """The input is not pending.

    Args:
        message: what happened to it, and when.
        code: ``already_answered``, or ``ended`` if it was cancelled or its cell has ended.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def add_to(app: typer.Typer) -> None:
    """Add the commands.

    Args:
        app: where to add them.
    """
    app.command(epilog="For example: capsule pending --json", rich_help_panel="Inputs")(pending)
    app.command(epilog="For example: capsule answer 3f2a9c1e-2.1 yes", rich_help_panel="Inputs")(answer)
    app.command(epilog="For example: capsule cancel report.ipynb", rich_help_panel="Inputs")(cancel)


def pending(as_json: AsJson = False) -> None:
    """List pending inputs, oldest first."""
    from capsule_durable.queries import inputs

    found = asyncio.run(inputs.list_inputs(settings(), _sessions()))
    if as_json:
        now = time.time()
        print_json({"inputs": [one.model_dump() | {"age": now - one.asked} for one in found]}, "inputs")
        return
    if not found:
        print("No pending inputs.")
        return
    print_table(
        ["id", "prompt", "cell", "notebook", "state"],
        [
            [
                one.short,
                plain(one.prompt) + (" [dim](a secret)[/]" if one.password else ""),
                f"In \\[{one.cell}]" if one.cell is not None else "",
                plain(one.notebook or ""),
                f"waiting {duration(time.time() - one.asked)}",
            ]
            for one in found
        ],
    )


def answer(
    reference: Annotated[str, typer.Argument(metavar="ID", help="The input's id, or the beginning of it.")],
    value: Annotated[
        str | None, typer.Argument(metavar="[VALUE]", help="The answer. Default: ask for it; a secret is not shown.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Answer a pending input. A secret is sent to its kernel and never stored; other answers are kept with the cell."""
    from capsule_durable.execution import answers

    configuration = settings()
    one = _find(configuration, reference)
    try:
        _check_pending(one)
        if value is None:
            value = _ask(one)
        if one.password:
            _send_secret(one, value)
        else:
            try:
                asyncio.run(answers.answer(configuration, one.id, value))
            except answers.AlreadySettled:
                _check_pending(_find(configuration, one.id))
                raise
    except InputSettled as settled:
        if as_json:
            print_json({"id": one.id, "state": settled.code}, "input")
        raise
    _report({"id": one.id, "state": "answered"}, f"Answered {one.short}.", as_json)


def cancel(
    reference: Annotated[
        str, typer.Argument(metavar="ID", help="An input's id, or the beginning of it; or a session, or its notebook.")
    ],
    as_json: AsJson = False,
) -> None:
    """Cancel a pending input (its cell gets EOFError) or interrupt a running cell."""
    from capsule_durable.checkpoints.models import UnknownSession
    from capsule_durable.execution import answers
    from capsule_durable.queries.inputs import UnknownInput
    from capsule_kernel.cli import kernel_client
    from capsule_kernel.cli.checkpoints import running_kernel

    configuration = settings()
    try:
        one = _find(configuration, reference)
    except UnknownInput as unknown:
        try:
            file, _ = running_kernel(reference)
        except UnknownSession:
            raise UnknownInput(f'{unknown} No session "{reference}" either.') from None
        kernel_client.request(file, "interrupt_request", {})
        _report({"session": reference, "state": "interrupted"}, f"Interrupted {reference}.", as_json)
        return
    _check_pending(one)
    try:
        asyncio.run(answers.cancel(configuration, one.id))
    except answers.AlreadySettled:
        _check_pending(_find(configuration, one.id))
        raise
    _report({"id": one.id, "state": "cancelled"}, f"Cancelled {one.short}.", as_json)


def _find(configuration: Settings, reference: str) -> Input:
    """Return the input that a person names, among all that are stored."""
    from capsule_durable.queries import inputs

    return inputs.find(asyncio.run(inputs.list_inputs(configuration, _sessions(), None)), reference)


def _check_pending(one: Input) -> None:
    """Refuse an input that is settled.

    Raises:
        InputSettled: it was answered or cancelled.
    """
    if one.state == "pending":
        return
    at = f" at {time.strftime('%H:%M', time.localtime(one.settled))}" if one.settled is not None else ""
    if one.state == "answered":
        raise InputSettled(f"{one.short} was already answered{at}.", "already_answered")
    raise InputSettled(f"{one.short} was cancelled{at}.", "ended")


def _ask(one: Input) -> str:
    if not sys.stdin.isatty():
        # The end of the line is not part of the answer.
        return sys.stdin.readline().removesuffix("\n")
    prompt = visible(one.prompt)
    try:
        return getpass.getpass(prompt) if one.password else input(prompt)
    except EOFError:
        raise WrongUsage("No answer was given.") from None


def _send_secret(one: Input, value: str) -> None:
    """Send the answer to a password prompt to the kernel itself, so that it is never stored."""
    from capsule_kernel.cli import kernel_client

    session = next((row for row in _sessions() if row.id == one.session), None)
    is_running = session is not None and session.state == "running"
    file = kernel_client.connection_file_of(session.pid) if session is not None and is_running else None
    if file is None:
        raise kernel_client.KernelUnreachable("The kernel that needs this secret is not running. Start it again first.")
    if not kernel_client.request(file, "capsule_answer_request", {"id": one.id, "value": value}).get("taken"):
        raise InputSettled(f"{one.short} is not pending in its kernel.", "ended")


def _report(data: dict[str, str], text: str, as_json: bool) -> None:
    if as_json:
        print_json(data, "input")
    else:
        print(text)


def _sessions() -> list[SessionRow]:
    """Return all sessions, newest first."""
    from capsule_kernel.cli.checkpoints import open_catalogue

    with open_catalogue() as catalogue:
        return catalogue.sessions.all() if catalogue is not None else []
