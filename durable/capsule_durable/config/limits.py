"""Resource limits and path rules of the sandbox: values of the configuration.

They are plain tuples, so that the first worker can be started before pydantic is imported.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

#: The default limit of memory, as a part of the machine's or the container's.
DEFAULT_MEMORY_SHARE = 0.85
#: The default limit of processes and threads: at least, and for each processor.
MIN_TASKS, TASKS_PER_PROCESSOR = 4096, 256
_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_MEMINFO = Path("/proc/meminfo")


class Limits(NamedTuple):
    """The limits of a worker and all processes that it has started; None for no limit.

    Args:
        memory: bytes.
        processes: number of processes and threads.
        file_size: bytes of a file that a process writes.
        open_files: number of descriptors of one process.
        cell_time: seconds that a cell may run.
        cpu_time: seconds of processor time that a cell may use.
    """

    memory: int | None = None
    processes: int | None = None
    file_size: int | None = None
    open_files: int | None = None
    cell_time: float | None = None
    cpu_time: float | None = None

    def enforced_by_system(self, *, has_user_namespace: bool) -> dict[str, int]:
        """Return the limits that the system enforces, by name.

        Args:
            has_user_namespace: whether workers have a user namespace of their own. Only then does the system count
                their processes separately from all others of this user.
        """
        names = ["memory", "file_size", "open_files", *(["processes"] if has_user_namespace else [])]
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @property
    def is_watched(self) -> bool:
        """Whether the front must watch any limit, because the system does not enforce it well enough."""
        system = {"file_size", "open_files"}
        return any(value is not None for name, value in self._asdict().items() if name not in system)


class PathRules(NamedTuple):
    """The configured exceptions to a profile's rules for paths. ``~`` is the user's home directory.

    Args:
        hidden: paths that are hidden from cells; None for the profile's default.
        readable: parts of these, and of ``/run``, that cells may read.
        writable: paths that cells may write to, although the profile does not allow it.
    """

    hidden: Sequence[str] | None = None
    readable: Sequence[str] = ()
    writable: Sequence[str] = ()


def default_memory_limit() -> int:
    """Return the default limit of memory in bytes: most of the memory of the machine or the container."""
    sizes = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        line = next(line for line in _MEMINFO.read_text().splitlines() if line.startswith("MemTotal:"))
        sizes.append(int(line.split()[1]) * 1024)
    for path in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # the file does not exist, or contains "max"
            sizes.append(int(path.read_text()))
    return int(min(sizes, default=1 << 62) * DEFAULT_MEMORY_SHARE)


def default_process_limit() -> int:
    """Return the default limit of processes and threads."""
    return max(MIN_TASKS, TASKS_PER_PROCESSOR * (os.cpu_count() or 1))
