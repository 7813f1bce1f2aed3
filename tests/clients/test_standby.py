"""The standby: what it restores, what it leaves to checkpoints, and that it ends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support.kernels import KILL
from tests.support.processes import outside
from tests.support.saved_state import run_and_wait_for_standby, status, wait_for_cell, why_no_standby

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.conversation import Conversation, Exchange
    from tests.support.kernels import Opened
    from tests.support.processes import Family

pytestmark = pytest.mark.capsule_only

#: How often a death is tried: a standby is made when no process has asked for anything for a while.
ATTEMPTS = 5


def _die(kernel: Conversation, cell: str = KILL) -> str:
    """Run a cell that ends its worker; return what the person is told."""
    died: Exchange = kernel.run(cell)
    assert died.reply["ename"] == "WorkerDied"
    return str(died.reply["evalue"])


def _die_with_standby(kernel: Conversation, prepare: str, cell: str = KILL) -> str:
    """Run a cell, give a standby time to be made, and end the worker."""
    told = ""
    for _ in range(ATTEMPTS):
        run_and_wait_for_standby(kernel, prepare)
        told = _die(kernel, cell)
        if status(kernel)["Last recovery"].startswith("from a standby"):
            return told
    raise AssertionError(told)


@pytest.mark.parametrize(
    "cell", [KILL, "import ctypes; ctypes.string_at(0)", "import os; os._exit(3)"], ids=["kill", "crash", "exit"]
)
def test_variables_that_cannot_be_saved_are_restored_by_a_standby(
    kernel: Conversation, tmp_path: object, cell: str
) -> None:
    prepare = f"""
import random, threading
numbers = (n for n in range(10)); next(numbers)
lock = threading.Lock(); lock.acquire()
file = open(__import__('pathlib').Path({str(tmp_path)!r}) / 'lines', 'w+')
_ = file.write('one\\ntwo\\nthree\\n'); file.flush()
reader = open(file.name, 'rb', buffering=0); reader.readline()
local = __import__('contextvars').ContextVar('local'); token = local.set(5)
a = b = [1]
random.seed(4); before = random.getstate()
"""
    told = _die_with_standby(kernel, prepare, "next(numbers); a.append(2); reader.read(); " + cell)
    assert "WorkerDied" not in told
    assert "In [" in told
    back = "(next(numbers), lock.locked(), reader.readline(), a is b, a, random.getstate() == before, file.closed)"
    assert kernel.run(back).result == "(1, True, b'two\\n', True, [1], True, False)"


def test_cells_continue_as_before_in_a_standby(kernel: Conversation) -> None:
    _die_with_standby(kernel, "x = 41")
    done = kernel.run(
        "import asyncio, sys; print('out'); print('err', file=sys.stderr); get_ipython().system('echo from sh')\n"
        "await asyncio.sleep(0.01); x + 1"
    )
    assert done.text().split() == ["out", "from", "sh"]
    assert done.text("stderr") == "err\n"
    assert done.result == "42"
    # The cell that died has left a gap, and no more.
    assert kernel.run("[source[:6] for source in In[-4:]]").result == "['x = 41', '', 'import', '[sourc']"
    request = kernel.start("print('started')\nimport time; time.sleep(60)")
    kernel.send_control("interrupt_request")
    (interrupted,) = kernel.finish(request)
    assert interrupted.reply["ename"] == "KeyboardInterrupt"
    assert "x" in kernel.client.complete("x", reply=True)["content"]["matches"]
    # What it changes is saved, and it leaves a standby of its own.
    _die_with_standby(kernel, "x = 42")
    assert kernel.run("x").result == "42"
    kernel.run("x = 'saved'")
    kernel.run("%capsule checkpoint here")
    _die(kernel)
    assert kernel.run("x").result == "'saved'"


def test_undo_restores_variables_that_cannot_be_saved(kernel: Conversation) -> None:
    for _ in range(ATTEMPTS):
        run_and_wait_for_standby(kernel, "ticks = iter(range(100)); seen = [next(ticks)]")
        run_and_wait_for_standby(kernel, "seen.append(next(ticks))")
        undone = kernel.run("%capsule undo")
        assert undone.reply["status"] == "ok"
        (shown,) = undone.of("display_data")
        text, report = shown["data"]["text/plain"], shown["data"]["application/vnd.capsule+json"]
        assert re.fullmatch(r"Undid In \[\d+\]\. Restored \d+ variables to .* Redo: %capsule restore \d+", text), text
        if report["source"] == "standby":
            break
    assert kernel.run("seen, next(ticks)").result == "([0], 1)"


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (
            "import threading, time; t = threading.Thread(target=time.sleep, args=(600,), daemon=True); t.start()",
            "thread",
        ),
        ("import asyncio; task = asyncio.ensure_future(asyncio.sleep(600)); await asyncio.sleep(0)", "task"),
        ("import subprocess; child = subprocess.Popen(['sleep', '600'])", "child processes"),
        ("import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()", "connection"),
        ("import polars; polars.DataFrame({'a': [1]}).lazy().sum().collect(); None", "library"),
    ],
    ids=["thread", "task", "child", "socket", "pool"],
)
def test_no_standby_is_forked_that_would_lack_something(
    open_kernel: Callable[..., Opened], prepare: str, reason: str
) -> None:
    manager, kernel = open_kernel()
    assert kernel.run(prepare).reply["status"] == "ok"
    assert reason in why_no_standby(kernel)
    done = kernel.run("x = 1")
    wait_for_cell(manager.provisioner.process.pid, done.reply["execution_count"])
    told = _die(kernel)
    assert "Your variables are restored to their state after In [" in told
    assert status(kernel)["Last recovery"].startswith("from a checkpoint")
    assert kernel.run("x").result == "1"


def test_no_standby_remains_after_the_kernel(family: Family, open_kernel: Callable[..., Opened]) -> None:
    manager, kernel = open_kernel()
    for number in range(3):
        _die_with_standby(kernel, f"x = {number}")
    assert kernel.run("x").result == "2"
    family.meet()
    manager.shutdown_kernel(now=False)
    family.wait_until_gone()


def test_no_standby_remains_when_the_front_is_killed(family: Family, open_kernel: Callable[..., Opened]) -> None:
    manager, kernel = open_kernel()
    _die_with_standby(kernel, "x = 1")
    run_and_wait_for_standby(kernel, "x = 2")
    family.meet()
    manager.shutdown_kernel(now=True)
    family.wait_until_gone()


def test_a_standby_that_is_killed_leaves_the_checkpoint(family: Family, open_kernel: Callable[..., Opened]) -> None:
    manager, kernel = open_kernel()
    front = manager.provisioner.process.pid
    pid = outside(front, int(kernel.run("import os; os.getpid()").result))
    warden = psutil.Process(pid).ppid()
    run_and_wait_for_standby(kernel, "x = 5")
    copies = [
        each
        for each in family.meet()
        if each.ppid() == warden and each.pid != pid and "capsule_worker" in " ".join(each.cmdline())
    ]
    for copy in copies:
        copy.kill()
    told = _die(kernel)
    assert "Your variables are restored to their state after In [" in told
    assert status(kernel)["Last recovery"].startswith("from a checkpoint")
    assert kernel.run("x").result == "5"


def test_a_cell_that_ends_its_worker_costs_that_cell_only(open_kernel: Callable[..., Opened]) -> None:
    """Also where there was no time to save: what is small is out of the worker before the next cell begins."""
    _, kernel = open_kernel()
    for number in range(5):
        kernel.client.execute(f"x = [{number}]")
        _die(kernel)
        assert kernel.run("x").result == f"[{number}]"


def test_cells_are_not_lost_while_a_large_checkpoint_is_written(open_kernel: Callable[..., Opened]) -> None:
    _, kernel = open_kernel()
    kernel.run("import numpy as np; big = np.random.default_rng(1).random(80_000_000); x = 0")
    for number in range(1, 4):
        kernel.client.execute(f"import time; time.sleep(0.3); x = {number}; ticks = iter(range({number}, 100))")
    _die(kernel)
    assert kernel.run("x, big.size").result == "(3, 80000000)"
