"""How much memory a worker and what it has started take, and how much they may."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

#: Part of the machine's memory that cells may take where nothing else is said.
USUAL = 0.85
_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_MEMINFO, _PROC = Path("/proc/meminfo"), Path("/proc")


def usual_limit() -> int:
    """Return how many bytes cells may take, as a rule: most of what the machine, or the container, has."""
    sizes = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        line = next(line for line in _MEMINFO.read_text().splitlines() if line.startswith("MemTotal:"))
        sizes.append(int(line.split()[1]) * 1024)
    for path in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            sizes.append(int(path.read_text()))
    return int(min(sizes, default=1 << 62) * USUAL)


def used(pid: int, limit: int) -> int:
    """Return how many bytes a process and its descendants take.

    Args:
        pid: the process.
        limit: up to here it need not be exact: what processes share is told apart beyond it only, since that takes
            longer to find out.
    """
    family = list(_family(pid))
    resident = sum(_resident(one) for one in family)
    return resident if resident <= limit else sum(_proportional(one) for one in family)


def _family(pid: int) -> Iterator[int]:
    yield pid
    for path in (_PROC / str(pid) / "task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                yield from _family(int(child))


def _resident(pid: int) -> int:
    return _rolled_up(pid, "status", "VmRSS:")


def _proportional(pid: int) -> int:
    return _rolled_up(pid, "smaps_rollup", "Pss:") or _resident(pid)


def _rolled_up(pid: int, file: str, name: str) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (_PROC / str(pid) / file).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0
