"""A client of a kernel that runs: finds it, asks it for something, and hands back what it says."""

from __future__ import annotations

import contextlib
import queue
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import find_connection_file

from capsule_durable.checkpoints.undo import COMMAND
from capsule_durable.errors import CapsuleError
from capsule_kernel.console.render import JSON_MIME
from capsule_kernel.jupyter.connection_file import place

#: Seconds until a kernel must have greeted; it does so also while a cell runs.
GREETING = 30.0
#: Seconds after which it is said that the kernel is busy.
TIMEOUT = 2.0
#: Seconds until it must have answered what it answers at once.
REPLY = 10.0
_POLL_INTERVAL = 0.2


class KernelUnreachable(CapsuleError):
    """No kernel can be spoken with. The message says what to do."""


@dataclass
class Answer:
    """What a kernel said about a command."""

    #: What it showed, as text.
    texts: list[str] = field(default_factory=list)
    #: What it showed, for programs.
    data: Any = None
    #: Why it did not carry the command out.
    error: str | None = None


def connection_file_of(pid: int) -> Path | None:
    """Return the connection file of the kernel whose front is process ``pid``; None where that is no such process."""
    process = Path(f"/proc/{pid}")
    try:
        arguments = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        directory = (process / "cwd").readlink()
    except OSError:
        return None
    if "capsule_kernel" not in arguments:
        return None
    options = arguments[arguments.index("capsule_kernel") + 1 :]
    name = None
    for option, value in zip(options, [*options[1:], ""], strict=True):
        if option in ("-f", "--connection-file"):
            name = value
        elif option.startswith("--connection-file="):
            name = option.partition("=")[2]
    if name is not None and (directory / name).exists():
        return directory / name
    return directory / place(name, pid)


def existing(name: str) -> Path:
    """Return the connection file that a person means: its path, or its name, or a part of it, where Jupyter keeps them.

    Raises:
        KernelUnreachable: there is none.
    """
    try:
        return Path(find_connection_file(name))
    except OSError as error:
        raise KernelUnreachable(
            f"there is no connection file {name!r}; `capsule status` lists the kernels that run"
        ) from error


def request(connection_file: Path, kind: str, content: dict[str, Any]) -> dict[str, Any]:
    """Make a request on a kernel's control channel, which it serves while a cell runs; return the reply's content.

    Args:
        connection_file: the kernel's.
        kind: the message's type.
        content: the message's content.

    Raises:
        KernelUnreachable: it does not answer.
    """
    with _client(connection_file) as client:
        message = client.session.msg(kind, content)
        client.control_channel.send(message)
        deadline = time.monotonic() + REPLY
        try:
            while True:
                reply = client.get_control_msg(timeout=max(0.1, deadline - time.monotonic()))
                if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                    return dict(reply["content"])
        except queue.Empty:
            raise KernelUnreachable(f"the kernel of {connection_file} does not answer") from None


def carry_out(
    connection_file: Path, words: Sequence[str], tell: Callable[[str], None], runs: Callable[[], bool]
) -> Answer:
    """Have a kernel carry out ``%capsule`` with some words. A kernel that is busy is waited for.

    Args:
        connection_file: the kernel's.
        words: what follows ``%capsule``.
        tell: shows a line to the person who waits.
        runs: says whether the kernel is still there.

    Raises:
        KernelUnreachable: it does not answer, or ends before it does.
    """
    with _client(connection_file) as client:
        try:
            client.wait_for_ready(timeout=GREETING)
            # What runs behind it is other people's, and must not be given up if this fails.
            sent = client.execute(
                f"{COMMAND} {shlex.join(words)}", store_history=False, allow_stdin=False, stop_on_error=False
            )
            try:
                return _answer(client, sent, tell, runs)
            except KeyboardInterrupt:
                tell("not waiting any more; the kernel does it all the same, after the cells that were sent before")
                raise
        except (RuntimeError, queue.Empty) as error:
            raise KernelUnreachable(f"the kernel of {connection_file} does not answer: {error}") from error


@contextlib.contextmanager
def _client(connection_file: Path) -> Iterator[BlockingKernelClient]:
    client = BlockingKernelClient(connection_file=str(connection_file))
    try:
        client.load_connection_file()
    except (OSError, ValueError) as error:
        raise KernelUnreachable(f"{connection_file} is no connection file: {error}") from error
    client.start_channels()
    try:
        yield client
    finally:
        client.stop_channels()


def _answer(
    client: BlockingKernelClient, request: str, tell: Callable[[str], None], runs: Callable[[], bool]
) -> Answer:
    answer = Answer()
    said = ""
    for kind, content in _published(client, request, tell, runs):
        if kind == "stream" and content["name"] == "stderr":
            said += content["text"]
        else:
            _take(answer, kind, content, tell)
    while (reply := client.get_shell_msg(timeout=GREETING))["parent_header"].get("msg_id") != request:
        pass
    if reply["content"]["status"] != "ok":
        answer.error = reply["content"]["evalue"].removeprefix(f"{COMMAND} ")
        said = said.partition("UsageError: ")[0]  # the same
    for line in said.splitlines():
        tell(line.removeprefix("capsule: "))
    return answer


def _published(
    client: BlockingKernelClient, request: str, tell: Callable[[str], None], runs: Callable[[], bool]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what a kernel publishes about a request, until it has done with it."""
    patient_until: float | None = time.monotonic() + TIMEOUT
    while True:
        if patient_until is not None and time.monotonic() > patient_until:
            patient_until = None
            tell("the kernel runs a cell; waiting until it has ended")
        try:
            message = client.get_iopub_msg(timeout=_POLL_INTERVAL)
        except queue.Empty:
            if not runs():
                raise KernelUnreachable("the kernel ended before it answered") from None
            continue
        if message["parent_header"].get("msg_id") != request:
            continue
        patient_until = None
        kind, content = message["msg_type"], message["content"]
        if kind == "status" and content["execution_state"] == "idle":
            return
        yield kind, content


def _take(answer: Answer, kind: str, content: dict[str, Any], tell: Callable[[str], None]) -> None:
    match kind:
        case "display_data":
            answer.texts.append(content["data"].get("text/plain", ""))
            answer.data = content["data"].get(JSON_MIME, answer.data)
        case "update_display_data":
            tell(content["data"].get("text/plain", ""))
        case "stream":
            answer.texts.append(content["text"])
        case _:
            pass
