"""How much of the machine the cells of a kernel may take, and how much they take."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from capsule_durable.config.limits import Limits

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


class LimitViolation(NamedTuple):
    """A limit that is exceeded.

    Args:
        text: in words.
        setting: the one by which the limit is set.
        error: what the cell gets, by name.
        ends_all: whether it does not suffice to end the worker: what it has made does not end with it.
    """

    text: str
    setting: str
    error: Literal["MemoryError", "TimeoutError", "OSError"]
    ends_all: bool = False


class RunningCell(NamedTuple):
    """The cell that runs.

    Args:
        execution_id: its execution.
        since: when it began, by ``time.monotonic()``.
    """

    execution_id: str
    since: float


class ResourceMonitor:
    """Looks at what a worker takes, and all that it has started.

    Args:
        limits: what it may take.
        pid: the worker's process.
        scratch: directories in memory of its own.
        clock: returns seconds, as ``time.monotonic``.
    """

    def __init__(
        self, limits: Limits, pid: int, scratch: Sequence[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._pid = pid
        self._scratch = [_PROC / str(pid) / "root" / path.lstrip("/") for path in scratch]
        self._clock = clock
        self._cell: RunningCell | None = None
        self._cpu_before = 0.0

    def violations(self, cell: RunningCell | None) -> list[LimitViolation]:
        """Return the limits that are exceeded.

        Args:
            cell: the cell that runs, if one does.
        """
        limits, breaches = self._limits, []
        tasks = list(_family(self._pid)) if limits.memory is not None or limits.processes is not None else []
        if limits.memory is not None:
            in_files = sum(map(_size_of_files, self._scratch))
            size = memory(tasks, limits.memory, in_files)
            if size > limits.memory:
                text = (
                    f"the limit of {limits.memory / 1e9:,.2f} GB of memory is exceeded"
                    f" ({size / 1e9:,.2f} GB are in use{_of_which(in_files, limits.memory)})"
                )
                breaches.append(
                    LimitViolation(text, "memory_limit", "MemoryError", ends_all=in_files > limits.memory // 2)
                )
        if limits.processes is not None:
            count = sum(map(_threads, tasks))
            if count > limits.processes:
                text = f"the limit of {limits.processes:,} processes and threads is exceeded (there are {count:,})"
                breaches.append(LimitViolation(text, "process_limit", "OSError", ends_all=True))
        if cell is not None:
            breaches += self._look_at_times(cell)
        self._cell = cell
        return breaches

    def _look_at_times(self, cell: RunningCell) -> Iterator[LimitViolation]:
        limits = self._limits
        if limits.cell_time is not None and self._clock() - cell.since > limits.cell_time:
            text = f"the limit of {limits.cell_time:g} s for a cell is exceeded"
            yield LimitViolation(text, "execution_timeout", "TimeoutError")
        if limits.cpu_time is not None:
            used = sum(map(_cpu_time, _family(self._pid)))
            if self._cell != cell:
                # What it has used so far: at its first look a cell runs for a moment only.
                self._cpu_before = used - min(used, self._clock() - cell.since)
            if used - self._cpu_before > limits.cpu_time:
                text = f"the limit of {limits.cpu_time:g} s of processor time for a cell is exceeded"
                yield LimitViolation(text, "cpu_limit", "TimeoutError")


def memory(pids: Sequence[int], limit: int, in_files: int = 0) -> int:
    """Return how many bytes processes take.

    Args:
        pids: the processes.
        limit: up to here it need not be exact: what processes share is told apart beyond it only, since that takes
            longer to find out.
        in_files: bytes of files in memory, which processes may have mapped.
    """
    resident = sum(_number(pid, "status", "VmRSS:") * 1024 for pid in pids)
    if resident + in_files <= limit:
        return resident + in_files
    proportional = sum(_number(pid, "smaps_rollup", "Pss:") or _number(pid, "status", "VmRSS:") for pid in pids)
    mapped = sum(_number(pid, "smaps_rollup", "Pss_Shmem:") for pid in pids)
    return proportional * 1024 + max(0, in_files - mapped * 1024)


def family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    return list(_family(pid))


def _family(pid: int) -> Iterator[int]:
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        yield one
        for path in (_PROC / str(one) / "task").glob("*/children"):
            with contextlib.suppress(OSError):
                waiting += map(int, path.read_text().split())


def _number(pid: int, file: str, name: str) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (_PROC / str(pid) / file).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0


def _threads(pid: int) -> int:
    return _number(pid, "status", "Threads:")


def _cpu_time(pid: int) -> float:
    """Return the seconds of processors that a process and its ended children have used."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        # Its own in user and system mode, then its children's: fields 14 to 17; two are before the parenthesis.
        return sum(map(int, (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[11:15])) / _TICKS
    return 0.0


def _size_of_files(directory: Path) -> int:
    """Return how many bytes the files of a file system take."""
    with contextlib.suppress(OSError):
        found = os.statvfs(directory)
        return (found.f_blocks - found.f_bfree) * found.f_frsize
    return 0


def _of_which(in_files: int, limit: int) -> str:
    return f", {in_files / 1e9:,.2f} GB of them by temporary files" if in_files > limit // 10 else ""
