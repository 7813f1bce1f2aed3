"""Ends every process that a worker's cells started, those in sessions of their own included.

A worker's environment holds a cookie; child processes inherit it. Looking for it in ``/proc/*/environ`` finds what a
process group misses (the same idea ends the processes of a Jenkins build).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

COOKIE = "CAPSULE_WORKER_COOKIE"
#: How often to look again for processes that were just being started.
ROUNDS = 20


def end_children() -> None:
    """Kill what this worker's cells started, but not this process."""
    cookie = os.environ.get(COOKIE)
    if cookie:
        end_all(cookie, spare=os.getpid())


def end_all(cookie: str, spare: int = 0) -> int:
    """Kill every process of this user whose environment holds ``cookie``; return how many there were.

    Args:
        cookie: the beginning of the environment variable ``COOKIE``'s value; it ends with a dot.
        spare: a process id to leave alone.
    """
    killed: set[int] = set()
    for _ in range(ROUNDS):
        found = [pid for pid in _marked(cookie) if pid != spare]
        if not found:
            break
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        killed.update(found)
        time.sleep(0.005)
    return len(killed)


def _marked(cookie: str) -> list[int]:
    needle = f"{COOKIE}={cookie}".encode()
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208  # hundreds of entries: names are all that is needed
        if entry.isdigit():
            with contextlib.suppress(OSError):
                # A zombie has no environment left, so it is not found again.
                variables = Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
                if any(variable.startswith(needle) for variable in variables):
                    found.append(int(entry))
    return found


if __name__ == "__main__":
    end_all(sys.argv[1])
