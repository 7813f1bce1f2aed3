"""What is measured. Each workload takes a kernel's name and returns milliseconds (or MB), less being better."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import nbformat
from kernels import Kernel, seconds_of
from nbclient import NotebookClient

CELLS = 300


class LostOutput(Exception):
    """A kernel did not deliver what a cell had printed or displayed."""


@dataclass(frozen=True)
class Workload:
    """One measurement.

    Args:
        name: as it is called on the command line.
        measure: returns the figures by label.
        targets: the most that a figure may be, as a ratio to ipykernel's or (``absolute``) as it is.
        capsule_only: whether ipykernel has no counterpart.
    """

    name: str
    measure: Callable[[str], dict[str, float]]
    targets: dict[str, float]
    capsule_only: bool = False


def ready(name: str) -> dict[str, float]:
    """Measure the start of a kernel until its first cell has run."""
    started = time.perf_counter()
    with Kernel(name) as kernel:
        kernel.run("pass")
        return {"ready [ms]": (time.perf_counter() - started) * 1000}


def latency(name: str) -> dict[str, float]:
    """Measure cells that do nothing, from request to reply and idle."""
    with Kernel(name) as kernel:
        figures: dict[str, float] = {}
        for code in ("pass", "1"):
            for _ in range(20):
                kernel.run(code)
            times = sorted(seconds_of(lambda code=code: kernel.run(code)) for _ in range(CELLS))
            figures[f"`{code}` p50 [ms]"] = statistics.median(times) * 1000
            figures[f"`{code}` p99 [ms]"] = times[int(CELLS * 0.99)] * 1000
        return figures


def output(name: str) -> dict[str, float]:
    """Measure large output, and see that nothing of it is lost."""
    with Kernel(name) as kernel:
        kernel.run("pass")
        figures = {}
        count = 200_000
        started = time.perf_counter()
        exchange = kernel.run(f"for i in range({count}): print(i)")
        figures["200,000 prints [ms]"] = (time.perf_counter() - started) * 1000
        _check("".join(exchange.text) == "".join(f"{i}\n" for i in range(count)), name, "prints")
        started = time.perf_counter()
        exchange = kernel.run("import sys\nfor i in range(50): sys.stdout.write(chr(97 + i % 26) * 1_000_000)")
        figures["50 MB in 1 MB writes [ms]"] = (time.perf_counter() - started) * 1000
        expected = "".join(chr(97 + i % 26) * 1_000_000 for i in range(50))
        _check("".join(exchange.text) == expected, name, "50 MB")
        kernel.run("from IPython.display import HTML, display")
        started = time.perf_counter()
        exchange = kernel.run("for i in range(1000): display(HTML(f'<b>{i}</b>'))")
        figures["1,000 displays [ms]"] = (time.perf_counter() - started) * 1000
        shown = [data["text/html"] for data in exchange.displays]
        _check(shown == [f"<b>{i}</b>" for i in range(1000)], name, "displays")
        return figures


def interrupt(name: str) -> dict[str, float]:
    """Measure an interrupt, from request to reply; the first of a kernel, and a later one."""
    figures = {}
    with Kernel(name) as kernel:
        for label, code in (
            ("interrupt, first [ms]", "import time\nprint('started')\ntime.sleep(60)"),
            ("interrupt of a loop [ms]", "print('started')\nwhile True:\n    pass"),
            ("interrupt of a sleep [ms]", "import time\nprint('started')\ntime.sleep(60)"),
        ):
            request = kernel.send(code)
            kernel.wait_for_text()
            time.sleep(0.2)
            started = time.perf_counter()
            kernel.manager.interrupt_kernel()
            kernel.reply(request)
            figures[label] = (time.perf_counter() - started) * 1000
    return figures


def memory(name: str) -> dict[str, float]:
    """Measure memory when everything that a kernel starts is up, and after an import."""
    with Kernel(name) as kernel:
        kernel.run("pass")
        time.sleep(4)
        idle = kernel.memory()
        kernel.run("import numpy, pandas")
        return {"memory, idle [MB]": idle, "memory, pandas [MB]": kernel.memory()}


def notebook(name: str) -> dict[str, float]:
    """Measure a notebook of 100 small cells through nbclient."""
    kinds = ["x = {i}", "print('line', {i})", "x + {i}", "sum(range({i} * 100))"]
    cells = [nbformat.v4.new_code_cell(kinds[i % len(kinds)].format(i=i)) for i in range(100)]
    client = NotebookClient(nbformat.v4.new_notebook(cells=cells), kernel_name=name, timeout=60)
    return {"100-cell notebook [ms]": seconds_of(client.execute) * 1000}


def death(name: str) -> dict[str, float]:
    """Measure the way from the death of a worker with a warm spare to the next cell's result."""
    with Kernel(name) as kernel:
        kernel.run("pass")
        time.sleep(4)
        kill = kernel.send("import os\nos.kill(os.getpid(), 9)", stop_on_error=False)
        started = time.perf_counter()
        after = kernel.send("6 * 7")
        if kernel.reply(kill)["status"] != "error" or kernel.reply(after)["status"] != "ok":
            raise RuntimeError(f"{name} did not survive the death of its worker")
        return {"worker's death to next result [ms]": (time.perf_counter() - started) * 1000}


WORKLOADS = [
    Workload("ready", ready, {"ready [ms]": 1.2}),
    Workload("latency", latency, {"`pass` p50 [ms]": 1.2}),
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
    Workload("death", death, {"worker's death to next result [ms]": 300.0}, capsule_only=True),
]


def _check(whole: bool, name: str, what: str) -> None:
    if not whole:
        raise LostOutput(f"{name}: {what} did not arrive whole and in order")
