"""Compare the kernel with ipykernel, in one interleaved run: ``python benchmarks/run.py``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import psutil
from jupyter_client.kernelspec import KernelSpecManager
from kernels import BenchmarkError
from report import Report
from rich.console import Console
from rich.markup import escape
from workloads import WORKLOADS, Workload

ROUNDS, QUICK_ROUNDS = 5, 2
#: Percent of the processors that others may use before the figures are worth a warning.
BUSY = 10.0


def main() -> int:
    """Measure; return 1 if a kernel lost output or failed. A missed target is shown, but is not an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--kernels",
        nargs="+",
        default=["capsule", "python3"],
        metavar="NAME",
        help="kernelspecs; the first one is judged, the last one is what it is compared with",
    )
    parser.add_argument("--rounds", type=_positive, help="how often each workload runs on each kernel")
    parser.add_argument("--only", nargs="+", metavar="METRIC", choices=[work.name for work in WORKLOADS])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds instead of {ROUNDS}")
    parser.add_argument("--json", type=Path, default=Path("out/bench.json"), help="where the figures go")
    arguments = parser.parse_args()
    missing = set(arguments.kernels) - set(KernelSpecManager().find_kernel_specs())
    if missing:
        parser.error(f"not installed: {', '.join(sorted(missing))}")
    rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    console = Console()
    report = Report(arguments.kernels)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        # No user's startup files, and a separate history.
        os.environ["IPYTHONDIR"] = directory
        for work in WORKLOADS:
            if not arguments.only or work.name in arguments.only:
                console.print(f"{work.name}: {rounds * work.repeats} x {', '.join(_kernels(work, report))}")
                # None of our kernels runs now: other programs use the processors.
                report.others[work.name] = psutil.cpu_percent(interval=0.5)
                _measure(work, rounds, report, console)
    console.print(report.table())
    report.write(arguments.json)
    console.print(f"figures: {arguments.json}")
    if max(report.others.values()) > BUSY:
        console.print(f"[yellow]Others used up to {max(report.others.values()):.0f} % of the processors.[/]")
    for fault in report.faults:
        console.print(f"[red]{escape(fault)}[/]")
    return 1 if report.faults else 0


def _measure(work: Workload, rounds: int, report: Report, console: Console) -> None:
    for _ in range(rounds * work.repeats):
        # One kernel after the other within each round, so that noise meets all.
        for kernel in _kernels(work, report):
            try:
                report.add(kernel, work.measure(kernel))
            except BenchmarkError as error:
                console.print(f"[red]{escape(str(error))}[/]")
                report.faults.append(str(error))


def _kernels(work: Workload, report: Report) -> list[str]:
    return [name for name in report.kernels if not work.capsule_only or name.startswith("capsule")]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        msg = "at least 1"
        raise argparse.ArgumentTypeError(msg)
    return number


if __name__ == "__main__":
    sys.exit(main())
