"""What the sandbox costs: the start of a kernel and a `pass`, by profile, in one interleaved run.

``python benchmarks/sandbox.py``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import psutil
from capsules import CapsuleKernel
from kernels import milliseconds
from rich.console import Console
from rich.table import Table

PROFILES = ("open", "notebook", "restricted")
#: Cells of each kernel.
CELLS = 100
#: How much longer a start may take than without a sandbox, in milliseconds.
MUST = 20.0


def main() -> None:
    """Measure, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="kernels of each profile")
    parser.add_argument("--json", type=Path, default=Path("out/sandbox.json"), help="where the figures go")
    arguments = parser.parse_args()
    starts: dict[str, list[float]] = defaultdict(list)
    cells: dict[str, list[float]] = defaultdict(list)
    others = psutil.cpu_percent(interval=0.5)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        for turn in range(arguments.rounds + 1):
            # One after the other in each round, so that noise affects all; the first one is the last of the next round.
            for profile in PROFILES if turn % 2 else reversed(PROFILES):
                began = time.perf_counter()
                with CapsuleKernel(Path(work), "background", profile=profile) as kernel:
                    kernel.execute("pass")
                    start = (time.perf_counter() - began) * 1000
                    if turn:  # the first of each finds out what can be had
                        starts[profile].append(start)
                        cells[profile] += [milliseconds(lambda: kernel.execute("pass")) for _ in range(CELLS)]
    table = Table("profile", "ready", "beyond open", "must", "`pass` p50", "beyond open")
    figures = {}
    for profile in PROFILES:
        ready, latency = statistics.median(starts[profile]), statistics.median(cells[profile])
        more, later = ready - statistics.median(starts["open"]), latency - statistics.median(cells["open"])
        figures[profile] = {"ready": ready, "pass": latency}
        bound = f"{MUST:.0f} ms" if profile != "open" else ""
        table.add_row(profile, f"{ready:.0f} ms", f"{more:+.1f} ms", bound, f"{latency:.2f} ms", f"{later:+.2f} ms")
    console = Console()
    console.print(table)
    console.print(f"medians of {arguments.rounds} kernels; others used {others:.0f} % of the processors")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
