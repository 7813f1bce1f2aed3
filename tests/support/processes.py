"""The processes that a kernel has started, and whether they have ended."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support import PROGRAMS
from tests.support.waiting import DEADLINE, poll_until

#: Runs a module in a process of its own.
RUN_MODULE = (sys.executable, str(PROGRAMS / "run_module.py"))
MARK = "CAPSULE_TEST_FAMILY"
"""Environment variable by which descendants are found after their parents have gone."""


@dataclass
class Family:
    """All processes that descend from one test's kernels.

    A process belongs to it when it inherited the mark, or when `meet` saw it below one that did: the first
    finds orphans, the second finds children that were given an environment of their own.
    """

    mark: str
    met: set[psutil.Process] = field(default_factory=set)

    def meet(self) -> set[psutil.Process]:
        """Record every member that is alive now, and return them."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark and process.pid != os.getpid():
                    self.met |= {process, *process.children(recursive=True)}
        return self.alive()

    def alive(self) -> set[psutil.Process]:
        """Return the members met so far that still run; one that only waits to be collected does not."""
        return {process for process in self.met if is_running(process)}

    def below(self, pid: int) -> set[psutil.Process]:
        """Return the living descendants of one process."""
        children = set(psutil.Process(pid).children(recursive=True))
        self.met |= children
        return children

    def end(self) -> None:
        """End what is left of it, so that a test that fails leaves nothing to the next one."""
        for process in self.meet():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def wait_until_gone(self, deadline: float = DEADLINE, spare: int = 0) -> None:
        """Wait until no member runs any more, but for one; fail with the command lines of those that do.

        Args:
            deadline: seconds that it may take.
            spare: the process that may continue.
        """
        try:
            poll_until(lambda: {one.pid for one in self.meet()} <= {spare}, "no process left", deadline)
        except AssertionError as error:
            left = [_describe(process) for process in self.alive()]
            msg = f"{len(left)} processes outlived the kernel: {left}"
            raise AssertionError(msg) from error


def outside(front: int, inner: int) -> int:
    """Return the id that a process has here which a cell knows by another one: cells may see only their own.

    Args:
        front: the process of the kernel that started it.
        inner: its id there.
    """
    for process in psutil.Process(front).children(recursive=True):
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            ids = next(line for line in lines if line.startswith("NSpid:")).split()[1:]
            if int(ids[-1]) == inner:
                return int(process.pid)
    raise AssertionError(f"process {front} has no descendant that is {inner} to itself")


def is_running(process: psutil.Process) -> bool:
    """Return whether a process runs; one that only waits to be collected does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} (parent {process.ppid()}): {' '.join(process.cmdline())}"
    except psutil.Error:
        return f"{process.pid}"
