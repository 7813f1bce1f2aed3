"""Windows of graphical toolkits stay responsive between cells, where there is a display."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import poll_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.conversation import Conversation
    from tests.support.kernels import Opened


@pytest.fixture
def display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start an X server of our own, and let kernels have it."""
    server = shutil.which("Xvfb")
    if server is None:
        pytest.skip("Xvfb is not installed, so no one has looked at windows")
    numbers = tmp_path / "number"
    with numbers.open("w") as told:
        process = subprocess.Popen(
            [server, "-displayfd", "1", "-screen", "0", "320x240x24"], stdout=told, stderr=subprocess.DEVNULL
        )
    try:
        poll_until(lambda: numbers.read_text().endswith("\n"), "the X server runs")
        monkeypatch.setenv("DISPLAY", f":{numbers.read_text().strip()}")
        yield f":{numbers.read_text().strip()}"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.capsule_only
def test_a_window_that_cannot_be_opened_says_what_to_do(kernel: Conversation) -> None:
    for gui in ("tk", "qt"):
        assert "DISPLAY" in kernel.run(f"import os; os.environ.pop('DISPLAY', None)\n%gui {gui}").text("stderr")
    assert "`%matplotlib inline`" in kernel.run("%gui wx").text("stderr")
    assert kernel.run("%gui asyncio\n%gui").text("stderr") == ""


# ipykernel does this, too; but now and then its loop for Tk does not see that a cell has come.
@pytest.mark.capsule_only
def test_windows_live_between_cells(
    display: str, open_kernel: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CAPSULE_PROFILE", "open")
    kernel = open_kernel()[1]
    assert kernel.run("%gui tk").text("stderr") == ""
    kernel.run(
        "import tkinter, pathlib\nwindow = tkinter.Tk()\n"
        f"window.after(50, pathlib.Path({str(tmp_path / 'seen')!r}).touch); window.after(50, lambda: 1/0);"
    )
    poll_until((tmp_path / "seen").exists, "a window's timer fires between cells")
    assert kernel.run("window.destroy(); 1 + 1").result == "2"
    exchange = kernel.run(
        "%matplotlib tk\nimport matplotlib.pyplot as plt\nplt.plot([1]); plt.show()\nplt.get_backend()"
    )
    assert (exchange.result, exchange.text("stderr")) == ("'tkagg'", "")


def test_windows_of_qt_respond_between_cells_without_a_display(
    open_kernel: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if importlib.util.find_spec("PyQt6") is None:
        pytest.skip("PyQt6 is not installed, so no one has looked at Qt's windows")
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    kernel = open_kernel()[1]
    assert kernel.run("%gui qt").text("stderr") == ""
    kernel.run(
        "import pathlib\nfrom PyQt6 import QtCore, QtWidgets\n"
        "window = QtWidgets.QLabel('seen'); window.show()\n"
        f"QtCore.QTimer.singleShot(50, lambda: pathlib.Path({str(tmp_path / 'seen')!r}).touch())"
    )
    poll_until((tmp_path / "seen").exists, "a window's timer fires between cells")
    assert kernel.run("window.isVisible(), window.close()").result == "(True, True)"
    # Qt without a display may write warnings to stderr.
    exchange = kernel.run(
        "%matplotlib qt\nimport matplotlib.pyplot as plt\nplt.plot([1]); plt.show()\nplt.get_backend()"
    )
    assert (exchange.result.lower(), exchange.reply["status"]) == ("'qtagg'", "ok")
