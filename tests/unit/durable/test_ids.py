"""Ids: their grammar is that of the engine."""

from __future__ import annotations

import pytest
from resonate.ids import origin_of, validate_root_id

from capsule_durable import ids


def test_ids_follow_the_grammar_of_the_engine() -> None:
    execution_id = ids.new_execution_id()
    root = ids.execution(execution_id)
    assert validate_root_id(root) == root == f"exec.{execution_id}"
    assert ids.execution_input(execution_id, 2) == f"exec.{execution_id}:input.2"
    assert origin_of(ids.execution_input(execution_id, 2)) == root


@pytest.mark.parametrize("bad", ["", "a:b", "a.b", "a b", "x" * 200, "a\n"])
def test_an_id_that_would_break_the_grammar_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="not an execution id"):
        ids.execution(bad)


@pytest.mark.parametrize(
    ("input_id", "cell", "short"),
    [
        ("exec.da66e9c5aa0011:input.1", 3, ["da66e9c5-3.1", "da66e9c5aa0011:input.1"]),
        ("exec.da66e9c5aa0011:input.12", None, ["da66e9c5.12", "da66e9c5aa0011:input.12"]),
        ("exec.da66e9c5aa0011:input.1.1", 3, ["da66e9c5-3.1", "da66e9c5aa0011:input.1.1"]),
        # Of a second attempt.
        ("exec.da66e9c5aa0011-2:input.1", 3, ["da66e9c5-3.1", "da66e9c5-3-2.1", "da66e9c5aa0011-2:input.1"]),
        # Of a run: the position of the cell and its source.
        ("exec.da66e9c5aa-4-1f0a99:input.2", 3, ["da66e9c5-4.2", "da66e9c5-4-1f0a.2", "da66e9c5aa-4-1f0a99:input.2"]),
    ],
)
def test_an_input_has_short_ids(input_id: str, cell: int | None, short: list[str]) -> None:
    assert ids.short_input_ids(input_id, cell) == short
