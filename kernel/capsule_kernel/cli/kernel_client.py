"""A client of running kernels: finds a kernel, sends it a request or a command, and returns the answer."""

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

#: Seconds within which a kernel must report that it is ready; it does so while a cell runs, too.
GREETING = 30.0
#: Seconds after which a person is told that the kernel is busy.
TIMEOUT = 2.0
#: Seconds within which a kernel must reply on its control channel.
REPLY = 10.0
_POLL_INTERVAL = 0.2


class KernelUnreachable(CapsuleError):
    """The kernel cannot be reached. The message says what to do."""


@dataclass
class Answer:
    """The answer of a kernel to a command."""

    #: Its outputs, as text.
    texts: list[str] = field(default_factory=list)
    #: Its output in JSON form.
    data: Any = None
    #: Why the command failed; None if it has succeeded.
    error: str | None = None


def connection_file_of(pid: int) -> Path | None:
    """Return the connection file of a running kernel; None if the process is not a kernel of Capsule.

    Args:
        pid: the process id of its front, in the namespace of this process.
    """
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
    """Return the connection file that a person names.

    Args:
        name: a path, or the name or a part of the name of a file in Jupyter's runtime directory.

    Raises:
        KernelUnreachable: no such file exists.
    """
    try:
        return Path(find_connection_file(name))
    except OSError as error:
        raise KernelUnreachable(f'No connection file "{name}". To list running kernels: capsule status') from error


def request(connection_file: Path, kind: str, content: dict[str, Any]) -> dict[str, Any]:
    """Send a request on a kernel's control channel, which is served while a cell runs; return the reply's content.

    Args:
        connection_file: the kernel's connection file.
        kind: the message type.
        content: the message content.

    Raises:
        KernelUnreachable: the kernel does not reply within 10 seconds.
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
            raise KernelUnreachable(f"The kernel of {connection_file} does not answer.") from None


def carry_out(
    connection_file: Path, words: Sequence[str], tell: Callable[[str], None], runs: Callable[[], bool]
) -> Answer:
    """Run ``%capsule`` with some arguments in a kernel, after the cells that were sent to it before.

    Args:
        connection_file: the kernel's connection file.
        words: the arguments of ``%capsule``.
        tell: shows a line to the person who waits.
        runs: returns whether the kernel is still running.

    Raises:
        KernelUnreachable: the kernel does not answer, or ends first.
    """
    with _client(connection_file) as client:
        try:
            client.wait_for_ready(timeout=GREETING)
            # Cells that other clients have sent must run, even if this command fails.
            sent = client.execute(
                f"{COMMAND} {shlex.join(words)}", store_history=False, allow_stdin=False, stop_on_error=False
            )
            try:
                return _answer(client, sent, tell, runs)
            except KeyboardInterrupt:
                tell("stopped waiting; the kernel still runs the command after the cells that were sent before it")
                raise
        except (RuntimeError, queue.Empty) as error:
            raise KernelUnreachable(f"The kernel of {connection_file} does not answer: {error}") from error


@contextlib.contextmanager
def _client(connection_file: Path) -> Iterator[BlockingKernelClient]:
    client = BlockingKernelClient(connection_file=str(connection_file))
    try:
        client.load_connection_file()
    except (OSError, ValueError) as error:
        raise KernelUnreachable(f"{connection_file} is not a connection file: {error}") from error
    client.start_channels()
    try:
        yield client
    finally:
        client.stop_channels()


def _answer(
    client: BlockingKernelClient, request: str, tell: Callable[[str], None], runs: Callable[[], bool]
) -> Answer:
    answer = Answer()
    notes = ""
    for kind, content in _published(client, request, tell, runs):
        if kind == "stream" and content["name"] == "stderr":
            notes += content["text"]
        else:
            _take(answer, kind, content, tell)
    while (reply := client.get_shell_msg(timeout=GREETING))["parent_header"].get("msg_id") != request:
        pass
    if reply["content"]["status"] != "ok":
        answer.error = reply["content"]["evalue"].removeprefix(f"{COMMAND} ")
        notes = notes.partition("UsageError: ")[0]  # IPython prints the error, too
    for line in notes.splitlines():
        tell(line.removeprefix("capsule: "))
    return answer


def _published(
    client: BlockingKernelClient, request: str, tell: Callable[[str], None], runs: Callable[[], bool]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the messages that a kernel publishes about a request, until it is idle again."""
    patient_until: float | None = time.monotonic() + TIMEOUT
    while True:
        if patient_until is not None and time.monotonic() > patient_until:
            patient_until = None
            tell("the kernel is running a cell; waiting until it has ended")
        try:
            message = client.get_iopub_msg(timeout=_POLL_INTERVAL)
        except queue.Empty:
            if not runs():
                raise KernelUnreachable("The kernel has ended before it answered.") from None
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
