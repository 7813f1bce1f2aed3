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
