"""Several kernels and commands use one store at a time: no process is told that it is locked, and nothing is lost.

``CAPSULE_TEST_CROWD`` sets how many seconds they do so, ``CAPSULE_TEST_KERNELS`` and ``CAPSULE_TEST_COMMANDS`` how many
there are; ``CAPSULE_TEST_PAUSE``, how many seconds each waits before its next cell, and a command ten times as long:
without a pause they compete for processors more than for the store. What a cell takes, alone and in the crowd, is
printed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from jupyter_core.utils import ensure_event_loop

from capsule_durable.history.cells import CellStore
from capsule_durable.history.ledger import Ledger
from capsule_durable.history.schema import FILE, SCHEMA
from capsule_durable.storage.sqlite import Database
from tests.support.kernels import kernel
from tests.support.waiting import DEADLINE, pass_time

SECONDS = float(os.environ.get("CAPSULE_TEST_CROWD") or 8)
KERNELS = int(os.environ.get("CAPSULE_TEST_KERNELS") or 3)
COMMANDS = int(os.environ.get("CAPSULE_TEST_COMMANDS") or 2)
PAUSE = float(os.environ.get("CAPSULE_TEST_PAUSE") or 0)
WORDS = (["pending"], ["sessions"], ["log"], ["checkpoints"], ["verify"], ["status"])

pytestmark = pytest.mark.timeout(SECONDS * 4 + 240)


class Crowd:
    """What takes part, and what it met."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.faults: list[str] = []
        self.times: list[float] = []
        self.cells: list[int] = []
        self._guard = threading.Lock()

    def work(self, number: int, seconds: float) -> None:
        """Run cells in a kernel."""
        count = 0
        with kernel(self.home, f"/notebooks/{number}.ipynb") as one:
            one.ok("n = 0")
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                began = time.perf_counter()
                done = one.run("n += 1\nprint(n)")
                took = time.perf_counter() - began
                pass_time(PAUSE)
                count += 1
                with self._guard:
                    self.times.append(took)
                    if done.text() != f"{count}\n" or done.text("stderr"):
                        self.faults.append(done.text() + done.text("stderr"))
            # A person's restart: all that happened is written.
            one.restart()
        # The clients of each thread have a loop of their own, which only this thread closes.
        ensure_event_loop().close()
        with self._guard:
            self.cells.append(count + 1)

    def ask(self, number: int, seconds: float) -> None:
        """Give one command after the other."""
        capsule = str(Path(sys.executable).with_name("capsule"))
        environment = os.environ | {"CAPSULE_HOME": str(self.home)}
        end, turn = time.monotonic() + seconds, number
        while time.monotonic() < end:
            turn += 1
            words = WORDS[turn % len(WORDS)]
            done = subprocess.run(
                [capsule, *words], env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
            )
            pass_time(10 * PAUSE)
            if done.returncode or "locked" in done.stdout + done.stderr:
                with self._guard:
                    self.faults.append(f"{words}: {done.stdout}{done.stderr}")

    def gather(self, kernels: int, commands: int, seconds: float) -> float:
        """Have all of them at once; return what a cell takes, in the middle."""
        self.times.clear()
        threads = [threading.Thread(target=self.work, args=(n, seconds)) for n in range(kernels)]
        threads += [threading.Thread(target=self.ask, args=(n, seconds)) for n in range(commands)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return statistics.median(self.times)


def test_many_kernels_and_commands_share_one_store_without_disturbing_each_other(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path / "home")
    alone = crowd.gather(1, 0, min(SECONDS, 5))
    together = crowd.gather(KERNELS, COMMANDS, SECONDS)
    print(
        f"\n{KERNELS} kernels, {COMMANDS} commands, {SECONDS:g} s: {sum(crowd.cells)} cells,"
        f" {alone * 1e3:.1f} ms alone, {together * 1e3:.1f} ms in the crowd"
    )
    assert crowd.faults == []
    database = Database(crowd.home / FILE, SCHEMA)
    ledger, cells = Ledger(database), CellStore(database)
    records, fault = ledger.verify()
    assert fault is None
    assert records > sum(crowd.cells)
    sessions = {event.session_id for event in ledger.events()}
    kept = [len(cells.of_session(session)) for session in sessions]
    assert sum(kept) == sum(crowd.cells), "each cell is kept once"
    database.close()
