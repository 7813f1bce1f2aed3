"""Cells that take too much memory get an error; if that does not help they are ended, and the variables come back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from capsule_durable.config import limits
from capsule_durable.config.settings import Settings
from capsule_durable.sandbox import resource_monitor
from tests.support.kernels import Kernel, kernel
from tests.support.sandboxes import need_bubblewrap
from tests.support.waiting import pass_time, poll_until

MB = 1_000_000
#: Cells in a row that take too much.
CELLS = int(os.environ.get("CAPSULE_TEST_CELLS") or 5)


@pytest.fixture(params=["open", "notebook", "restricted"])
def one(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kernel]:
    if request.param == "restricted":
        need_bubblewrap()
    with kernel(tmp_path / "home", profile=request.param, memory_limit="400MB") as opened:
        opened.ok("kept = [1]\nimport time")
        opened.ok("kept.append(2)")
        yield opened


def test_too_much_memory_at_once_is_refused(one: Kernel) -> None:
    done = one.run("large = bytearray(600_000_000)")
    assert done.reply["ename"] == "MemoryError"
    assert "memory_limit" in "".join(done.reply["traceback"])
    assert one.text("print(kept, 'large' in globals())") == "[1, 2] False\n"


def test_memory_that_the_system_does_not_count_counts(one: Kernel) -> None:
    """The system does not limit shared memory: only the front sees it."""
    done = one.run(
        "import mmap\nblock = mmap.mmap(-1, 700_000_000)\n"
        "for start in range(0, len(block), 1 << 20):\n    block[start : start + 4096 * 200] = bytes(4096 * 200)\n"
        "    time.sleep(0.002)\ntime.sleep(60)"
    )
    assert done.reply["ename"] == "MemoryError"
    one.ok("del block")
    assert one.text("print(kept)") == "[1, 2]\n"


def test_a_cell_that_uses_more_and_more_gets_an_error_and_the_variables_stay(one: Kernel) -> None:
    """On a busy machine the system refuses the next block before the front has seen that the limit is exceeded."""
    done = one.run(
        "def grow():\n    taken = []\n    while True: taken.append(b'x' * 1_000_000); time.sleep(0.005)\ngrow()"
    )
    assert done.reply["ename"] == "MemoryError"
    if done.reply["evalue"]:
        assert "the limit of 0.40 GB of memory is exceeded" in done.reply["evalue"]
    assert "memory_limit" in "".join(done.reply["traceback"])
    assert one.text("print(kept)") == "[1, 2]\n"


def test_a_cell_that_awaits_gets_the_error_too(one: Kernel) -> None:
    done = one.run(
        "import asyncio\nasync def grow():\n    taken = []\n"
        "    while True:\n        taken.append(b'x' * 1_000_000)\n        await asyncio.sleep(0.001)\nawait grow()"
    )
    assert done.reply["ename"] == "MemoryError"
    assert one.text("print(kept)") == "[1, 2]\n"


def test_a_cell_that_ignores_the_error_is_ended_and_the_variables_restored(one: Kernel) -> None:
    done = one.run(
        "def hold(taken):\n    try:\n        while len(taken) < 390: taken.append(b'x' * 1_000_000)\n"
        "        time.sleep(60)\n    except MemoryError: pass\n"
        "taken = []\nfor _ in range(10): hold(taken)"
    )
    assert done.reply["ename"] == "WorkerDied"
    assert "the limit of 0.40 GB of memory is exceeded" in done.reply["evalue"]
    assert "variables are restored" in done.reply["evalue"]
    assert one.text("print(kept)") == "[1, 2]\n"


def test_processes_that_a_cell_starts_count(one: Kernel) -> None:
    done = one.run(
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; x = b\"x\" * 450_000_000; time.sleep(60)'])\n"
        "child.wait()"
    )
    assert done.reply["ename"] in ("MemoryError", "WorkerDied")
    assert one.text("print(kept)") == "[1, 2]\n"


def test_a_worker_without_free_memory_answers_and_another_cell_frees_it(one: Kernel) -> None:
    """What is never touched is refused by the system only: the front does not see it."""
    done = one.run(
        "import mmap, os\n"
        "def fill(taken):\n"
        "    small = [bytearray(100) for _ in range(2000)]\n"
        "    for size in (50_000_000, 1_000_000, 4096):\n"
        "        try:\n"
        "            while True: taken.append(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE))\n"
        "        except OSError: pass\n"
        "    for size in (60_000, 3_000, 400, 100):\n"
        "        try:\n"
        "            while True: taken.append(bytearray(size))\n"
        "        except MemoryError: pass\n"
        "    small.clear(); os.write(1, b'full'); time.sleep(5); print(len(kept))\n"
        "time.sleep(1)\n"
        "fill(taken := [])"
    )
    assert done.reply["status"] == "ok", (done.reply["ename"], done.reply["evalue"], done.text("stderr"))
    assert done.text() == "full2\n"
    assert one.text("taken.clear()\nprint(kept)") == "[1, 2]\n"
    assert one.ok("bytearray(200_000_000) and None").reply["execution_count"] == 5


@pytest.mark.parametrize("profile", ["open", "notebook", "restricted"])
def test_many_such_cells_leave_nothing(tmp_path: Path, profile: str) -> None:
    if profile == "restricted":
        need_bubblewrap()
    with kernel(tmp_path / "home", profile=profile, memory_limit="300MB") as one:
        one.ok("kept = 1\nimport time")
        for _ in range(CELLS):
            one.run("taken = []\nwhile True: taken.append(b'x' * 1_000_000); time.sleep(0.0005)")
        assert one.text("print(kept)") == "1\n"
        front = psutil.Process(one.front)
        one.ok("del taken")
        # The forkserver, two of bubblewrap's at most, the worker, the spare, and two copies.
        poll_until(lambda: len(front.children(recursive=True)) <= 7, "no more processes than before")

        def is_small() -> bool:
            # Copies that wait are of the last states: after some cells none has what was taken.
            one.ok("turn = time.time()")
            pass_time(0.3)
            return _size(front) < 500 * MB

        poll_until(is_small, "no more memory than before")


def _size(front: psutil.Process) -> int:
    size = 0
    for each in front.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            size += each.memory_full_info().pss
    return size


def test_the_default_limit_is_most_of_the_memory() -> None:
    total = psutil.virtual_memory().total
    assert 0.5 * limits.DEFAULT_MEMORY_SHARE * total < limits.default_memory_limit() <= total
    assert Settings.model_validate({"memory_limit": "2GB"}).memory_limit == 2_000 * MB


def test_a_process_and_its_children_are_counted() -> None:
    pid = os.getpid()
    resident = resource_monitor.memory(resource_monitor.family(pid), 1 << 60)
    assert resident >= psutil.Process(pid).memory_info().rss // 2
    assert 0 < resource_monitor.memory(resource_monitor.family(pid), 0) <= 2 * resident
