"""Benchmarks run, and leave nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

BENCHMARKS = ROOT / "benchmarks"


def test_a_row_is_measured(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    figures, tables = tmp_path / "figures.json", tmp_path / "tables.md"
    arguments = [
        "--scale",
        "0.01",
        "--rows",
        "arrays",
        "--rounds",
        "1",
        "--no-peers",
        "--cache",
        str(tmp_path / "cache"),
    ]
    subprocess.run(
        [sys.executable, "checkpoints.py", *arguments, "--json", str(figures), "--output", str(tables)],
        cwd=BENCHMARKS,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    measured = json.loads(figures.read_text())
    assert measured["faults"] == []
    (times,) = measured["values"]["arrays"]["written [x the data]"]
    assert 1.0 < times < 2.0
    assert "| 50 cells, one new 1 MB array each |" in tables.read_text()
    assert list((tmp_path / "cache" / "work").iterdir()) == []


def test_the_calls_of_a_cell_are_counted_in_a_real_kernel() -> None:
    done = subprocess.run(
        [sys.executable, "trace_cell.py", "--cells", "1", "--json"],
        cwd=BENCHMARKS,
        check=True,
        capture_output=True,
        text=True,
    )
    figures = json.loads(done.stdout)
    assert figures["returns before the send"] == sum(figures["returns by file"].values())
    for row in ("front, leg request", "front, leg reply", "worker, message to result", "worker, checkpoint after it"):
        assert figures[row]["calls"] > figures[row]["changes"] > figures[row]["files"] / 2 > 0
