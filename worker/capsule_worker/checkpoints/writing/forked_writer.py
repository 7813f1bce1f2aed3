"""Copies of this process, made by fork, that work while it goes on.

This process forks a *guardian*, which forks a *writer*. The writer does what may fail, in whatever way the user's
objects make it fail; the guardian watches it, ends it, and has another one try again without what was at fault.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import resource
import select
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from capsule_worker.process import children, orphan_cleanup

#: Seconds without any progress after which a writer hangs.
HANG = 10.0
#: Seconds between two looks at a writer's progress.
_LOOK = 0.25
#: Bytes that a writer may use beyond what it began with: at least this, and this part of what it began with.
_ROOM, _PART = 1 << 30, 0.3
#: Bytes of addresses that allocators set aside without using them: that of Arrow takes 1 GB at a time.
_SET_ASIDE = 8 << 30
#: A writer gives way to the cells.
_NICE = 5
_TEXT = 4096
#: How the reason begins where an object made a writer hang or end.
FAULT = "saving it "
_ENDED = FAULT + "ended the process that did it"
_KILLED = f"{_ENDED} (SIGKILL)"
#: What it says of one that did nothing any more.
HANGS = "made no progress"


class Progress:
    """How far a writer has come, in memory that it shares with those who watch it."""

    _HEAD = struct.Struct("<QQI")
    _END = _HEAD.size + _TEXT

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self._END + 2)
        self._steps = 0

    def step(self, written: int, unit: str | None = None) -> None:
        """Say that something was done.

        Args:
            written: bytes so far.
            unit: what is being done, if that is something else than before; "" for what may take as long as it likes.
        """
        self._steps += 1
        if unit is None:
            self._memory[:16] = struct.pack("<QQ", self._steps, written)
            return
        text = unit.encode("utf-8", "replace")[:_TEXT]
        self._memory[: self._HEAD.size + len(text)] = self._HEAD.pack(self._steps, written, len(text)) + text

    def look(self) -> tuple[int, int, str]:
        """Return steps, bytes and what is being done."""
        steps, written, length = self._HEAD.unpack_from(self._memory)
        start = self._HEAD.size
        return steps, written, self._memory[start : start + length].decode("utf-8", "replace")

    @property
    def staged(self) -> bool:
        """Whether all that is left is to bring it to the disk, which anybody can do, though not whether it was done."""
        return bool(self._memory[self._END + 1]) and not self.done

    def stage(self) -> None:
        """Say that all that is left is to bring it to the disk."""
        self._memory[self._END + 1] = 1

    @property
    def done(self) -> bool:
        """Whether all of it was done. That a writer ended well is no proof: what the user's objects call may end it."""
        return bool(self._memory[self._END])

    def finish(self) -> None:
        """Say that all of it was done."""
        self._memory[self._END] = 1

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()


def fork_guardian(guard: Callable[[], NoReturn]) -> None:
    """Fork a process that runs ``guard``.

    The guardian is nobody's child, so that code which waits for any child of its own does not meet it.
    """
    sys.stdout.flush()
    pid = orphan_cleanup.fork_writer()
    if pid:
        children.register(pid)
        return
    try:
        if os.fork():
            os._exit(0)
        gc.disable()
        os.setsid()
        guard()
    except BaseException:  # nothing that happens here may reach the code that was running when the process was copied
        os._exit(1)
    os._exit(0)


def watch(progress: Progress, write: Callable[[], None], blame: Callable[[str, str], None], hang: float = HANG) -> bool:
    """Have writers try until one is done, or has staged what it wrote; return whether one was.

    Args:
        progress: shared with the writers.
        write: does it; runs in a process of its own.
        blame: told what a writer was doing when it failed, and how it failed.
        hang: seconds without progress that are too many.
    """
    blamed: set[str] = set()
    pardoned: set[str] = set()
    while True:
        progress.step(0, "")
        pid = os.fork()
        if not pid:
            _become_writer(progress, write)
        how = _wait(pid, progress, hang)
        if how is None:
            return True
        unit = progress.look()[2]
        if not unit or unit in blamed:
            return False
        if how == _KILLED and unit not in pardoned:
            # Whoever did it may have had nothing to do with what was being saved: the system, short of memory.
            pardoned.add(unit)
            continue
        blamed.add(unit)
        blame(unit, how)


def _become_writer(progress: Progress, write: Callable[[], None]) -> NoReturn:
    status = 1
    try:
        os.setsid()
        _silence()
        with contextlib.suppress(OSError):
            os.nice(_NICE)
        _bound_memory()
        write()
        progress.finish()
        status = 0
    except BaseException:
        status = 1
    finally:
        os._exit(status)


def _wait(pid: int, progress: Progress, hang: float) -> str | None:
    """Wait for a writer; return how it failed."""
    pidfd = os.pidfd_open(pid)
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    before, still = progress.look()[0], 0.0
    began = _memory_of(pid)
    room = max(_ROOM, int(began * _PART))
    fault = None
    try:
        while not poller.poll(_LOOK * 1000):
            steps, _, unit = progress.look()
            still = still + _LOOK if unit and steps == before else 0.0
            before = steps
            if still >= hang:
                fault = f"{HANGS} for {hang:g} s"
            elif _memory_of(pid) > began + room:
                fault = f"took more than {room / 1e6:,.0f} MB of memory"
            if fault is not None:
                os.kill(pid, signal.SIGKILL)
                break
    finally:
        os.close(pidfd)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    # What the user's objects started when they were asked for their state.
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    if progress.done or progress.staged:
        return None
    if fault is not None:
        return f"{FAULT}{fault}"
    return f"{_ENDED} ({_describe(status)})"


def _describe(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"


def _silence() -> None:
    """Let nothing that the user's objects print or ask for reach anybody."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _memory_of(pid: int) -> int:
    """Return how many bytes of memory a process has that is no file's."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def _bound_memory() -> None:
    """Keep what grows too fast to be seen from taking all there is."""
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        size = pages * resource.getpagesize()
        limit = size + max(_ROOM, int(size * _PART)) + _SET_ASIDE
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if hard == resource.RLIM_INFINITY or limit < hard:
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
