"""The results of a run: medians, ratios, targets, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from rich.markup import escape
from rich.table import Table
from workloads import WORKLOADS, Workload

#: Distributions whose versions matter to the figures.
_DISTRIBUTIONS = ("capsule-kernel", "ipykernel", "ipython", "jupyter-client", "pyzmq", "resonate-sdk")


@dataclass(frozen=True)
class Row:
    """One figure of all kernels."""

    what: str
    medians: dict[str, float]
    #: The first kernel's median by the last one's.
    ratio: float | None
    target: float | None
    #: Whether the target is met; None where there is none, or nothing to compare with.
    met: bool | None


@dataclass
class Report:
    """All measurements.

    Args:
        kernels: their names; the first one is judged, the last one is what it is compared with.
    """

    kernels: list[str]
    #: Every single value, by label and kernel.
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    #: What went wrong; a run with faults fails.
    faults: list[str] = field(default_factory=list)
    #: Percent of the processors that others used just before each workload.
    others: dict[str, float] = field(default_factory=dict)

    def add(self, kernel: str, measured: dict[str, float]) -> None:
        """Take the figures of one round."""
        for label, value in measured.items():
            self.figures.setdefault(label, {}).setdefault(kernel, []).append(value)

    def rows(self) -> list[Row]:
        """Return the medians, in the order in which they were measured."""
        works = {label: work for work in WORKLOADS for label in work.targets}
        return [self._row(label, works.get(label)) for label in self.figures]

    def _row(self, label: str, work: Workload | None) -> Row:
        medians = {kernel: statistics.median(values) for kernel, values in self.figures[label].items()}
        judged, reference = medians.get(self.kernels[0]), medians.get(self.kernels[-1])
        ratio = None
        if judged is not None and reference and len(self.kernels) > 1:
            ratio = judged / reference
        target = work.targets[label] if work else None
        compared = judged if work and work.capsule_only else ratio
        met = None if target is None or compared is None else compared <= target
        return Row(label, medians, ratio, target, met)

    def table(self) -> Table:
        """Return the table for people."""
        table = Table("", *self.kernels, "ratio", "target", "met")
        for column in table.columns[1:]:
            column.justify = "right"
        for row in self.rows():
            numbers = [*(row.medians.get(kernel) for kernel in self.kernels), row.ratio, row.target]
            met = "" if row.met is None else "[green]yes[/]" if row.met else "[red]no[/]"
            table.add_row(escape(row.what), *("" if n is None else f"{n:,.2f}" for n in numbers), met)
        return table

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "environment": {
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "system": f"{platform.system()} {platform.machine()}",
                "versions": {name: version(name) for name in _DISTRIBUTIONS},
            },
            "others_percent": self.others,
            "kernels": self.kernels,
            "rows": [asdict(row) for row in self.rows()],
            "figures": self.figures,
            "faults": self.faults,
        }
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
