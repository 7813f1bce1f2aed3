"""What of the notebook runs beside its cells: threads, tasks, and functions that are called with each cell."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

from capsule_worker.checkpoints.adapters.registry import ADAPTERS
from capsule_worker.output.publish_hooks import OfThread
from capsule_worker.process import execution_context


def background_activity(loop: asyncio.AbstractEventLoop) -> str | None:
    """Return what of the notebook runs beside its cells, if anything does."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not execution_context.is_ours(thread):
            return f"thread {thread.name!r} runs"
    for task in asyncio.all_tasks(loop):
        if not _is_cell(task):
            return f"task {task.get_name()!r} is pending"
    return None


def fork_unsafe_threads() -> str | None:
    """Return why a fork of this process would lack threads of a library, if that is known before a fork is tried."""
    return None if ADAPTERS.fork_unsafe_thread() is None else "a library has threads of its own"


def hooks(shell: Any) -> bool:
    """Whether functions of the notebook are called with each cell, or with what it shows, or somebody debugs."""
    if OfThread.registered or (shell.client_debugger is not None and shell.client_debugger.attached):
        return True
    namespace = shell.user_ns
    found = [hook for several in shell.events.callbacks.values() for hook in several]
    return any(getattr(hook, "__globals__", None) is namespace for hook in found) or sys.gettrace() is not None


def _is_cell(task: asyncio.Task[Any]) -> bool:
    return task.get_name() == "capsule-cell"
