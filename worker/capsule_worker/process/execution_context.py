"""Which cell running code belongs to.

The code of a cell, and the asyncio tasks and callbacks that it starts, have the execution id in a context variable; a
thread has the id of the cell that started it. Other code (threads of C libraries, GUI callbacks) counts for the latest
cell.
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
    """Let the code that follows in this context belong to a cell, which is the latest one.

    Args:
        execution_id: the execution of the cell.
    """
    global _latest  # noqa: PLW0603  # the process runs one cell of the main shell at a time
    _latest = execution_id
    _execution.set(execution_id)


@contextmanager
def attributed_to(execution_id: str) -> Iterator[None]:
    """Let the code inside belong to an execution, whichever cell is the latest.

    Args:
        execution_id: the execution.
    """
    token = _execution.set(execution_id)
    try:
        yield
    finally:
        _execution.reset(token)


def follow(execution_id: str) -> Token[str]:
    """Let this thread, or task, belong to an execution from here on.

    Args:
        execution_id: the execution.

    Returns:
        A token for ``unfollow``.
    """
    current()
    return _execution.set(execution_id)


def unfollow(token: Token[str]) -> None:
    """Undo ``follow``.

    Args:
        token: what it returned.
    """
    _execution.reset(token)


def current() -> str:
    """Return the execution id of the calling code; an empty text before the first cell."""
    try:
        return _execution.get()
    except LookupError:
        inherited: str = getattr(threading.current_thread(), _THREAD_ATTRIBUTE, "")
        if inherited:
            _execution.set(inherited)
            return inherited
        return _latest


def latest() -> str:
    """Return the execution id of the latest cell of the main shell."""
    return _latest


def is_ours(thread: threading.Thread) -> bool:
    """Return whether a thread belongs to the worker and not to the notebook.

    Args:
        thread: the thread.
    """
    return thread.name.startswith("capsule-") or type(thread).__module__.startswith("IPython.")


def follow_threads() -> None:
    """Let every ``threading.Thread`` that starts from now on remember the cell that started it.

    Our threads get two marks for pydevd instead, which neither stops nor lists threads with them.
    """
    start = threading.Thread.start

    def start_with_execution(self: Any, *args: Any, **kwargs: Any) -> None:
        if is_ours(self):
            self.pydev_do_not_trace = self.is_pydev_daemon_thread = True
        else:
            setattr(self, _THREAD_ATTRIBUTE, current())
        start(self, *args, **kwargs)

    threading.Thread.start = start_with_execution  # type: ignore[method-assign]
