"""Which cell a piece of running code belongs to.

A cell's code, the asyncio tasks and callbacks that it starts carry the execution id in a context variable; a thread
remembers the cell that started it. What belongs to none (threads of C libraries, GUI callbacks) counts for the cell
that runs, or ran last.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any

_execution: ContextVar[str] = ContextVar("capsule_execution")
_THREAD_ATTRIBUTE = "_capsule_execution"
_latest = ""


def enter(execution_id: str) -> None:
    """Say that the code which follows in this context belongs to ``execution_id``."""
    global _latest  # noqa: PLW0603  # the process runs one cell at a time; this is which
    _latest = execution_id
    _execution.set(execution_id)


@contextmanager
def attributed_to(execution_id: str) -> Iterator[None]:
    """Say that the code inside belongs to ``execution_id``, beside whatever cell runs or ran last."""
    token = _execution.set(execution_id)
    try:
        yield
    finally:
        _execution.reset(token)


def follow(execution_id: str) -> Token[str]:
    """Say that what this thread, or task, does from here on belongs to ``execution_id``.

    Returns:
        What ``unfollow`` takes.
    """
    current()
    return _execution.set(execution_id)


def unfollow(token: Token[str]) -> None:
    """Say that it belongs to what it belonged to before."""
    _execution.reset(token)


def current() -> str:
    """Return the execution id that the calling code belongs to (empty before the first cell)."""
    try:
        return _execution.get()
    except LookupError:
        inherited: str = getattr(threading.current_thread(), _THREAD_ATTRIBUTE, "")
        if inherited:
            _execution.set(inherited)
            return inherited
        return _latest


def latest() -> str:
    """Return the id of the execution that runs, or ran last."""
    return _latest


def is_ours(thread: threading.Thread) -> bool:
    """Whether a thread belongs to the worker and not to the notebook."""
    return thread.name.startswith("capsule-") or type(thread).__module__.startswith("IPython.")


def follow_threads() -> None:
    """Let every ``threading.Thread`` started from now on remember the cell that started it.

    Ours are kept from debuggers instead: pydevd neither stops nor lists what bears these two marks.
    """
    start = threading.Thread.start

    def remembering_start(self: Any, *args: Any, **kwargs: Any) -> None:
        if is_ours(self):
            self.pydev_do_not_trace = self.is_pydev_daemon_thread = True
        else:
            setattr(self, _THREAD_ATTRIBUTE, current())
        start(self, *args, **kwargs)

    threading.Thread.start = remembering_start  # type: ignore[method-assign]
