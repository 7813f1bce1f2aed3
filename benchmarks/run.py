"""Compare the kernel with ipykernel, in one interleaved run: ``python benchmarks/run.py``."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from workloads import WORKLOADS, LostOutput

CAPSULE, REFERENCE = "capsule", "python3"


def main() -> int:
    """Measure; return 1 if a kernel lost output. A missed target is shown, and is no error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each workload runs on each kernel")
    parser.add_argument("--only", nargs="+", metavar="WORKLOAD", choices=[work.name for work in WORKLOADS])
    parser.add_argument("--json", type=Path, default=Path("out/bench.json"), help="where the figures go")
    arguments = parser.parse_args()
    console = Console()
    figures: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        os.environ["IPYTHONDIR"] = directory
        for work in WORKLOADS:
            if arguments.only and work.name not in arguments.only:
                continue
            for round_ in range(arguments.rounds):
                console.print(f"{work.name}: round {round_ + 1} of {arguments.rounds}", style="dim")
                # One after the other within each round, so that noise meets both.
                for kernel in (CAPSULE,) if work.capsule_only else (CAPSULE, REFERENCE):
                    try:
                        measured = work.measure(kernel)
                    except LostOutput as error:
                        console.print(f"[red]{error}[/]")
                        return 1
                    for label, value in measured.items():
                        figures.setdefault(label, {}).setdefault(kernel, []).append(value)
    rows = _rows(figures)
    console.print(_table(rows))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"rows": rows, "figures": figures}, indent=2), encoding="utf-8")
    console.print(f"figures: {arguments.json}")
    return 0


def _rows(figures: dict[str, dict[str, list[float]]]) -> list[dict[str, float | str | bool | None]]:
    targets = {label: (target, work.capsule_only) for work in WORKLOADS for label, target in work.targets.items()}
    rows: list[dict[str, float | str | bool | None]] = []
    for label, by_kernel in figures.items():
        ours = statistics.median(by_kernel[CAPSULE])
        theirs = statistics.median(by_kernel[REFERENCE]) if REFERENCE in by_kernel else None
        ratio = ours / theirs if theirs else None
        target, absolute = targets.get(label, (None, False))
        compared = ours if absolute else ratio
        met = None if target is None or compared is None else compared <= target
        rows.append({"what": label, "capsule": ours, "ipykernel": theirs, "ratio": ratio, "target": target, "met": met})
    return rows


def _table(rows: list[dict[str, float | str | bool | None]]) -> Table:
    table = Table("", "Capsule", "ipykernel", "ratio", "target", "met")
    for row in rows:
        numbers = [
            f"{row[key]:.2f}" if row[key] is not None else "" for key in ("capsule", "ipykernel", "ratio", "target")
        ]
        met = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[row["met"]]  # type: ignore[index]
        table.add_row(escape(str(row["what"])), *numbers, met)
    return table


if __name__ == "__main__":
    sys.exit(main())
