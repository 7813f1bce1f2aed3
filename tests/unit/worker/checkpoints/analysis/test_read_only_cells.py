"""Which cells can have changed nothing."""

from __future__ import annotations

import sys

import pytest

from capsule_worker.checkpoints.analysis.name_usage import name_usage
from capsule_worker.checkpoints.analysis.read_only_cells import is_read_only

NAMESPACE = {"n": 1, "text": "word", "items": [1], "sys": sys, "f": lambda: None, "_": [1]}


@pytest.mark.parametrize(
    "source",
    ["pass", "", "# nothing", "1 + 1", "print(n)", "print(n, text.upper(), len(text))", "if n > 0: print(abs(n))"],
)
def test_a_cell_that_only_reads_immutable_values_is_read_only(source: str) -> None:
    assert is_read_only(source, name_usage(source), NAMESPACE)


@pytest.mark.parametrize(
    "source",
    [
        "items",
        "print(items)",
        "f()",
        "sys.path",
        "import math",
        "new = 1",
        "n = 2",
        "n += 1",
        "del n",
        "for n in range(3): pass",
        "print(n := 2)",
        "[n for n in range(3)]",
        "unknown",
        "_",
        "exec('items.append(1)')",
        "breakpoint()",
        "globals()",
        "get_ipython().run_line_magic('cd', '/tmp')",
        "get_ipython().system('true')",
        "def f(): pass",
        "this is invalid Python",
    ],
)
def test_in_doubt_a_cell_may_have_changed_something(source: str) -> None:
    assert not is_read_only(source, name_usage(source), NAMESPACE)
