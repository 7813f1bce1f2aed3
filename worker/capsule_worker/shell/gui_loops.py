"""Windows of graphical toolkits: what happens in them is taken care of between cells, and while a cell awaits."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from IPython.core.error import UsageError

from capsule_worker.isolation.error_hints import PROFILE

#: Seconds between two looks at what happens in windows.
INTERVAL = 0.02
#: Events that are taken care of in one go: cells must get their turn.
_EVENTS = 100
#: What asks for an event loop by name and needs none but the one that runs.
_NONE = frozenset({"asyncio", "inline", "ipympl", "nbagg", "none", "notebook", "webagg", "widget"})
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")


class GuiEventLoop:
    """Runs toolkits on the worker's asyncio loop. One for the worker's life."""

    def __init__(self) -> None:
        self._steps: dict[str, Callable[[], object]] = {}
        self._task: asyncio.Task[None] | None = None

    def enable(self, gui: str | None) -> None:
        """Take care of the windows of a toolkit from now on (``%gui``); without one, of none any more.

        Raises:
            UsageError: there is no such toolkit, or no display; the text says what to do.
        """
        if gui is None:
            self._steps.clear()
            return
        if gui in _NONE:
            return
        if gui not in _TOOLKITS:
            raise UsageError(
                f"no event loop for {gui!r} in this kernel: there are asyncio, {', '.join(_TOOLKITS)}. Figures are"
                " shown in the notebook by `%matplotlib inline` and, where ipympl is installed, `%matplotlib widget`"
            )
        if gui not in self._steps:
            self._steps[gui] = _TOOLKITS[gui](gui)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"windows of {gui}")

    async def _run(self) -> None:
        while self._steps:
            for step in list(self._steps.values()):
                # It is the cell that is meant, if one awaits.
                with contextlib.suppress(KeyboardInterrupt):
                    step()
            await asyncio.sleep(INTERVAL)


def _tk(_gui: str) -> Callable[[], object]:
    try:
        import _tkinter
        import tkinter as tk
    except ImportError as error:
        raise UsageError(
            f"this Python has no tkinter ({error}): install it, for example apt-get install python3-tk"
        ) from error
    try:
        # Tk takes care of all windows of a thread at once; this one is never seen.
        root = tk.Tk()
    except tk.TclError as error:
        raise UsageError(f"{error}. {_advice()}") from error
    root.withdraw()

    def step() -> None:
        for _ in range(_EVENTS):
            if not root.tk.dooneevent(_tkinter.DONT_WAIT):
                return

    return step


def _qt(gui: str) -> Callable[[], object]:
    if not any(os.environ.get(name) for name in _DISPLAYS):
        # Qt would end the process.
        raise UsageError(f"there is no display. {_advice()}")
    if gui != "qt":
        os.environ.setdefault("QT_API", {"qt5": "pyqt5", "qt6": "pyqt6"}[gui])
    from IPython.external.qt_for_kernel import QtCore
    from IPython.lib.guisupport import get_app_qt4

    # Qt's application lives as long as Python knows of it, and windows need one.
    app = get_app_qt4([" "])
    kept = app, QtCore.QEventLoop(app)

    def step() -> None:
        kept[1].processEvents()

    return step


def _advice() -> str:
    if os.environ.get("DISPLAY") and os.environ.get(PROFILE):
        # Who has the display can type into every window of it.
        return f"The profile {os.environ[PROFILE]} keeps cells from the display; the profile open does not"
    return (
        "Windows need one: start Jupyter where DISPLAY is set, or show figures in the notebook (`%matplotlib inline`)"
    )


_TOOLKITS = {"tk": _tk, "qt": _qt, "qt5": _qt, "qt6": _qt}
