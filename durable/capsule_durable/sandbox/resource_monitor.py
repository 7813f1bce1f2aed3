"""Measure how much memory, time and how many processes a worker uses, and compare that with its limits."""

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
        text: the message for the user.
        setting: the setting that sets the limit.
        error: the exception that the cell gets, by name.
        ends_all: whether all processes of the sandbox must end, because ending the worker frees too little.
    """

    text: str
    setting: str
    error: Literal["MemoryError", "TimeoutError", "OSError"]
    ends_all: bool = False


class RunningCell(NamedTuple):
    """The cell that runs.

    Args:
        execution_id: its execution.
        since: when it began, in seconds of ``time.monotonic()``.
    """

    execution_id: str
    since: float


class Usage(NamedTuple):
    """What a worker and all processes that it has started use. A quantity without limit is not measured, and is 0.

    Args:
        memory: bytes of memory, including those of files in memory.
        memory_of_files: bytes of files in memory.
        processes: number of processes and threads.
        cell_time: seconds since the running cell began.
        cpu_time: seconds of processor time that the running cell has used.
    """

    memory: int = 0
    memory_of_files: int = 0
    processes: int = 0
    cell_time: float = 0.0
    cpu_time: float = 0.0


def exceeded(limits: Limits, usage: Usage) -> list[LimitViolation]:
    """Return the limits that are exceeded. Pure.

    Args:
        limits: the limits.
        usage: what is used.
    """
    found = []
    if limits.memory is not None and usage.memory > limits.memory:
        files = usage.memory_of_files
        of_files = f", {files / 1e9:,.2f} GB of them by temporary files" if files > limits.memory // 10 else ""
        text = (
            f"the limit of {limits.memory / 1e9:,.2f} GB of memory is exceeded"
            f" ({usage.memory / 1e9:,.2f} GB are in use{of_files})"
        )
        found.append(LimitViolation(text, "memory_limit", "MemoryError", ends_all=files > limits.memory // 2))
    if limits.processes is not None and usage.processes > limits.processes:
        text = f"the limit of {limits.processes:,} processes and threads is exceeded (there are {usage.processes:,})"
        found.append(LimitViolation(text, "process_limit", "OSError", ends_all=True))
    if limits.cell_time is not None and usage.cell_time > limits.cell_time:
        text = f"the limit of {limits.cell_time:g} s for a cell is exceeded"
        found.append(LimitViolation(text, "execution_timeout", "TimeoutError"))
    if limits.cpu_time is not None and usage.cpu_time > limits.cpu_time:
        text = f"the limit of {limits.cpu_time:g} s of processor time for a cell is exceeded"
        found.append(LimitViolation(text, "cpu_limit", "TimeoutError"))
    return found


class ResourceMonitor:
    """Measures the resources that a worker and all processes that it has started use.

    Args:
        limits: the limits.
        pid: the worker's process id.
        scratch: directories inside the sandbox that are in memory.
        clock: returns seconds of a monotonic clock.
    """

    def __init__(
        self, limits: Limits, pid: int, scratch: Sequence[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._pid = pid
        self._scratch = [_PROC / str(pid) / "root" / path.lstrip("/") for path in scratch]
        self._clock = clock
        self._cell: RunningCell | None = None
        #: Seconds of processor time that all processes had used when the running cell began.
        self._cpu_time_before = 0.0

    def violations(self, cell: RunningCell | None) -> list[LimitViolation]:
        """Measure, and return the limits that are exceeded.

        Args:
            cell: the cell that runs; None if none does.
        """
        limits, usage = self._limits, Usage()
        tasks = list(_family(self._pid)) if limits.memory is not None or limits.processes is not None else []
        if limits.memory is not None:
            files = sum(map(_size_of_files, self._scratch))
            usage = usage._replace(memory=memory(tasks, limits.memory, files), memory_of_files=files)
        if limits.processes is not None:
            usage = usage._replace(processes=sum(map(_threads, tasks)))
        if cell is not None:
            cell_time = self._clock() - cell.since
            cpu_time = self._cpu_time(cell, cell_time) if limits.cpu_time is not None else 0.0
            usage = usage._replace(cell_time=cell_time, cpu_time=cpu_time)
        self._cell = cell
        return exceeded(limits, usage)

    def _cpu_time(self, cell: RunningCell, cell_time: float) -> float:
        """Return the seconds of processor time that a cell has used."""
        used = sum(map(_cpu_time, _family(self._pid)))
        if self._cell != cell:
            # Assume that one processor was busy since the cell began, which was a moment ago.
            self._cpu_time_before = used - min(used, cell_time)
        return used - self._cpu_time_before


def memory(pids: Sequence[int], limit: int, in_files: int = 0) -> int:
    """Return how many bytes of memory processes use.

    Args:
        pids: the processes.
        limit: a result up to this number of bytes need not be exact. Memory that processes share is counted once only
            beyond it, because that takes longer to measure.
        in_files: bytes of files in memory, which processes may have mapped.
    """
    resident = sum(_number(pid, "status", "VmRSS:") * 1024 for pid in pids)
    if resident + in_files <= limit:
        return resident + in_files
    proportional = sum(_number(pid, "smaps_rollup", "Pss:") or _number(pid, "status", "VmRSS:") for pid in pids)
    mapped = sum(_number(pid, "smaps_rollup", "Pss_Shmem:") for pid in pids)
    return proportional * 1024 + max(0, in_files - mapped * 1024)


def family(pid: int) -> list[int]:
    """Return a process and its descendants.

    Args:
        pid: the process.
    """
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
    """Return the seconds of processor time that a process and its ended children have used."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        # Fields 14 to 17 of proc(5): user and system time of the process, then of its children.
        return sum(map(int, (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[11:15])) / _TICKS
    return 0.0


def _size_of_files(directory: Path) -> int:
    """Return how many bytes the files of a file system use."""
    with contextlib.suppress(OSError):
        found = os.statvfs(directory)
        return (found.f_blocks - found.f_bfree) * found.f_frsize
    return 0
