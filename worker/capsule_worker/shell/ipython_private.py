"""IPython's private parts that the worker uses, in one place, each with the versions that have it.

The worker runs with IPython 8.20 and newer. What is private may change with any release.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from IPython.core import interactiveshell
from IPython.core.async_helpers import _pseudo_sync_runner
from IPython.core.history import HistoryManager, HistorySavingThread
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magics.code import CodeMagics

#: Runs a coroutine that never awaits anything (8.20 and newer).
run_without_loop: Callable[[Coroutine[Any, Any, Any]], Any] = _pseudo_sync_runner


def asyncio_runner() -> Any:
    """Return IPython's runner for asyncio, which stands for the loop that is running (8.20 and newer)."""
    return interactiveshell._asyncio_runner  # type: ignore[attr-defined]  # noqa: SLF001


def accepts_cell_meta(shell: InteractiveShell) -> bool:
    """Return whether ``run_cell_async`` takes the metadata of a cell (9.16 and newer)."""
    return "cell_meta" in inspect.signature(shell.run_cell_async).parameters


def find_edit_target(shell: InteractiveShell, target: str, options: Any) -> tuple[str, int | None, bool]:
    """Return the file of what ``%edit`` names, the line in it, and whether it is a temporary file (8.20 and newer).

    Args:
        shell: the shell.
        target: a file, or the name of an object.
        options: the options of the magic.

    Raises:
        MacroToEdit: the object is a macro.
    """
    found: tuple[str, int | None, bool] = CodeMagics._find_edit_target(shell, target, options, ["", ""])  # noqa: SLF001
    return found


def flush_history(manager: HistoryManager) -> None:
    """Have the history's thread write its lines now.

    Args:
        manager: its ``save_flag`` wakes the thread (8.20 and newer). A fork ends the thread in 9.10 and newer, which
            can restart it.
    """
    private: Any = manager
    restart = getattr(private, "_restart_thread_if_stopped", None)
    if restart is not None and manager.enabled:
        restart()
    flag = getattr(private, "save_flag", None)
    if flag is not None:
        flag.set()


def renew_history_thread(manager: HistoryManager) -> None:
    """Open the history anew in a fork, which cannot share a connection and has no thread.

    Args:
        manager: its ``save_flag`` is an attribute before 9.0, and a property of the thread since.
    """
    private: Any = manager
    private.init_db()
    private.db_input_cache_lock, private.db_output_cache_lock = threading.Lock(), threading.Lock()
    if not isinstance(getattr(type(private), "save_flag", None), property):
        private.save_flag = threading.Event()
    private.save_thread = HistorySavingThread(private)


def start_history_thread(manager: HistoryManager) -> None:
    """Start the thread that ``renew_history_thread`` made.

    Args:
        manager: the history.
    """
    private: Any = manager
    private.save_thread.start()


def remember_display(shell: Any, data: dict[str, Any]) -> None:
    """Keep a display with the outputs of its cell (9.1 and newer; older versions keep none).

    Args:
        shell: the shell.
        data: the representations by MIME type.
    """
    try:
        from IPython.core.history import HistoryOutput
    except ImportError:
        return
    outputs = shell.history_manager.outputs
    output = HistoryOutput(output_type="display_data", bundle=data)
    outputs.setdefault(shell.displayhook.prompt_count, []).append(output)
