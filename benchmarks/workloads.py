"""What is measured. A workload takes a kernel's name and returns milliseconds or MB; less is better."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import nbformat
from kernels import BenchmarkError, Kernel, LostOutput, milliseconds
from nbclient import NotebookClient

#: Cells per round whose latency is measured.
CELLS = 300
#: Seconds after which everything that a kernel starts is up: spare processes, too.
SETTLED = 4.0
#: Seconds after which a spare worker has finished its imports and waits.
SPARE_IS_WARM = 5.0


@dataclass(frozen=True)
class Workload:
    """One measurement.

    Args:
        name: as it is called on the command line.
        measure: returns the figures by label.
        targets: the most that a figure may be, as a ratio to ipykernel's or (``capsule_only``) as it is.
        capsule_only: whether ipykernel has no counterpart.
        repeats: how often it runs per round.
    """

    name: str
    measure: Callable[[str], dict[str, float]]
    targets: dict[str, float]
    capsule_only: bool = False
    repeats: int = 1


def ready(name: str) -> dict[str, float]:
    """Measure the start of a kernel until its first cell has run."""
    started = time.perf_counter()
    with Kernel(name) as kernel:
        kernel.execute("pass")
        return {"ready [ms]": (time.perf_counter() - started) * 1000}


def latency(name: str) -> dict[str, float]:
    """Measure cells that do nothing, from request to reply and idle."""
    with Kernel(name) as kernel:
        figures: dict[str, float] = {}
        for code in ("pass", "1"):
            for _ in range(20):
                kernel.execute(code)
            times = sorted(milliseconds(partial(kernel.execute, code)) for _ in range(CELLS))
            figures[f"`{code}` p50 [ms]"] = statistics.median(times)
            figures[f"`{code}` p99 [ms]"] = times[int(CELLS * 0.99)]
        return figures


def output(name: str) -> dict[str, float]:
    """Measure large output, and see that nothing of it is lost."""
    with Kernel(name) as kernel:
        kernel.execute("pass")
        figures = {}
        count = 200_000
        started = time.perf_counter()
        exchange = kernel.execute(f"for i in range({count}): print(i)")
        figures["200,000 prints [ms]"] = (time.perf_counter() - started) * 1000
        _check("".join(exchange.text) == "".join(f"{i}\n" for i in range(count)), name, "prints")
        code = "import sys\nfor i in range(50): n = sys.stdout.write(chr(97 + i % 26) * 1_000_000)"
        started = time.perf_counter()
        exchange = kernel.execute(code)
        figures["50 MB in 1 MB writes [ms]"] = (time.perf_counter() - started) * 1000
        expected = "".join(chr(97 + i % 26) * 1_000_000 for i in range(50))
        _check("".join(exchange.text) == expected, name, "50 MB")
        kernel.execute("from IPython.display import HTML, display")
        started = time.perf_counter()
        exchange = kernel.execute("for i in range(1000): display(HTML(f'<b>{i}</b>'))")
        figures["1,000 displays [ms]"] = (time.perf_counter() - started) * 1000
        shown = [data["text/html"] for data in exchange.displays]
        _check(shown == [f"<b>{i}</b>" for i in range(1000)], name, "displays")
        return figures


def interrupt(name: str) -> dict[str, float]:
    """Measure an interrupt, from request to reply: the first of a kernel, and later ones."""
    figures = {}
    sleep = "import time\nprint('started')\ntime.sleep(60)"
    with Kernel(name) as kernel:
        for label, code in (
            ("interrupt, first [ms]", sleep),
            ("interrupt of a loop [ms]", "print('started')\nwhile True:\n    pass"),
            ("interrupt of a sleep [ms]", sleep),
        ):
            request = kernel.send(code)
            kernel.wait_for_text()
            time.sleep(0.2)
            started = time.perf_counter()
            kernel.manager.interrupt_kernel()
            reply = kernel.reply(request)
            figures[label] = (time.perf_counter() - started) * 1000
            if reply.get("ename") != "KeyboardInterrupt":
                raise BenchmarkError(f"{name}: an interrupted cell ended with {reply['status']}")
            # Until it is idle, a kernel may still be aborting whatever arrives after an error.
            kernel.outputs(request)
        kernel.execute("pass")
    return figures


def memory(name: str) -> dict[str, float]:
    """Measure memory when everything that a kernel starts is up, and after an import."""
    with Kernel(name) as kernel:
        kernel.execute("pass")
        time.sleep(SETTLED)
        idle = kernel.memory()
        kernel.execute("import numpy, pandas")
        return {"memory, idle [MB]": idle, "memory, pandas [MB]": kernel.memory()}


def notebook(name: str) -> dict[str, float]:
    """Measure a notebook of 100 small cells through nbclient, with the start of its kernel."""
    kinds = ["x = {i}", "print('line', {i})", "x + {i}", "sum(range({i} * 100))"]
    cells: list[Any] = [
        nbformat.v4.new_code_cell(kinds[i % len(kinds)].format(i=i))  # type: ignore[no-untyped-call]
        for i in range(100)
    ]
    document = nbformat.v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    client = NotebookClient(document, kernel_name=name, timeout=60)
    started = time.perf_counter()
    client.execute(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    elapsed = (time.perf_counter() - started) * 1000
    # A line may come in pieces.
    printed = ["".join(part.get("text", "") for part in cell["outputs"]) for cell in cells[1::4]]
    _check(printed == [f"line {i}\n" for i in range(1, 100, 4)], name, "the outputs of a notebook")
    added = ["".join(part["data"]["text/plain"] for part in cell["outputs"]) for cell in cells[2::4]]
    _check(added == [str(2 * i - 2) for i in range(2, 100, 4)], name, "the results of a notebook")
    return {"100-cell notebook [ms]": elapsed}


def death(name: str) -> dict[str, float]:
    """Measure the time from the kill of a worker with a warm spare to the next cell's result."""
    with Kernel(name) as kernel:
        kernel.execute("pass")
        time.sleep(SPARE_IS_WARM)
        started = time.perf_counter()
        kill = kernel.send("import os\nos.kill(os.getpid(), 9)", stop_on_error=False)
        after = kernel.send("6 * 7")
        killed, exchange = kernel.finish(kill), kernel.finish(after)
        elapsed = (time.perf_counter() - started) * 1000
        if killed.reply["status"] != "error" or exchange.reply["status"] != "ok":
            raise BenchmarkError(f"{name} did not continue after the crash of its worker")
        _check([result["text/plain"] for result in exchange.results] == ["42"], name, "the next result")
        return {"crash of the worker to next result [ms]": elapsed}


WORKLOADS = [
    Workload("ready", ready, {"ready [ms]": 0.8}, repeats=3),
    Workload("latency", latency, {"`pass` p50 [ms]": 0.8}),
    Workload(
        "output",
        output,
        {"200,000 prints [ms]": 0.5, "50 MB in 1 MB writes [ms]": 0.5, "1,000 displays [ms]": 0.7},
    ),
    Workload(
        "interrupt",
        interrupt,
        {"interrupt, first [ms]": 1.0, "interrupt of a loop [ms]": 1.0, "interrupt of a sleep [ms]": 1.0},
    ),
    Workload("memory", memory, {"memory, idle [MB]": 2.0, "memory, pandas [MB]": 2.0}),
    Workload("notebook", notebook, {}),
    Workload("death", death, {"crash of the worker to next result [ms]": 300.0}, capsule_only=True),
]


def _check(whole: bool, name: str, what: str) -> None:
    if not whole:
        raise LostOutput(f"{name}: {what} did not arrive whole and in order")
