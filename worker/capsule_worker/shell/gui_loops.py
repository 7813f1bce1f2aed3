"""Windows of graphical toolkits: their events are processed between cells, and while a cell awaits."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from IPython.core.error import UsageError

from capsule_worker.isolation.error_hints import PROFILE

#: Seconds between two looks for events.
POLL_INTERVAL_SECONDS = 0.02
#: Events that are processed at once, before cells get their turn.
_MAX_EVENTS = 100
#: Names that ask for an event loop and need only the one that is running.
_ASYNCIO = frozenset({"asyncio", "inline", "ipympl", "nbagg", "none", "notebook", "webagg", "widget"})
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")


class GuiEventLoop:
    """Runs toolkits on the worker's asyncio loop. A worker has one."""

    def __init__(self) -> None:
        self._steps: dict[str, Callable[[], object]] = {}
        self._task: asyncio.Task[None] | None = None

    def enable(self, gui: str | None) -> None:
        """Process the events of a toolkit's windows from now on.

        Args:
            gui: the toolkit, as in ``%gui``; None for no toolkit any more.

        Raises:
            UsageError: the toolkit is unknown, or no display was found; the text says what to do.
        """
        if gui is None:
            self._steps.clear()
            return
        if gui in _ASYNCIO:
            return
        if gui not in _TOOLKITS:
            raise UsageError(
                f"unknown event loop {gui!r} (choose from asyncio, {', '.join(_TOOLKITS)}). To show figures in the"
                " notebook, use `%matplotlib inline` or, where ipympl is installed, `%matplotlib widget`"
            )
        if gui not in self._steps:
            self._steps[gui] = _TOOLKITS[gui](gui)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"windows of {gui}")

    async def _run(self) -> None:
        while self._steps:
            for step in list(self._steps.values()):
                # An interrupt is meant for the cell that awaits.
                with contextlib.suppress(KeyboardInterrupt):
                    step()
            await asyncio.sleep(POLL_INTERVAL_SECONDS)


def _tk(_gui: str) -> Callable[[], object]:
    try:
        import _tkinter
        import tkinter as tk
    except ImportError as error:
        raise UsageError(
            f"this Python has no tkinter ({error}): install it, for example apt-get install python3-tk"
        ) from error
    try:
        # Tk processes the events of all windows of a thread at once; this window is never shown.
        root = tk.Tk()
    except tk.TclError as error:
        raise UsageError(f"{error}. {_advice()}") from error
    root.withdraw()

    def step() -> None:
        for _ in range(_MAX_EVENTS):
            if not root.tk.dooneevent(_tkinter.DONT_WAIT):
                return

    return step


def _qt(gui: str) -> Callable[[], object]:
    if not any(os.environ.get(name) for name in _DISPLAYS):
        # Qt would end the process.
        raise UsageError(f"no display was found. {_advice()}")
    if gui != "qt":
        os.environ.setdefault("QT_API", {"qt5": "pyqt5", "qt6": "pyqt6"}[gui])
    from IPython.external.qt_for_kernel import QtCore
    from IPython.lib.guisupport import get_app_qt4

    # Windows need Qt's application, which lives as long as Python refers to it.
    app = get_app_qt4([" "])
    kept = app, QtCore.QEventLoop(app)

    def step() -> None:
        kept[1].processEvents()

    return step


def _advice() -> str:
    if os.environ.get("DISPLAY") and os.environ.get(PROFILE):
        # A program with access to the display can type into every window of it.
        return f"The profile {os.environ[PROFILE]} keeps cells from the display; the profile open does not"
    return "Start Jupyter where DISPLAY is set, or show figures in the notebook (`%matplotlib inline`)"


_TOOLKITS = {"tk": _tk, "qt": _qt, "qt5": _qt, "qt6": _qt}
