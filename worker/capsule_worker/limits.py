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
#: Bytes beyond that for what is ours between cells, and for telling of the error.
_RESERVE = 256 << 20
#: What each limit is to the system.
_RESOURCES = {
    "file_size": resource.RLIMIT_FSIZE,
    "open_files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
}
_memory = resource.getrlimit(resource.RLIMIT_DATA)


def leave_no_core() -> None:
    """Have no dump made of this process or what comes of it: keys would be in there."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def impose(limits: Mapping[str, int]) -> None:
    """Have the system refuse what goes beyond some limits. None is made wider than it is.

    Args:
        limits: ``memory`` and ``file_size`` in bytes, ``open_files`` and ``processes``; each may be missing.
    """
    global _memory  # noqa: PLW0603  # it is the process's
    for name, kind in _RESOURCES.items():
        if name in limits:
            most = _at_most(limits[name], resource.getrlimit(kind)[1])
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(kind, (most, most))
    if "memory" in limits:
        refused = int(limits["memory"] * _REFUSED)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (refused, refused + _RESERVE))
    _memory = resource.getrlimit(resource.RLIMIT_DATA)


@contextlib.contextmanager
def enforced() -> Iterator[None]:
    """Refuse a cell memory beyond the limit."""
    resource.setrlimit(resource.RLIMIT_DATA, _memory)
    try:
        yield
    finally:
        relax()


def relax() -> None:
    """Have the reserve: what a cell has taken may still be there."""
    resource.setrlimit(resource.RLIMIT_DATA, (_memory[1], _memory[1]))


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
