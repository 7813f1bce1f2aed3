"""What a cell's first line says about attempts, and which errors are worth one."""

from __future__ import annotations

import pytest

from capsule_durable.execution.retry_policy import RetryPolicy, from_metadata, is_permanent, split

USUAL = RetryPolicy(0, 1.0)


@pytest.mark.parametrize(
    ("code", "policy", "rest"),
    [
        ("x = 1", USUAL, "x = 1"),
        ("", USUAL, ""),
        ("%%capsule retry=3\nx = 1", RetryPolicy(3, 1.0), "# %%capsule retry=3\nx = 1"),
        ("%%capsule retry=3 delay=0.5\nx = 1\n", RetryPolicy(3, 0.5), "# %%capsule retry=3 delay=0.5\nx = 1\n"),
        ("%%capsule  retry=2\tdelay=.5  \nx", RetryPolicy(2, 0.5), "# %%capsule  retry=2\tdelay=.5  \nx"),
        ("%%capsule retry=0", RetryPolicy(0, 1.0), "# %%capsule retry=0"),
        # What makes no sense is for the worker, which says so.
        ("%%capsule retry=x\nx", USUAL, "%%capsule retry=x\nx"),
        ("%%capsule retry=-1\nx", USUAL, "%%capsule retry=-1\nx"),
        ("%%capsule retry=3 now\nx", USUAL, "%%capsule retry=3 now\nx"),
        ("%%capsule retry=3delay=1\nx", USUAL, "%%capsule retry=3delay=1\nx"),
        ("\n%%capsule retry=3\nx", USUAL, "\n%%capsule retry=3\nx"),
        ("%capsule status", USUAL, "%capsule status"),
    ],
)
def test_a_cell_says_its_policy_in_its_first_line(code: str, policy: RetryPolicy, rest: str) -> None:
    assert split(code, USUAL) == (policy, rest)
    assert code.count("\n") == rest.count("\n"), "the numbers of lines stay"


@pytest.mark.parametrize(
    ("said", "policy"),
    [
        (None, USUAL),
        ({}, USUAL),
        ({"retry": 3}, RetryPolicy(3, 1.0)),
        ({"retry": 3, "delay": 0.5, "of": "another version"}, RetryPolicy(3, 0.5)),
        ({"delay": 2}, RetryPolicy(0, 2.0)),
        ({"retry": 0}, RetryPolicy(0, 1.0)),
    ],
)
def test_a_cell_sets_its_policy_in_its_metadata(said: object, policy: RetryPolicy) -> None:
    assert from_metadata(said, USUAL) == policy


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"retry": -1}, r"capsule\.retry: .*greater"),
        ({"retry": "3"}, r"capsule\.retry: .*integer"),
        ({"retry": True}, r"capsule\.retry: .*integer"),
        ({"retry": 1, "delay": float("inf")}, r"capsule\.delay: .*finite"),
        ([3], "capsule: .*dictionary"),
        ("retry=3", "capsule: .*dictionary"),
    ],
)
def test_invalid_metadata_are_refused(said: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        from_metadata(said, USUAL)


def test_errors_that_would_repeat_are_known_by_name() -> None:
    assert is_permanent("SyntaxError")
    assert is_permanent("KeyboardInterrupt")
    assert not is_permanent("ConnectionError")
    assert not is_permanent(None)
