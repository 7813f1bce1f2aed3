"""How much of the machine the cells of a kernel may take, and how much they take."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

#: Part of the machine's memory that cells may take where nothing else is said.
USUAL = 0.85
#: How many processes and threads they may have where nothing else is said: at least, and for each processor.
TASKS, TASKS_EACH = 4096, 256
_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_MEMINFO, _PROC = Path("/proc/meminfo"), Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


class Limits(NamedTuple):
    """What a worker, and all that it has started, may take; None for as much as there is.

    Args:
        memory: bytes.
        processes: processes and threads.
        file_size: bytes of a file that is written.
        open_files: descriptors of one process.
        cell_time: seconds that a cell may run.
        cpu_time: seconds of processors that a cell may use.
    """

    memory: int | None = None
    processes: int | None = None
    file_size: int | None = None
    open_files: int | None = None
    cell_time: float | None = None
    cpu_time: float | None = None

    def for_the_system(self, *, apart: bool) -> dict[str, int]:
        """Return those that the system sees to.

        Args:
            apart: whether workers have a user namespace of their own: only then are their processes counted apart from
                all others of this user.
        """
        names = ["memory", "file_size", "open_files", *(["processes"] if apart else [])]
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @property
    def is_watched(self) -> bool:
        """Whether any limit holds that the front must see to."""
        own = {"file_size", "open_files"}
        return any(value is not None for name, value in self._asdict().items() if name not in own)


class Breach(NamedTuple):
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


class Cell(NamedTuple):
    """The cell that runs.

    Args:
        execution_id: its execution.
        since: when it began, by ``time.monotonic()``.
    """

    execution_id: str
    since: float


class Meter:
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
        self._cell: Cell | None = None
        self._cpu_before = 0.0

    def look(self, cell: Cell | None) -> list[Breach]:
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
                breaches.append(Breach(text, "memory_limit", "MemoryError", ends_all=in_files > limits.memory // 2))
        if limits.processes is not None:
            count = sum(map(_threads, tasks))
            if count > limits.processes:
                text = f"the limit of {limits.processes:,} processes and threads is exceeded (there are {count:,})"
                breaches.append(Breach(text, "process_limit", "OSError", ends_all=True))
        if cell is not None:
            breaches += self._look_at_times(cell)
        self._cell = cell
        return breaches

    def _look_at_times(self, cell: Cell) -> Iterator[Breach]:
        limits = self._limits
        if limits.cell_time is not None and self._clock() - cell.since > limits.cell_time:
            text = f"the limit of {limits.cell_time:g} s for a cell is exceeded"
            yield Breach(text, "execution_timeout", "TimeoutError")
        if limits.cpu_time is not None:
            used = sum(map(_cpu_time, _family(self._pid)))
            if self._cell != cell:
                # What it has used so far: at its first look a cell runs for a moment only.
                self._cpu_before = used - min(used, self._clock() - cell.since)
            if used - self._cpu_before > limits.cpu_time:
                text = f"the limit of {limits.cpu_time:g} s of processor time for a cell is exceeded"
                yield Breach(text, "cpu_limit", "TimeoutError")


def usual_memory() -> int:
    """Return how many bytes cells may take, as a rule: most of what the machine, or the container, has."""
    sizes = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        line = next(line for line in _MEMINFO.read_text().splitlines() if line.startswith("MemTotal:"))
        sizes.append(int(line.split()[1]) * 1024)
    for path in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            sizes.append(int(path.read_text()))
    return int(min(sizes, default=1 << 62) * USUAL)


def usual_processes() -> int:
    """Return how many processes and threads cells may have, as a rule."""
    return max(TASKS, TASKS_EACH * (os.cpu_count() or 1))


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
