"""Ends every process that a worker's cells started, those in sessions of their own included.

A worker's environment holds a cookie; child processes inherit it. Looking for it in ``/proc/*/environ`` finds what a
process group misses (the same idea ends the processes of a Jenkins build). Copies of a worker that write a checkpoint,
or that wait to take its place, are to outlive it: they carry the cookie under another name.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import sys
import time
import warnings
from pathlib import Path

#: The environment variable with the cookie, and the one of those who stand aside when a worker's processes are ended.
PROCESS_TAG, WRITER_TAG = "CAPSULE_PROCESS_TAG", "CAPSULE_WRITER_TAG"
_THREADS = ("ignore", None, DeprecationWarning, None, 0)
#: How often to look again for processes that were just being started.
ROUNDS = 20
#: Seconds that checkpoints may take to be written when the front is gone.
LINGER = 10.0


def end_children() -> None:
    """Kill what this worker's cells started, but not this process."""
    cookie = os.environ.get(PROCESS_TAG)
    if cookie:
        end_all(cookie, spare=os.getpid())


def end_all(cookie: str, spare: int = 0, variable: str = PROCESS_TAG) -> int:
    """Kill every process of this user whose environment holds ``cookie``; return how many there were.

    Args:
        cookie: the beginning of the value of ``variable``; it ends with a dot.
        spare: a process id to leave alone.
        variable: ``COOKIE`` or ``ASIDE``.
    """
    killed: set[int] = set()
    for _ in range(ROUNDS):
        found = [pid for pid in _marked(cookie, variable) if pid != spare]
        if not found:
            break
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        killed.update(found)
        time.sleep(0.005)
    return len(killed)


def end_everything(cookie: str, spare: int = 0) -> None:
    """Kill what ``end_all`` does, and what stands aside when that has had time to write what it was writing."""
    end_all(cookie, spare)
    deadline = time.monotonic() + LINGER
    while _marked(cookie, WRITER_TAG) and time.monotonic() < deadline:
        time.sleep(0.05)
    end_all(cookie, variable=WRITER_TAG)
    # One that was about to take a worker's place meanwhile.
    end_all(cookie, spare)


def _marked(cookie: str, variable: str) -> list[int]:
    needle = f"{variable}={cookie}".encode()
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208  # hundreds of entries: names are all that is needed
        if entry.isdigit():
            with contextlib.suppress(OSError):
                # A zombie has no environment left, so it is not found again.
                variables = Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
                if any(variable.startswith(needle) for variable in variables):
                    found.append(int(entry))
    return found


def fork_writer() -> int:
    """Fork a copy that carries the cookie under the other name from its first moment on; return what ``fork`` does."""
    _write(WRITER_TAG)
    # That threads are not copied is known. `catch_warnings` would have warnings shown again that were shown before.
    warnings.filters.insert(0, _THREADS)  # type: ignore[attr-defined]  # it is a list
    try:
        pid = os.fork()
    except OSError:
        _write(PROCESS_TAG)
        raise
    finally:
        warnings.filters.remove(_THREADS)  # type: ignore[attr-defined]
    if pid:
        _write(PROCESS_TAG)
    return pid


def set_process_tag(cookie: str) -> None:
    """Carry a cookie of its own, as long as the inherited one, and hand it on to child processes."""
    os.environ[PROCESS_TAG] = cookie
    _write(f"{PROCESS_TAG}={cookie}")


def _write(text: str) -> None:
    """Write over the beginning of the variable, where others see it."""
    address = _address()
    if address:
        ctypes.memmove(address, text.encode(), len(text))


@functools.cache
def _address() -> int:
    """Return where this process's environment has the variable; 0 if that is not known.

    Then copies are ended along with their original: a checkpoint or a standby is lost, no more.
    """
    try:
        environment = Path("/proc/self/environ").read_bytes()
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        # env_start is the 50th field; the first two are before the parenthesis.
        return int(fields[47]) + environment.index(f"{PROCESS_TAG}=".encode())
    except (OSError, ValueError, IndexError):
        return 0


if __name__ == "__main__":
    end_all(sys.argv[1])
