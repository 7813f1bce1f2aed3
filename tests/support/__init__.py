"""Helpers of the tests: the only place for code that more than one test module uses."""

from __future__ import annotations

from pathlib import Path

#: The root of the repository.
ROOT = Path(__file__).parents[2]
#: The folder of the programs that tests start.
PROGRAMS = Path(__file__).parent / "programs"
