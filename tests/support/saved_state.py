"""What a kernel has saved of its variables: its checkpoints, and the standby of its worker."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path

from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_worker.protocol.manifest import Manifest
from tests.support.conversation import Conversation
from tests.support.waiting import poll_until

#: What the status says as long as no standby could be made.
_NONE_YET = "none yet"
#: Seconds between two looks at the status or at all processes.
_INTERVAL = 0.2
_PR_SET_NAME = 15
_numbers = itertools.count(1)


def status(kernel: Conversation) -> dict[str, str]:
    """Return the rows of ``%capsule status``."""
    (shown,) = kernel.run("%capsule status", store_history=False).of("display_data")
    rows = [line.partition(":") for line in shown["data"]["text/plain"].splitlines()]
    return {name.strip(): value.strip() for name, _, value in rows}


def why_no_standby(kernel: Conversation) -> str:
    """Wait until the status says that there is a standby, or why there is none; return what it says."""

    def look() -> str:
        said = status(kernel)["Hot standby"].removeprefix("none: ")
        return "" if said == _NONE_YET else said

    return poll_until(look, "a standby, or the reason why there is none", interval=_INTERVAL)


def run_and_wait_for_standby(kernel: Conversation, code: str) -> None:
    """Run a cell, and wait until the worker has a standby with the variables after it.

    No message says so. The cell gives the worker a name that the system shows, and its copies have it as well.
    """
    name = f"standby-{next(_numbers)}"
    done = kernel.run(f"{code}\n__import__('ctypes').CDLL(None).prctl({_PR_SET_NAME}, {name.encode()!r});")
    assert done.reply["status"] == "ok"
    seen = [0]

    def look() -> bool:
        # Twice in a row: a copy that has just been made is not known to the front yet.
        seen.append(_count(name))
        return min(seen[-2:]) > 1

    poll_until(look, "a standby", interval=_INTERVAL)


def _count(name: str) -> int:
    """Return how many processes have a name."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            count += path.read_text() == f"{name}\n"
    return count


def newest_checkpoint(front: int, home: Path | None = None) -> Manifest | None:
    """Return the newest checkpoint of a kernel, if there is one.

    Args:
        front: the process of the kernel.
        home: its directory for data; by default that of the tests.
    """
    with Catalogue(home or Path(os.environ["CAPSULE_HOME"])) as catalogue:
        for session in catalogue.sessions.all():
            if session.pid == front and (newest := catalogue.newest(session.id)) is not None:
                return catalogue.manifest(newest.id)
    return None


def wait_for_cell(front: int, number: int, home: Path | None = None) -> None:
    """Wait until there is a checkpoint of the variables after a cell.

    Args:
        front: the process of the kernel.
        number: the number of the cell.
        home: the kernel's directory for data; by default that of the tests.
    """

    def look() -> bool:
        newest = newest_checkpoint(front, home)
        return newest is not None and newest.execution_count >= number

    poll_until(look, f"a checkpoint after In [{number}]")


def saved_value(front: int, name: str) -> bytes:
    """Return what tells the values of a variable apart, in the newest checkpoint of a kernel.

    Args:
        front: the process of the kernel.
        name: the name of the variable.
    """
    newest = newest_checkpoint(front)
    assert newest is not None
    return next((variable.digest for variable in newest.variables if variable.name == name), b"")


def wait_for_other_value(front: int, name: str, before: bytes) -> None:
    """Wait until another value of a variable is in a checkpoint.

    Args:
        front: the process of the kernel.
        name: the name of the variable.
        before: what tells the value before apart.
    """
    poll_until(lambda: saved_value(front, name) != before, f"a checkpoint with another value of {name}")
