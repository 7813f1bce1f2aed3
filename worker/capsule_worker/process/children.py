"""Child processes: the short-lived parents of our forks, and all others, which are the notebook's."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

#: Children that fork a process and end at once.
_intermediate: set[int] = set()


def register(pid: int) -> None:
    """Record a child that forks a process and ends at once, so that the fork is not a child of this process.

    Args:
        pid: the child.
    """
    _intermediate.add(pid)


def has_registered() -> bool:
    """Return whether such children have not been waited for yet."""
    return bool(_intermediate)


def reap() -> None:
    """Wait for such children that have ended."""
    for pid in list(_intermediate):
        try:
            ended, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            ended = pid  # code of the notebook has waited for any child
        if ended:
            _intermediate.discard(pid)


def has_others() -> bool:
    """Return whether the notebook has child processes: alive, or ended and not waited for, which this does not do."""
    if _intermediate:
        reap()
    if not _intermediate:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True
    for listing in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            if set(map(int, listing.read_text().split())) - _intermediate:
                return True
    return False
