"""The limit of memory that this process was started with: it holds for cells, and not for what is ours between them."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
from collections.abc import Iterator

#: Bytes of memory that a cell is refused more of.
SOFT, _HARD = resource.getrlimit(resource.RLIMIT_DATA)


@contextlib.contextmanager
def enforced() -> Iterator[None]:
    """Refuse a cell what goes beyond the limit."""
    resource.setrlimit(resource.RLIMIT_DATA, (SOFT, _HARD))
    try:
        yield
    finally:
        relax()


def relax() -> None:
    """Have the reserve: what a cell has taken may still be there."""
    resource.setrlimit(resource.RLIMIT_DATA, (_HARD, _HARD))


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
