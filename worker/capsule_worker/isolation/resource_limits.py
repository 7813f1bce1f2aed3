"""The limits of a worker that the system enforces.

The front enforces the others: see ``capsule_durable.sandbox.resource_monitor``.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

_T = TypeVar("_T")

#: The system refuses memory beyond this many times the limit. Between the two the front watches, since memory that is
#: allocated need not be used.
_MEMORY_FACTOR = 1.25
#: The system's name of each limit, and the reserve beyond it for the worker between cells and for reports of errors:
#: bytes or files.
_RESOURCES = {
    "memory": (resource.RLIMIT_DATA, 256 << 20),
    "open_files": (resource.RLIMIT_NOFILE, 64),
    "file_size": (resource.RLIMIT_FSIZE, 0),
    "processes": (resource.RLIMIT_NPROC, 0),
}
#: Bytes of the memory reserve for a cell that begins with no memory left, since it may be the one that frees some.
_CELL_BYTES = 32 << 20
#: Bytes of the memory reserve for our threads while a cell runs, which the cell could use in that moment.
_THREADS_BYTES = 64 << 20
#: The limits by number: that of cells, and that of this process.
_imposed: dict[int, tuple[int, int]] = {}
#: How many cells run.
_cells = 0
#: Re-entrant: a signal handler of the user may print.
_counting = threading.RLock()


def disable_core_dumps() -> None:
    """Disable core dumps of this process and its children, since they could contain keys."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def impose(limits: Mapping[str, int]) -> None:
    """Set limits of this process. None becomes higher than it is.

    Args:
        limits: ``memory`` and ``file_size`` in bytes, ``open_files`` and ``processes``; each may be missing.
    """
    for name, (kind, reserve) in _RESOURCES.items():
        if name not in limits:
            continue
        hard = resource.getrlimit(kind)[1]
        wanted = int(limits[name] * _MEMORY_FACTOR) if name == "memory" else limits[name]
        soft, hard = _at_most(wanted, hard), _at_most(wanted + reserve, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (soft, hard))
            _imposed[kind] = (soft, hard)


@contextlib.contextmanager
def enforced() -> Iterator[None]:
    """Enforce the limits while a cell runs: a context. Several cells may run."""
    global _cells  # noqa: PLW0603  # limits are the process's
    with _counting:
        _cells += 1
        lifted.forget()
        for kind, (soft, hard) in _imposed.items():
            _set(kind, _memory_limit(soft, hard) if kind == resource.RLIMIT_DATA else soft)
    try:
        yield
    finally:
        with _counting:
            _cells -= 1
            if not _cells:
                relax()


def relax() -> None:
    """Allow the reserve until the end of the cell, whose memory may still be in use."""
    with _counting:
        lifted.forget()
        for kind, (_, hard) in _imposed.items():
            _set(kind, hard)


class _Lifted:
    """A context for our threads while a cell runs: they need memory, and the cell may have left none."""

    def __init__(self) -> None:
        self._depth = 0
        #: The limit before, and the one now.
        self._change: tuple[int, int] | None = None

    def __enter__(self) -> None:
        with _counting:
            self._depth += 1
            if self._depth == 1 and _cells and resource.RLIMIT_DATA in _imposed:
                before, hard = resource.getrlimit(resource.RLIMIT_DATA)
                if before != resource.RLIM_INFINITY:
                    self._change = before, _at_most(before + _THREADS_BYTES, hard)
                    _set(resource.RLIMIT_DATA, self._change[1])

    def __exit__(self, *_: object) -> None:
        with _counting:
            self._depth -= 1
            if not self._depth and self._change is not None:
                before, now = self._change
                self._change = None
                # The cell may have set another limit.
                if resource.getrlimit(resource.RLIMIT_DATA)[0] == now:
                    _set(resource.RLIMIT_DATA, before)

    def forget(self) -> None:
        """Do not restore the limit, since it is about to be set."""
        self._change = None

    def after_fork_in_child(self) -> None:
        """Restore the limit in a forked child, which has none of the threads."""
        if self._depth:
            self._depth = 1
            self.__exit__()


lifted = _Lifted()


def retry_on_memory_error(wait: Callable[[], _T]) -> _T:
    """Call a function that waits, in one of our threads. It needs little memory, but the cell may have left none.

    Args:
        wait: the function.
    """
    while True:
        try:
            return wait()
        except MemoryError:
            relax()


def after_fork_in_child() -> None:
    """Restore the limits in a forked child, which has none of the threads."""
    global _counting  # noqa: PLW0603
    _counting = threading.RLock()
    lifted.after_fork_in_child()


def _set(kind: int, soft: int) -> None:
    """Set a limit, as far as possible: a cell may have lowered the hard limit for good."""
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (_at_most(soft, hard), hard))


def _memory_limit(soft: int, hard: int) -> int:
    """Return the memory limit for a cell that begins now, in bytes."""
    try:
        fd = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        try:
            used = int(os.read(fd, 256).split()[5]) * resource.getpagesize()
        finally:
            os.close(fd)
    except OSError:
        return soft
    # Half of the reserve is for the worker.
    return max(soft, min(used + _CELL_BYTES, (soft + hard) // 2))


def of_cells(kind: int) -> int | None:
    """Return a limit of cells; None if there is none.

    Args:
        kind: the limit, for example ``resource.RLIMIT_DATA``.
    """
    return _imposed[kind][0] if kind in _imposed else None


def exit_with_threads() -> None:
    """Print the exception that ends one of our threads, and end this process, which would hang without the thread.

    That happens when a cell in the main thread leaves no memory for it.
    """
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if args.thread is None or not args.thread.name.startswith("capsule-"):
            before(args)
            return
        relax()
        print(f"capsule-worker: {args.thread.name}: {args.exc_type.__name__}: {args.exc_value}", file=sys.__stderr__)
        os._exit(1)

    threading.excepthook = hook


def _at_most(limit: int, hard: int) -> int:
    return limit if hard == resource.RLIM_INFINITY else min(limit, hard)
