"""The limits that a worker is started with, as far as the system refuses what goes beyond them.

The front watches what the system does not: see ``capsule_durable.sandbox.resource_monitor``.
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

#: Of a limit of memory, how much is refused at once. Below it the front watches: what is asked for need not be used.
_REFUSED = 1.25
#: What each limit is to the system, and what lies beyond it for what is ours between cells, and for telling of errors:
#: bytes, and files.
_RESOURCES = {
    "memory": (resource.RLIMIT_DATA, 256 << 20),
    "open_files": (resource.RLIMIT_NOFILE, 64),
    "file_size": (resource.RLIMIT_FSIZE, 0),
    "processes": (resource.RLIMIT_NPROC, 0),
}
#: Of the reserve of memory, what a cell has that begins where nothing is left: a cell may be the one that frees some.
_ROOM = 32 << 20
#: And what there is for threads of ours beside a cell, at a moment in which the cell might have it instead.
_BESIDE = 64 << 20
#: Those that were imposed: what is refused to cells, and what to this process.
_imposed: dict[int, tuple[int, int]] = {}
#: How many cells run.
_cells = 0
#: Re-entrant: a signal handler of the user may print.
_counting = threading.RLock()


def leave_no_core() -> None:
    """Have no dump made of this process or what comes of it: keys would be in there."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def impose(limits: Mapping[str, int]) -> None:
    """Have the system refuse what goes beyond some limits. None is made wider than it is.

    Args:
        limits: ``memory`` and ``file_size`` in bytes, ``open_files`` and ``processes``; each may be missing.
    """
    for name, (kind, reserve) in _RESOURCES.items():
        if name not in limits:
            continue
        hard = resource.getrlimit(kind)[1]
        wanted = int(limits[name] * _REFUSED) if name == "memory" else limits[name]
        soft, hard = _at_most(wanted, hard), _at_most(wanted + reserve, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (soft, hard))
            _imposed[kind] = (soft, hard)


@contextlib.contextmanager
def enforced() -> Iterator[None]:
    """Refuse a cell what goes beyond the limits; several may run."""
    global _cells  # noqa: PLW0603  # limits are the process's
    with _counting:
        _cells += 1
        lifted.forget()
        for kind, (soft, hard) in _imposed.items():
            _set(kind, _with_room(soft, hard) if kind == resource.RLIMIT_DATA else soft)
    try:
        yield
    finally:
        with _counting:
            _cells -= 1
            if not _cells:
                relax()


def relax() -> None:
    """Have the reserve to the end of the cell: what it has taken may still be there."""
    with _counting:
        lifted.forget()
        for kind, (_, hard) in _imposed.items():
            _set(kind, hard)


class _Lifted:
    """A context, for what is ours beside a cell: it needs memory, and the cell may have left none."""

    def __init__(self) -> None:
        self._depth = 0
        #: What was refused before, and what is now.
        self._change: tuple[int, int] | None = None

    def __enter__(self) -> None:
        with _counting:
            self._depth += 1
            if self._depth == 1 and _cells and resource.RLIMIT_DATA in _imposed:
                before, hard = resource.getrlimit(resource.RLIMIT_DATA)
                if before != resource.RLIM_INFINITY:
                    self._change = before, _at_most(before + _BESIDE, hard)
                    _set(resource.RLIMIT_DATA, self._change[1])

    def __exit__(self, *_: object) -> None:
        with _counting:
            self._depth -= 1
            if not self._depth and self._change is not None:
                before, now = self._change
                self._change = None
                # The cell may have set one of its own.
                if resource.getrlimit(resource.RLIMIT_DATA)[0] == now:
                    _set(resource.RLIMIT_DATA, before)

    def forget(self) -> None:
        """Leave the limit as it is going to be."""
        self._change = None

    def after_fork_in_child(self) -> None:
        """Put it back: the threads that had lifted it are not there."""
        if self._depth:
            self._depth = 1
            self.__exit__()


lifted = _Lifted()


def retry_on_memory_error(wait: Callable[[], _T]) -> _T:
    """Call what waits for something, in a thread of ours: it needs little, but the cell may have left nothing."""
    while True:
        try:
            return wait()
        except MemoryError:
            relax()


def after_fork_in_child() -> None:
    """In a forked child: it has none of the threads."""
    global _counting  # noqa: PLW0603
    _counting = threading.RLock()
    lifted.after_fork_in_child()


def _set(kind: int, soft: int) -> None:
    """Refuse what goes beyond ``soft``, as far as that can be: a cell may have lowered the hard limit for good."""
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (_at_most(soft, hard), hard))


def _with_room(soft: int, hard: int) -> int:
    """Return what a cell is refused that begins with what is there now."""
    try:
        fd = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        try:
            used = int(os.read(fd, 256).split()[5]) * resource.getpagesize()
        finally:
            os.close(fd)
    except OSError:
        return soft
    # Half the reserve stays ours.
    return max(soft, min(used + _ROOM, (soft + hard) // 2))


def of_cells(kind: int) -> int | None:
    """Return what is refused to cells.

    Args:
        kind: a limit of the system's, as ``resource.RLIMIT_DATA``.
    """
    return _imposed[kind][0] if kind in _imposed else None


def end_with_threads() -> None:
    """End this process, with its words, if a thread of its own ends by an exception: without it the process is deaf.

    That happens where a cell in the main thread leaves no memory for it.
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
