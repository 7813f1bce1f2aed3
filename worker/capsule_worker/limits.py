"""The limits that a worker is started with, as far as the system refuses what goes beyond them.

The front watches what the system does not: see ``capsule_durable.limits``.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
from collections.abc import Iterator, Mapping

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
#: Those that were imposed: what is refused to cells, and what to this process.
_imposed: dict[int, tuple[int, int]] = {}
#: How many cells run.
_cells = 0
_counting = threading.Lock()


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
        for kind, limit in _imposed.items():
            resource.setrlimit(kind, limit)
    try:
        yield
    finally:
        with _counting:
            _cells -= 1
            if not _cells:
                relax()


def relax() -> None:
    """Have the reserve: what a cell has taken may still be there."""
    for kind, (_, hard) in _imposed.items():
        resource.setrlimit(kind, (hard, hard))


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
