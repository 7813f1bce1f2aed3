"""Capsule's kernel with a home of its own, and what it has written there."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from kernels import BenchmarkError, Kernel

from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.models import Entry
from capsule_worker.protocol import manifest as mf

#: Seconds that the checkpoint of a cell may take.
SAVED = 300.0
#: Seconds between two checks of a condition. No time is measured during such a wait.
_LOOK = 0.01
#: Seconds between two looks at the catalogue, which lists a checkpoint some time after it was written.
_LOOK_UP = 0.5
#: Seconds between a checkpoint and the next cell: what follows a write is over, and no cell waits for it by chance.
_REST = 0.05
#: Seconds after which copies of the worker are made and writers have ended, and how often memory is looked at then.
_REST_OF_MEMORY, _LOOKS = 3.0, 9
#: Seconds that the processes of a kernel may take to end.
_END = 20.0
#: What a cell prints that needs none of the notebook's variables.
NEXT = "print('next')"


class CapsuleKernel(Kernel):
    """A kernel that keeps its checkpoints in ``home``.

    Args:
        home: the directory for its data; it may hold an earlier session's.
        checkpoints: ``background``, ``sync`` or ``off``.
        settings: further settings, by name.
    """

    def __init__(self, home: Path, checkpoints: str, **settings: str) -> None:
        self.home = home
        self.checkpoints = checkpoints
        own = {f"CAPSULE_{name.upper()}": value for name, value in settings.items()}
        environment = {
            **os.environ,
            "CAPSULE_HOME": str(home),
            "CAPSULE_CHECKPOINTS": checkpoints,
            # No user's startup files; and two sessions of one home are of one notebook.
            "IPYTHONDIR": str(home / "ipython"),
            "JPY_SESSION_NAME": str(home / "notebook.ipynb"),
            **own,
        }
        #: Everything that was saved so far, by id.
        self.saved: dict[str, mf.Manifest | Entry] = {}
        self._looked_up = 0.0
        super().__init__("capsule", env=environment, cwd=str(home))
        #: The number of the latest cell.
        self.count = 0

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        _end_all(self.home)

    @property
    def front(self) -> int:
        """The process id of the front."""
        return int(getattr(self.manager.provisioner, "pid", 0))

    def execute(self, code: str) -> Any:
        """Run a cell, which must not fail, and remember its number."""
        exchange = super().execute(code)
        self.count = max(self.count, int(exchange.reply["execution_count"]))
        return exchange

    def prepare(self, cells: tuple[str, ...]) -> None:
        """Run cells, each when the one before is saved."""
        for cell in cells:
            self.execute(cell)
            self.settle()

    def worker(self) -> int:
        """Return the process id of the worker."""
        return int("".join(self.execute("import os\nprint(os.getpid())").text))

    def kill(self, worker: int) -> tuple[str, float]:
        """Kill the worker in a cell; return the request that it dies with, and when it died.

        What comes next is no longer sent to the dead worker, as it can be when a worker dies between two cells.
        """
        request = self.send("import time\nprint('started')\ntime.sleep(60)", stop_on_error=False)
        self.first_text(request)
        died = time.perf_counter()
        os.kill(worker, signal.SIGKILL)
        return request, died

    def to_next_output(self, code: str) -> float:
        """Run a cell, then at once another one; return the milliseconds until the second one printed something."""
        started = time.perf_counter()
        self.execute(code)
        request = self.send(NEXT)
        self.first_text(request)
        elapsed = (time.perf_counter() - started) * 1000
        self.count = int(self.finish(request).reply["execution_count"])
        return elapsed

    def settle(self) -> None:
        """Wait until the latest cell's state is on disk, and the worker has recorded that.

        Raises:
            BenchmarkError: it takes too long.
        """
        self.saved_since()
        time.sleep(_REST)

    def saved_since(self) -> float:
        """Wait until the latest cell's state is on disk; return for how many seconds.

        Raises:
            BenchmarkError: it takes too long.
        """
        started = time.monotonic()
        if self.checkpoints == "off":
            return 0.0
        deadline = started + SAVED
        while not any(each.execution_count >= self.count for each in self.look()):
            if time.monotonic() > deadline:
                raise BenchmarkError(f"no checkpoint of In [{self.count}] within {SAVED:g} s")
            time.sleep(_LOOK)
        return time.monotonic() - started

    def look(self) -> list[mf.Manifest | Entry]:
        """Return the checkpoints that were seen so far."""
        for path in self.home.glob(f"sessions/*/{mf.INCOMING}/*{mf.MANIFEST_SUFFIX}"):
            if path.stem.partition("-")[2] not in self.saved:
                with contextlib.suppress(FileNotFoundError):  # the catalogue has just taken it over
                    manifest = mf.load(path.read_bytes())
                    self.saved[manifest.id] = manifest
        now = time.monotonic()
        if now - self._looked_up > _LOOK_UP and (self.home / "checkpoints.sqlite3").exists():
            self._looked_up = now
            with Catalogue(self.home) as catalogue:
                self.saved.update((entry.id, entry) for entry in catalogue.checkpoints() if entry.id not in self.saved)
        return list(self.saved.values())

    def written_since(self, count: int) -> int:
        """Return the bytes of all checkpoints of cells after ``In [count]``."""
        return sum(each.bytes_written for each in self.look() if each.execution_count > count)

    def written_for(self, code: str) -> list[int]:
        """Return the bytes of each checkpoint that was taken after a cell with this code."""
        return [each.bytes_written for each in self.look() if each.code == code]

    def size(self) -> int:
        """Return the bytes of what the latest checkpoint holds."""
        return max(self.look(), key=lambda each: each.number).size


class Memory(threading.Thread):
    """Samples the memory of everything of a kernel but its front: of the worker, and of what saves its state.

    Args:
        kernel: it has no spare worker.
    """

    def __init__(self, kernel: CapsuleKernel) -> None:
        super().__init__(daemon=True)
        self._kernel = kernel
        self._ended = threading.Event()
        #: The most that was seen, in bytes.
        self.peak = 0

    def run(self) -> None:
        """Look until ``end``."""
        while not self._ended.is_set():
            self.peak = max(self.peak, self.now())
            time.sleep(_LOOK)

    def now(self) -> int:
        """Return the proportional set size: pages that several processes share count once."""
        total = 0
        for process in _processes(self._kernel.home):
            if process.pid != self._kernel.front:
                with contextlib.suppress(psutil.Error):
                    total += process.memory_full_info().pss
        return total

    def at_rest(self) -> float:
        """Return what it is when nothing is written any more: a median, since a fork during a look hides something."""
        time.sleep(_REST_OF_MEMORY)
        return statistics.median(self.now() for _ in range(_LOOKS))

    def end(self) -> int:
        """Stop looking, and return the peak."""
        self._ended.set()
        self.join()
        return self.peak


@contextlib.contextmanager
def new_home(work: Path) -> Iterator[Path]:
    """Make a directory for a kernel, and remove it again."""
    work.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="home-", dir=work.resolve()))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def new_kernel(work: Path, checkpoints: str, **settings: str) -> Iterator[CapsuleKernel]:
    """Start a kernel with a home of its own, and remove both again."""
    with new_home(work) as home, CapsuleKernel(home, checkpoints, **settings) as kernel:
        yield kernel


def _processes(home: Path) -> list[psutil.Process]:
    """Return all processes that know this home: fronts, workers and what they forked."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("CAPSULE_HOME") == str(home):
                found.append(process)
    return found


def _end_all(home: Path) -> None:
    """Wait until no process of a kernel is left, and end those that stay."""
    _, left = psutil.wait_procs(_processes(home), timeout=_END)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
