"""Forks a process with an empty namespace for each request, a *life* of the notebook.

A process that has imported everything waits; each life is a copy of it, so that it begins within milliseconds. A life
runs cells in the worker's shell with the worker's checkpointer, answers, and kills itself. What a life knows
of those before it is what it finds on disk.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import random
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from IPython.core.history import HistoryManager

from capsule_worker.checkpoints import lazy_restore
from capsule_worker.checkpoints.checkpointer import Checkpointer
from capsule_worker.message_loop import make_main_module
from capsule_worker.process.interrupts import InterruptGate
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol import messages as m
from capsule_worker.shell.cell_runner import CellRunner, new_event_loop
from capsule_worker.shell.shell import ZMQInteractiveShell
from tests.support import namespace_description as canonical

#: The step of a straight run that stands for a death: what no checkpoint holds is gone.
FORGET = "forget"
#: Checkpoints in a row that may fail before a life is given up.
_TRIES = 3
#: Seconds, and bytes of addresses, that a life may take.
_LONGEST, _LARGEST = 40, 32 << 30


class Silent:
    """Stands for the worker's output writer: keeps what cells print, and no more."""

    def __init__(self) -> None:
        self.gate = InterruptGate()
        self.text = ""

    def publish(self, output: Any) -> None:
        """Take an output that is not text."""

    def write(self, text: str) -> int:
        """Take text, as a stream."""
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Do nothing."""

    def take(self) -> str:
        """Return what was printed since the last call."""
        text, self.text = self.text, ""
        return text


class Life:
    """One process's time with a namespace.

    Args:
        shell: the worker's shell.
        outlet: keeps what cells print.
    """

    def __init__(self, shell: ZMQInteractiveShell, outlet: Silent) -> None:
        self._shell = shell
        self._outlet = outlet
        self._loop = new_event_loop()
        self._warnings: list[str] = []
        self._checkpointer = Checkpointer(shell, self._loop, lambda _: None, self._warnings.append)
        shell.checkpointer = self._checkpointer
        self._runner = CellRunner(shell, outlet.gate, self._checkpointer)

    def live(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run the cells of a request and return what is to be known of it."""
        keeping = request["directory"] is not None
        if keeping:
            self._checkpointer.configure(
                m.ConfigureCheckpointsMessage(
                    directory=request["directory"], session="random", number=request["number"]
                )
            )
        problems: list[str] = []
        if request["manifest"] is not None:
            manifest = mf.load(Path(request["manifest"]).read_bytes())
            _, failed, notes = self._checkpointer.restore(manifest, None, clear=False, lazily=True)
            problems += [*(f"{name}: {reason}" for name, reason in failed.items()), *notes]
        printed = []
        for step in request["steps"]:
            if step == FORGET:
                forget()
                continue
            if step["load"] and self._checkpointer.loading.is_active:
                self._checkpointer.loading.load_next()
            printed.append(self._run(step["code"], step["count"]))
            if keeping:
                self._save(settle=step["settle"])
        if keeping:
            self._save(settle=True)
        self._checkpointer.loading.load_all()
        described = canonical.Walk(self._shell.user_ns).describe() if request["describe"] else None
        not_saved = self._checkpointer.status().not_saved
        return {
            "printed": printed,
            "described": described,
            "problems": problems,
            "warnings": self._warnings,
            "unsaved": ", ".join(f"{name}: {reason}" for name, reason in not_saved.items()) or "nothing",
        }

    def _run(self, code: str, count: int) -> str:
        message = m.ExecuteMessage(id=f"e{count}", code=code, execution_count=count)
        task = self._loop.create_task(self._runner.run(message), name="capsule-cell")
        task.add_done_callback(lambda _: self._loop.stop())
        while not task.done():
            self._loop.run_forever()
        result = task.result()
        self._checkpointer.after_cell(result.execution_time)
        return self._outlet.take() + (result.ename or "")

    def _save(self, *, settle: bool) -> None:
        """Begin a checkpoint as the worker does; wait for it only if the next cell is not to run alongside it."""
        saver = self._checkpointer
        if saver.schedule.is_due:
            saver.begin()
        if not settle:
            if saver.writes._write is not None:
                # It ends when it is waited for: what a test finds must not depend on the time that writing takes.
                saver.writes._write.unwatch()
            return
        for _ in range(_TRIES):
            saver.writes.wait()
            if saver.changes.is_up_to_date:
                return
            saver.begin()
        saver.writes.wait()


def forget() -> None:
    """Lose the state that a crash loses: the state of modules."""
    for name in ("hoard", "errand"):
        if name in sys.modules:
            importlib.reload(sys.modules[name])
    vars(sys).pop("hoarded", None)


def serve(modules: list[str]) -> None:
    """Fork a life for each request on the standard input; it answers on the standard output.

    Args:
        modules: what lives find imported; others take their time in each.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    outlet = Silent()
    # Its thread would not be in the copies.
    setattr(HistoryManager, "enabled", False)  # noqa: B010  # a trait, which stands for its value
    shell = ZMQInteractiveShell.instance(output_writer=outlet, user_module=make_main_module())
    for name in modules:
        importlib.import_module(name)
    lazy_restore.IDLE_SECONDS = 0.0
    for line in _lines():
        request = json.loads(line)
        pid = os.fork()
        if not pid:
            _live_and_die(Life(shell, outlet), request, answers)
        os.waitpid(pid, 0)


def _live_and_die(life: Life, request: dict[str, Any], answers: Any) -> NoReturn:
    streams = sys.stdout, sys.stderr
    # A generated cell may run indefinitely.
    signal.alarm(_LONGEST)
    resource.setrlimit(resource.RLIMIT_AS, (_LARGEST, resource.RLIM_INFINITY))
    try:
        sys.stdout, sys.stderr = life._outlet, Silent()
        random.seed(0)
        sys.modules["numpy"].random.seed(0)
        sys.path[:0] = request["path"]
        answer = json.dumps(life.live(request))
    except BaseException as error:
        sys.stdout, sys.stderr = streams
        import traceback

        answer = json.dumps({"fault": "".join(traceback.format_exception(error))})
    print(answer, file=answers, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _lines() -> Iterator[bytes]:
    """Yield lines without reading beyond them: what follows is for other copies as well."""
    data = b""
    while piece := os.read(0, 1 << 16):
        data += piece
        while b"\n" in data:
            line, _, data = data.partition(b"\n")
            yield line


if __name__ == "__main__":
    asyncio.set_event_loop(None)
    serve(sys.argv[1:])
