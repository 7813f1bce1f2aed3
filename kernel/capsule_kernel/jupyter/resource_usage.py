"""What the kernel's processes use: memory and processors, for clients that show it (``usage_request``)."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psutil


class Usage:
    """Measures this process and its descendants: workers, their copies, and the processes that cells have started.

    A measurement takes some milliseconds for each GB, so it is not for the loop's thread.
    """

    def __init__(self) -> None:
        #: Kept from look to look, since the part of a processor that one uses is counted from the last one.
        self._processes: dict[int, psutil.Process] = {}

    def look(self) -> dict[str, Any]:
        """Return the content of a ``usage_reply``: memory in bytes, processors in percent of one."""
        import psutil  # takes its time, and most kernels are never asked

        here = psutil.Process()
        found = {process.pid: process for process in (here, *here.children(recursive=True))}
        self._processes = {pid: self._processes.get(pid, process) for pid, process in found.items()}
        cpu, memory = 0.0, 0
        for process in self._processes.values():
            with contextlib.suppress(psutil.Error):  # it has just ended
                cpu += process.cpu_percent()
                memory += _memory(process)
        usage: dict[str, Any] = {
            "hostname": socket.gethostname(),
            "pid": os.getpid(),
            "kernel_cpu": cpu,
            "kernel_memory": memory,
            "cpu_count": psutil.cpu_count(logical=True),
            "host_virtual_memory": dict(psutil.virtual_memory()._asdict()),
        }
        # The first time there is nothing that it could be counted from.
        host = psutil.cpu_percent()
        return usage | ({"host_cpu_percent": host} if host else {})


def _memory(process: psutil.Process) -> int:
    """Return the bytes that a process has; of what several share, its part, where that may be known."""
    import psutil

    with contextlib.suppress(psutil.AccessDenied, AttributeError):
        return int(process.memory_full_info().pss)
    return int(process.memory_info().rss)
