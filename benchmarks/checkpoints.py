"""Measure checkpoints against targets and other programs: ``python benchmarks/checkpoints.py``."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import platformdirs
import psutil
from checkpoint_notebooks import Notebook, mixed, workload_a, workload_b
from checkpoint_rows import MEASUREMENTS, ROWS, Figures, Row
from kernels import BenchmarkError
from peers import COLUMNS, PROGRAMS, Attempt, State, measure
from rich.console import Console
from rich.markup import escape
from rich.table import Table

ROUNDS = 3
#: File systems in memory.
_MEMORY_FILES = {"tmpfs", "ramfs", "devtmpfs"}


@dataclass
class Results:
    """Everything that was measured: one value a round, by row and label."""

    scale: float
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    #: What explains the values.
    details: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    peers: list[Attempt] = field(default_factory=list)
    #: Why there are rows without a value.
    faults: list[str] = field(default_factory=list)
    #: Percent of the processors that others used before each measurement.
    others: list[float] = field(default_factory=list)

    def add(self, kind: dict[str, dict[str, list[float]]], taken: dict[str, Figures]) -> None:
        """Take the figures of one round."""
        for row, figures in taken.items():
            for label, value in figures.items():
                kind.setdefault(row, {}).setdefault(label, []).append(value)


def main() -> int:
    """Measure; return 1 if a measurement failed. A missed target is shown, but is not an error."""
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="size of the data; what must be met is for 1.0")
    parser.add_argument("--rows", nargs="*", choices=names, default=names, metavar="ROW", help=", ".join(names))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each is measured")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="measure others, too")
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=PROGRAMS, metavar="PROGRAM")
    parser.add_argument("--notebooks", nargs="+", default=["A", "B", "mixed"], choices=["A", "B", "mixed"])
    parser.add_argument("--json", type=Path, default=Path("out/checkpoints.json"), help="where the figures go")
    parser.add_argument("--output", type=Path, help="a Markdown file for the tables")
    parser.add_argument(
        "--cache",
        type=Path,
        default=platformdirs.user_cache_path("capsule-benchmarks"),
        help="where the peers' environments and, for a time, the data are: on the disk that is to be measured",
    )
    arguments = parser.parse_args()
    cache = arguments.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    # What is imported is imported as fast as a user's Python does it, which keeps what it compiled.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # A pipe has no width, and is taken for a narrow terminal.
    console = Console(width=None if sys.stdout.isatty() else 160)
    if _file_system(cache) in _MEMORY_FILES:
        console.print(f"[yellow]{cache} is in memory: what is written meets no disk. Choose another --cache.[/]")
    results = Results(arguments.scale)
    _measure_rows(arguments.rows, arguments.rounds, cache / "work", results, console)
    if arguments.peers:
        made = {"A": workload_a, "B": workload_b, "mixed": mixed}
        notebooks = [made[name](arguments.scale) for name in arguments.notebooks]
        _measure_peers(notebooks, arguments.programs, arguments.rounds, cache, results, console)
    tables = [_judged(results), _explained(results), _compared(results)]
    _show(tables, results, console)
    _write_json(arguments.json, results)
    if arguments.output:
        _write_markdown(arguments.output, tables, results)
    return 1 if results.faults else 0


def _measure_rows(rows: list[str], rounds: int, work: Path, results: Results, console: Console) -> None:
    for number in range(rounds):
        for measurement in MEASUREMENTS:
            if not set(measurement.rows) & set(rows):
                continue
            console.print(f"round {number + 1}: {', '.join(measurement.rows)}")
            # None of our kernels runs now: other programs use the processors.
            results.others.append(psutil.cpu_percent(interval=0.5))
            try:
                taken = measurement.measure(results.scale, work)
            except (BenchmarkError, OSError, psutil.Error) as error:
                results.faults.append(f"{', '.join(measurement.rows)}: {' '.join(str(error).split())[:500]}")
                console.print(f"[red]{escape(results.faults[-1])}[/]")
                continue
            results.add(results.values, {row: taken.values[row] for row in rows if row in taken.values})
            results.add(results.details, {row: taken.details[row] for row in rows if row in taken.details})


def _measure_peers(
    notebooks: list[Notebook], programs: list[str], rounds: int, cache: Path, results: Results, console: Console
) -> None:
    for number in range(rounds):
        for notebook in notebooks:
            # One after the other within each round, so that noise meets all.
            for program in programs:
                attempt = measure(program, notebook, cache)
                console.print(f"round {number + 1}: {notebook.name}, {program}: {attempt.state} {escape(attempt.why)}")
                results.peers.append(attempt)


def _file_system(path: Path) -> str:
    mounts = [part for part in psutil.disk_partitions(all=True) if path.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else ""


# --- tables: a heading, the columns, the rows

_Cells = tuple[str, list[str], list[list[str]]]


def _judged(results: Results) -> _Cells:
    rows = []
    for row in ROWS:
        if row.name not in results.values:
            continue
        medians = {label: statistics.median(values) for label, values in results.values[row.name].items()}
        met = all(medians[label] <= limit for label, limit in row.limits.items())
        measured = ", ".join(f"{label} {_number(medians[label])}" for label in row.limits)
        rows.append([row.figure, row.must, measured, _spread(results, row), "yes" if met else "no"])
    return "Capsule", ["figure", "must", "measured", "of the rounds", "met"], rows


def _spread(results: Results, row: Row) -> str:
    values = results.values[row.name]
    return ", ".join(f"{_number(min(values[label]))} to {_number(max(values[label]))}" for label in row.limits)


def _explained(results: Results) -> _Cells:
    rows = [
        [name, label, _number(statistics.median(values))]
        for name, figures in results.details.items()
        for label, values in figures.items()
    ]
    return "Details", ["row", "what", "median"], rows


def _compared(results: Results) -> _Cells:
    """Return medians over the rounds, and the worst restored state."""
    several: dict[tuple[str, str], list[Attempt]] = {}
    for attempt in results.peers:
        several.setdefault((attempt.notebook, attempt.program), []).append(attempt)
    rows = []
    for (notebook, program), attempts in several.items():
        worst = max(attempts, key=lambda attempt: list(State).index(attempt.state))
        figures = [attempt.figures() for attempt in attempts]
        medians = [_median([each[label] for each in figures]) for label in COLUMNS]
        rows.append([notebook, program, *map(_number, medians), worst.state])
    return "Compared with other programs", ["notebook", "program", *COLUMNS, "state"], rows


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


def _losses(results: Results) -> list[str]:
    """Return what was not restored, and why."""
    found = (f"{each.notebook}, {each.program}: {each.state}; {each.why}" for each in results.peers if each.why)
    return list(dict.fromkeys(found))


def _show(tables: list[_Cells], results: Results, console: Console) -> None:
    for title, columns, rows in tables:
        if rows:
            table = Table(*map(escape, columns), title=title)
            for row in rows:
                table.add_row(*map(escape, row))
            console.print(table)
    for line in [*_losses(results), _conditions(results)]:
        console.print(escape(line))
    for fault in results.faults:
        console.print(f"[red]{escape(fault)}[/]")


def _conditions(results: Results) -> str:
    others = f"; others used up to {max(results.others):.0f} % of the processors" if results.others else ""
    return f"scale {results.scale:g}, {os.cpu_count()} cores{others}"


def _write_markdown(path: Path, tables: list[_Cells], results: Results) -> None:
    parts = [_conditions(results)]
    for title, columns, rows in tables:
        if rows:
            lines = [columns, ["---"] * len(columns), *rows]
            parts.append(f"## {title}\n")
            parts[-1] += "".join("\n| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join([*parts, *_losses(results), *results.faults]) + "\n", encoding="utf-8")


def _write_json(path: Path, results: Results) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(results), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
