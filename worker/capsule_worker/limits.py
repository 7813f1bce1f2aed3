"""The limits that a worker is started with, as far as the system refuses what goes beyond them.

The front watches what the system does not: see ``capsule_durable.limits``.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
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
#: How many threads of ours need the reserve at this moment.
_lifted = 0
#: What the cells that run are refused.
_refused: dict[int, int] = {}
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
        for kind, (soft, hard) in _imposed.items():
            _refused[kind] = _with_room(soft, hard) if kind == resource.RLIMIT_DATA else soft
        _apply()
    try:
        yield
    finally:
        with _counting:
            _cells -= 1
            _apply()


class _Lifted:
    """A context, for threads of ours beside a cell: what they do needs memory, and the cell may have left none."""

    def __enter__(self) -> None:
        self._count(1)

    def __exit__(self, *_: object) -> None:
        self._count(-1)

    def _count(self, more: int) -> None:
        global _lifted  # noqa: PLW0603  # limits are the process's
        with _counting:
            _lifted += more
            _apply()


lifted = _Lifted()


def relax() -> None:
    """Have the reserve to the end of the cell: what it has taken may still be there."""
    with _counting:
        for kind, (_, hard) in _imposed.items():
            _refused[kind] = hard
        _apply()


def patiently(wait: Callable[[], _T]) -> _T:
    """Call what waits for something, in a thread of ours: it needs little, but the cell may have left nothing."""
    while True:
        try:
            return wait()
        except MemoryError:
            relax()


def after_fork_in_child() -> None:
    """In a forked child: the threads that needed the reserve are not there."""
    global _counting, _lifted  # noqa: PLW0603
    _counting = threading.RLock()
    if _lifted:
        _lifted = 0
        _apply()


def _apply() -> None:
    for kind, (_, hard) in _imposed.items():
        limit = _refused.get(kind, hard) if _cells else hard
        if _lifted:
            limit = min(limit + _BESIDE, hard) if kind == resource.RLIMIT_DATA else hard
        resource.setrlimit(kind, (limit, hard))


def _with_room(soft: int, hard: int) -> int:
    """Return what a cell is refused that begins with what is there now."""
    try:
        used = int(Path("/proc/self/statm").read_bytes().split()[5]) * resource.getpagesize()
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
