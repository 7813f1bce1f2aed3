"""Child processes: those that stood between this one and a copy of it, and all others, which are the notebook's."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

#: Children that end at once, and are to be waited for.
_between: set[int] = set()


def expect(pid: int) -> None:
    """Take notice of a child that ends at once, having forked a copy that is nobody's child."""
    _between.add(pid)


def expected() -> bool:
    """Whether some of these children have not ended yet."""
    return bool(_between)


def reap() -> None:
    """Wait for such children that have ended."""
    for pid in list(_between):
        try:
            ended, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            ended = pid  # code of the notebook that waits for any child has met it
        if ended:
            _between.discard(pid)


def others() -> bool:
    """Whether the notebook has child processes that are alive or not yet waited for (which this call does not do)."""
    reap()
    if not _between:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True
    for listing in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            if set(map(int, listing.read_text().split())) - _between:
                return True
    return False
