"""Ends every process that the cells of a worker started, including those in sessions of their own.

The environment of a worker has a process tag, which child processes inherit. A search for it in ``/proc/*/environ``
finds what a process group misses (Jenkins ends the processes of a build in the same way). Forks of a worker that write
a checkpoint, or that wait to take its place, must outlive it: they have the tag under another name.
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

#: The environment variable with the tag; and its name in forks that are spared when a worker's processes are ended.
PROCESS_TAG, WRITER_TAG = "CAPSULE_PROCESS_TAG", "CAPSULE_WRITER_TAG"
_THREADS_FILTER = ("ignore", None, DeprecationWarning, None, 0)
#: How often to look for processes that were being started during the look before; and seconds between two looks.
ROUNDS, ROUND_INTERVAL_SECONDS = 20, 0.005
#: Seconds that forks may take to write checkpoints when the front is gone; and seconds between two looks at them.
WRITERS_TIMEOUT_SECONDS, POLL_INTERVAL_SECONDS = 10.0, 0.05


def end_children() -> None:
    """Kill what this worker's cells started, but not this process."""
    process_tag = os.environ.get(PROCESS_TAG)
    if process_tag:
        end_all(process_tag, spare=os.getpid())


def end_all(process_tag: str, spare: int = 0, variable: str = PROCESS_TAG) -> int:
    """Kill every process of this user whose environment has a tag; return how many there were.

    Args:
        process_tag: the beginning of the value of ``variable``; it ends with a dot.
        spare: a process id to leave alone.
        variable: ``PROCESS_TAG`` or ``WRITER_TAG``.
    """
    killed: set[int] = set()
    for _ in range(ROUNDS):
        found = [pid for pid in _find(process_tag, variable) if pid != spare]
        if not found:
            break
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        killed.update(found)
        time.sleep(ROUND_INTERVAL_SECONDS)
    return len(killed)


def end_everything(process_tag: str, spare: int = 0) -> None:
    """Kill what ``end_all`` does, and then the forks that write checkpoints, once they had time to finish.

    Args:
        process_tag: as for ``end_all``.
        spare: as for ``end_all``.
    """
    end_all(process_tag, spare)
    deadline = time.monotonic() + WRITERS_TIMEOUT_SECONDS
    while _find(process_tag, WRITER_TAG) and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL_SECONDS)
    end_all(process_tag, variable=WRITER_TAG)
    # A standby may have taken the place of a worker meanwhile.
    end_all(process_tag, spare)


def _find(process_tag: str, variable: str) -> list[int]:
    wanted = f"{variable}={process_tag}".encode()
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208  # hundreds of entries, of which only the names are needed
        if entry.isdigit():
            with contextlib.suppress(OSError):
                # A zombie has no environment left, so it is not found again.
                variables = Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
                if any(each.startswith(wanted) for each in variables):
                    found.append(int(entry))
    return found


def fork_writer() -> int:
    """Fork a process that has the tag under the other name from its first moment on.

    Returns:
        The process id of the child; 0 in the child.

    Raises:
        OSError: no process can be started.
    """
    _overwrite(WRITER_TAG)
    # Python warns that threads are not copied, which is known. `catch_warnings` would show earlier warnings again.
    warnings.filters.insert(0, _THREADS_FILTER)  # type: ignore[attr-defined]  # it is a list
    try:
        pid = os.fork()
    except OSError:
        _overwrite(PROCESS_TAG)
        raise
    finally:
        warnings.filters.remove(_THREADS_FILTER)  # type: ignore[attr-defined]
    if pid:
        _overwrite(PROCESS_TAG)
    return pid


def set_process_tag(process_tag: str) -> None:
    """Set the tag of this process and of its child processes.

    Args:
        process_tag: as long as the inherited one.
    """
    os.environ[PROCESS_TAG] = process_tag
    _overwrite(f"{PROCESS_TAG}={process_tag}")


def _overwrite(text: str) -> None:
    """Write over the beginning of the variable where other processes see it."""
    address = _address()
    if address:
        ctypes.memmove(address, text.encode(), len(text))


@functools.cache
def _address() -> int:
    """Return the address of the variable in this process's environment; 0 if it is not known.

    In that case forks are ended along with their original: a checkpoint or a standby is lost, and nothing else.
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
