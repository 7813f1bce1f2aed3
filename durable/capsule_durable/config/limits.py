"""Limits and path rules of the sandbox: values of the configuration.

Plain tuples, so that the first worker can be started before pydantic is imported.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

#: Part of the machine's memory that cells may take where nothing else is said.
DEFAULT_MEMORY_SHARE = 0.85
#: How many processes and threads they may have where nothing else is said: at least, and for each processor.
MIN_TASKS, TASKS_PER_PROCESSOR = 4096, 256
_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_MEMINFO = Path("/proc/meminfo")


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

    def enforced_by_system(self, *, apart: bool) -> dict[str, int]:
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


class PathRules(NamedTuple):
    """Exceptions that a person configures to a profile's rules for paths. ``~`` is the home directory.

    Args:
        hidden: what cells do not see; None for what is usual in the profile.
        readable: what of that, and of ``/run``, they do see.
        writable: what they may change, though the profile says otherwise.
    """

    hidden: Sequence[str] | None = None
    readable: Sequence[str] = ()
    writable: Sequence[str] = ()


def default_memory_limit() -> int:
    """Return how many bytes cells may take, as a rule: most of what the machine, or the container, has."""
    sizes = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        line = next(line for line in _MEMINFO.read_text().splitlines() if line.startswith("MemTotal:"))
        sizes.append(int(line.split()[1]) * 1024)
    for path in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            sizes.append(int(path.read_text()))
    return int(min(sizes, default=1 << 62) * DEFAULT_MEMORY_SHARE)


def default_process_limit() -> int:
    """Return how many processes and threads cells may have, as a rule."""
    return max(MIN_TASKS, TASKS_PER_PROCESSOR * (os.cpu_count() or 1))
