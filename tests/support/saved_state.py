"""What a kernel has saved of its variables: its checkpoints, and the standby of its worker."""

from __future__ import annotations

import os
from pathlib import Path

from capsule_durable.checkpoints.catalogue import Catalogue
from tests.support.conversation import Conversation
from tests.support.waiting import poll_until

#: What the status says as long as no standby could be made.
_NONE_YET = "none yet"
#: Seconds between two looks at the status: each is a cell.
_INTERVAL = 0.2


def status(kernel: Conversation) -> dict[str, str]:
    """Return the rows of ``%capsule status``."""
    (shown,) = kernel.run("%capsule status").of("display_data")
    rows = [line.partition("  ") for line in shown["data"]["text/plain"].splitlines()]
    return {name.strip(): value.strip() for name, _, value in rows}


def wait_for_standby(kernel: Conversation) -> str:
    """Wait until the status says that there is a standby, or why there is none; return what it says."""

    def look() -> str:
        said = status(kernel)["standby"]
        return "" if said == _NONE_YET else said

    return poll_until(look, "a standby, or the reason why there is none", interval=_INTERVAL)


def newest_checkpoint(front: int, home: Path | None = None) -> tuple[int, int]:
    """Return the number of a kernel's newest checkpoint, and the number of the cell after which it was made.

    Args:
        front: the process of the kernel.
        home: its directory for data; by default that of the tests.

    Returns:
        Zeros if there is no checkpoint.
    """
    with Catalogue(home or Path(os.environ["CAPSULE_HOME"])) as catalogue:
        for session in catalogue.sessions():
            if session.pid == front and (newest := catalogue.newest(session.id)) is not None:
                return newest.number, newest.execution_count
    return 0, 0


def wait_for_checkpoint(front: int, *, after_number: int = 0, after_cell: int = 0) -> None:
    """Wait until a kernel has a checkpoint that is new enough.

    Args:
        front: the process of the kernel.
        after_number: the number of the checkpoint that it has to follow.
        after_cell: the number of the cell after which it has to be made.
    """

    def look() -> bool:
        number, cell = newest_checkpoint(front)
        return number > after_number and cell >= after_cell

    poll_until(look, f"a checkpoint after number {after_number} and In [{after_cell}]")
