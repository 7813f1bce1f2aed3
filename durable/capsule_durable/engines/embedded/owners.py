"""Who holds a lease: names of processes, from which any other process of the machine can tell whether they have ended.

A name is ``place.pid.start.token``. The place is the running system and its namespace of process ids: in another
one the number means another process, so nothing is said of names from elsewhere, and their leases end by themselves.
The start time tells a process from a later one with the same number.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import uuid
from pathlib import Path

#: Of the fields in /proc/PID/stat behind the name: the state, and when the process started.
_STATE, _START = 0, 19
_NAME = re.compile(r"(?P<place>[^.]+)\.(?P<pid>\d+)\.(?P<start>\d+)\.[^.]+\Z")


def new_name() -> str:
    """Return a name for one connection of this process."""
    pid = os.getpid()
    return f"{_place()}.{pid}.{_start_of(pid) or 0}.{uuid.uuid4().hex[:12]}"


def process_of(name: str) -> int | None:
    """Return the number of the process with this name."""
    match = _NAME.match(name)
    return int(match["pid"]) if match is not None else None


def is_from_here(name: str) -> bool:
    """Whether it can be known of the process with this name whether it has ended."""
    match = _NAME.match(name)
    return match is not None and match["place"] == _place()


def has_ended(name: str) -> bool:
    """Whether it is certain that the process with this name has ended."""
    match = _NAME.match(name)
    if match is None or not is_from_here(name):
        return False
    pid, start = int(match["pid"]), int(match["start"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    now = _start_of(pid)
    return bool(start) and now is not None and now != start


@functools.cache
def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return f"{boot[:8]}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return re.sub(r"[^A-Za-z0-9-]", "-", platform.node()) or "here"


def _start_of(pid: int) -> int | None:
    """Return when a process started, in ticks of the system: 0 if it has ended, None if it cannot be known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    # One that has ended stays in the list until its parent asks for its status.
    return 0 if fields[_STATE] in {"Z", "X"} else int(fields[_START])
