"""After a crash variables are restored when any kind of use needs them, or reported where that fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.kernels import KILL

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.conversation import Conversation
    from tests.support.kernels import Opened

pytestmark = pytest.mark.capsule_only

#: A socket that is open keeps the worker from leaving a copy of itself, which would have everything.
ALONE = "import socket; kept = socket.socket()"


def _killed(open_kernel: Callable[..., Opened], *cells: str) -> Conversation:
    _, kernel = open_kernel()
    for cell in (ALONE, *cells, "%capsule checkpoint here"):
        assert kernel.run(cell).reply["status"] == "ok"
    assert kernel.run(KILL).reply["ename"] == "WorkerDied"
    return kernel


def test_expressions_of_the_client_find_them(open_kernel: Callable[..., Opened]) -> None:
    kernel = _killed(open_kernel, "data = [1, 2]", "other = {'a': data}")
    done = kernel.run("1", user_expressions={"shown": "other['a'] is data and len(data)", "bad": "nothing +"})
    assert done.reply["user_expressions"]["shown"]["data"]["text/plain"] == "2"
    assert done.reply["user_expressions"]["bad"]["status"] == "error"


def test_modules_come_back_when_they_are_used(open_kernel: Callable[..., Opened]) -> None:
    kernel = _killed(open_kernel, "import json, fractions as fr", "x = 5")
    assert kernel.run("x").result == "5"
    assert kernel.run("fr.Fraction(1, 2) + x, json.dumps([x])").result == "(Fraction(11, 2), '[5]')"


def test_a_damaged_variable_is_reported_when_it_is_needed(open_kernel: Callable[..., Opened]) -> None:
    kernel = _killed(open_kernel, "whole = [1]", "lost = list(range(50_000))", "after = 2")
    packs = max(Path(os.environ["CAPSULE_HOME"]).glob("sessions/*/packs"), key=lambda path: path.stat().st_mtime)
    largest = max(packs.iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 0xFF
    largest.write_bytes(data)
    done = kernel.run("whole, after, type(lost).__name__")
    assert done.result.startswith("([1], 2, ")
    assert "not restored: lost: pack" in done.text("stderr")
    assert "is damaged" in done.text("stderr")
    used = kernel.run("lost[0]")
    assert used.reply["ename"] == "NotRestoredError"
