"""Identify a process, tell whether it has ended, and decide what other processes may then do with its data.

This is the only liveness check. A pid alone does not identify a process: the system reuses it, and in another pid
namespace the same number is another process. Hence the place and the start time.
"""

from __future__ import annotations

import os
import platform
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

#: The state of a process, as far as it is known.
type ProcessState = Literal["running", "ended", "unknown"]
#: The state of a process's locks after another process tried to acquire them; ``free``: it acquired all of them.
type LockState = Literal["free", "held", "unsupported"]
#: What another process wants to do with the data of a process: offer or restore its variables, remove its files, or
#: take over its engine lease or run.
type Purpose = Literal["recover", "collect", "take_over"]

#: Of the fields in /proc/PID/stat behind the name (proc(5)): the state, and the start time in clock ticks since boot.
_STATE, _START = 0, 19
_TEXT = re.compile(r"(?P<place>[^.]+)\.(?P<pid>\d+)\.(?P<start>\d+)\.(?P<token>[^.]+)")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process, or one connection of a process. Its text form is ``place.pid.start.token``.

    Args:
        place: the running system and its pid namespace: 8 hex digits of the boot id, and the namespace's inode.
        pid: the process id in that namespace.
        start: when the process started, in clock ticks since boot; 0 where that could not be read.
        token: tells apart several identities of one process.
    """

    place: str
    pid: int
    start: int
    token: str

    def __str__(self) -> str:
        """Return the text form."""
        return f"{self.place}.{self.pid}.{self.start}.{self.token}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the identity that a text stands for; None if the text is not one.

        Args:
            text: the text form.
        """
        match = _TEXT.fullmatch(text)
        return match and cls(match["place"], int(match["pid"]), int(match["start"]), match["token"])


def this_process() -> ProcessIdentity:
    """Return a new identity of this process; each has a token of its own."""
    pid = os.getpid()
    stat = _stat(pid)
    return ProcessIdentity(_place(), pid, stat[1] if stat is not None else 0, uuid.uuid4().hex[:12])


def state(identity: ProcessIdentity) -> ProcessState:
    """Return whether a process runs, as far as this process can tell.

    Args:
        identity: the process.

    Returns:
        ``ended`` if the process was in this place and its pid is free, a zombie's, or of a process with another start
        time. ``unknown`` if it was in another place, or if a start time could not be read.
    """
    if identity.place != _place():
        return "unknown"
    stat = _stat(identity.pid)
    if stat is None:
        return "unknown" if _exists(identity.pid) else "ended"
    letter, start = stat
    if letter in ("Z", "X"):
        return "ended"
    if identity.start == 0:
        return "unknown"
    return "running" if start == identity.start else "ended"


def state_of(text: str) -> ProcessState:
    """Return the state of a process; ``unknown`` if the text does not identify one.

    Args:
        text: the text form of its identity.
    """
    identity = ProcessIdentity.parse(text)
    return "unknown" if identity is None else state(identity)


def has_same_boot(identity: ProcessIdentity) -> bool:
    """Return whether a process started since this machine booted. If so, no crash of the machine lost what it wrote.

    Args:
        identity: the process.
    """
    return identity.place.partition("-")[0] == _place().partition("-")[0]


def is_allowed(purpose: Purpose, state: ProcessState, *, locks: LockState = "held", expired: bool = False) -> bool:
    """Return whether another process may use what belongs to a process.

    Nothing of a process is removed unless the process has ended or its locks were acquired (invariant L1). Acquire them
    before the call, and release them after the removal.

    Args:
        purpose: what the other process wants to do.
        state: what is known of the owner.
        locks: what is known of the owner's locks, and of those of its writers.
        expired: whether the owner's lease has expired.
    """
    if purpose == "take_over":
        return state == "ended" or expired
    return state == "ended" or (state == "unknown" and locks == "free")


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return f"{boot[:8]}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return re.sub(r"[^A-Za-z0-9-]", "-", platform.node()) or "here"


def _stat(pid: int) -> tuple[str, int] | None:
    """Return the state letter and the start time of a process; None where they cannot be read."""
    try:
        # /proc may show another pid namespace, in which the number is another process.
        if Path("/proc/self").readlink().name != str(os.getpid()):
            return None
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = text.rpartition(")")[2].split()
        return fields[_STATE], int(fields[_START])
    except (OSError, IndexError, ValueError):
        return None


def _exists(pid: int) -> bool:
    # Zero would mean this process's group.
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
