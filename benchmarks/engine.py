"""Measure the durable engine against its targets: ``python benchmarks/engine.py``."""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
from engine_store import GROUP, fill, run_cells
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
from kernels import Kernel
from rich.console import Console
from rich.table import Table

from capsule_durable.engines.embedded.engine import EmbeddedEngine
from capsule_durable.engines.embedded.network import EmbeddedNetwork
from capsule_durable.engines.embedded.retention import Retention

#: Trivial cells of each kernel, and cells of the notebook, in each round.
TRIVIAL, CELLS, SLEEP = 300, 40, 0.05
#: What must be met, by row: the figure, its limit, and its unit.
LIMITS = {
    "overhead": ("durable overhead of a trivial cell, p50", 1.0, "ms"),
    "notebook": ("a notebook of 50 ms cells, durable against not", 1.05, "x"),
    "late": ("p50 of the 100,000th cell of a store against the 100th", 1.2, "x"),
    "memory": ("growth of memory over 100,000 cells", 50.0, "MB"),
    "opening": ("opening a store with 1,000,000 settled promises", 300.0, "ms"),
}


class _Manager(KernelManager):
    """Starts a module in place of an installed kernel."""

    argv: list[str]

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(argv=self.argv, display_name="measured", language="python")


def _kernel(durable: bool, home: Path) -> Kernel:
    manager = _Manager()
    program = ["-m", "capsule_kernel"] if durable else [str(Path(__file__).with_name("direct_kernel.py"))]
    manager.argv = [sys.executable, *program, "-f", "{connection_file}"]
    # Checkpoints and the record are the same on both sides, and no part of this.
    environment = os.environ | {"CAPSULE_HOME": str(home), "CAPSULE_CHECKPOINTS": "off"}
    return Kernel("durable" if durable else "direct", manager, env=environment)


def overhead(rounds: int, directory: Path) -> dict[str, list[float]]:
    """Return the durable overhead of a trivial cell, in ms, and of a notebook, as a factor."""
    found: dict[str, list[float]] = {"overhead": [], "notebook": []}
    with ExitStack() as stack:
        pair = [stack.enter_context(_kernel(durable, directory / str(durable))) for durable in (True, False)]
        for kernel in pair:
            for _ in range(50):
                kernel.execute("pass")
        for _ in range(rounds):
            took: dict[Kernel, list[float]] = {kernel: [] for kernel in pair}
            for number in range(TRIVIAL):
                for kernel in pair if number % 2 else reversed(pair):
                    took[kernel].append(_time(kernel, "pass"))
            medians = [statistics.median(took[kernel]) * 1e3 for kernel in pair]
            found["overhead"].append(medians[0] - medians[1])
            totals = [0.0, 0.0]
            for number in range(CELLS):
                for place in (0, 1) if number % 2 else (1, 0):
                    totals[place] += _time(pair[place], f"import time; time.sleep({SLEEP})")
            found["notebook"].append(totals[0] / totals[1])
    return found


def _time(kernel: Kernel, code: str) -> float:
    began = time.perf_counter()
    kernel.execute(code)
    return time.perf_counter() - began


def growth(directory: Path, count: int) -> dict[str, float]:
    """Return what the last cells take, by the first ones, and the memory that came in between, in MB."""

    async def run() -> dict[int, tuple[float, float]]:
        connection = EmbeddedNetwork(directory / "cells.sqlite3", GROUP, retention=Retention())
        figures = await run_cells(connection, count, (100, 400, count))
        connection.close()
        return figures

    figures = asyncio.run(run())
    return {"late": figures[count][0] / figures[400][0], "memory": figures[count][1] - figures[400][1]}


def opening(directory: Path, count: int) -> dict[str, float]:
    """Return how long it takes to open a store, in ms."""
    path = directory / "full.sqlite3"
    fill(path, count)

    async def run() -> float:
        began = time.perf_counter()
        engine = EmbeddedEngine(path, "capsule.benchmark")
        engine.resonate.start()
        await engine.promises.search("pending", None, 1, None)
        took = time.perf_counter() - began
        await engine.close()
        return took * 1e3

    return {"opening": asyncio.run(run())}


def _apart(queue: Any, measure: Callable[..., dict[str, float]], arguments: tuple[Any, ...]) -> None:
    queue.put(measure(*arguments))


def in_new_process(measure: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """Measure where nothing was before: memory and imports are its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=_apart, args=(queue, measure, arguments))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"{measure.__name__} failed")
    found: dict[str, float] = queue.get()
    return found


def main() -> int:
    """Measure; a missed target is shown, but is not an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", nargs="*", choices=list(LIMITS), default=list(LIMITS), metavar="ROW")
    parser.add_argument("--cells", type=int, default=100_000, help="how many workflows run on one file")
    parser.add_argument("--promises", type=int, default=1_000_000, help="how many are in the file that is opened")
    parser.add_argument("--cache", type=Path, help="a directory on the disk that is to be measured")
    parser.add_argument("--json", type=Path, default=Path("out/engine.json"), help="where the figures go")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    others = psutil.cpu_percent(interval=1.0)
    directory = Path(tempfile.mkdtemp(dir=arguments.cache))
    found: dict[str, list[float]] = {}
    try:
        if {"overhead", "notebook"} & set(arguments.rows):
            found |= overhead(arguments.rounds, directory)
        if {"late", "memory"} & set(arguments.rows):
            found |= {row: [value] for row, value in in_new_process(growth, directory, arguments.cells).items()}
        if "opening" in arguments.rows:
            for _ in range(arguments.rounds):
                for row, value in in_new_process(opening, directory, arguments.promises).items():
                    found.setdefault(row, []).append(value)
                (directory / "full.sqlite3").unlink()
    finally:
        shutil.rmtree(directory)
    table = Table("figure", "must", "measured", "of the rounds", "met")
    for row in arguments.rows:
        figure, limit, unit = LIMITS[row]
        middle = statistics.median(found[row])
        spread = f"{min(found[row]):.3g} to {max(found[row]):.3g}"
        table.add_row(
            figure, f"<= {limit:g} {unit}", f"{middle:.3g} {unit}", spread, "yes" if middle <= limit else "no"
        )
    console.print(table)
    console.print(f"{os.cpu_count()} cores; others used {others:.0f} % of the processors")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
