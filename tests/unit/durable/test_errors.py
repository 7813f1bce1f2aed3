"""Errors: stored as text, and restored as our types with their history."""

from __future__ import annotations

import json
import pickle

import pytest
from resonate.codec import Codec, NoopEncryptor

from capsule_durable.errors import Rejection, WorkerDied, describe_exit, from_rejection, rejection_text


def test_a_rejection_comes_back_as_our_error_with_its_history() -> None:
    error = WorkerDied("it died", "e1", returncode=-9, peak_memory=5)
    text = rejection_text(error.to_rejection())["message"]
    back = from_rejection(text, "e1")
    assert type(back) is WorkerDied
    assert (back.message, back.execution_id, back.fields) == ("it died", "e1", {"returncode": -9, "peak_memory": 5})
    assert back.__notes__ == ["execution id: e1", f"original rejection: {text}"]


@pytest.mark.parametrize("text", ["", "no json", "[]", "{}", '{"type": 1}'])
def test_a_rejection_from_elsewhere_is_reported_unchanged(text: str) -> None:
    assert text in str(from_rejection(text, "e1"))


def test_no_pickle_is_stored_with_a_rejected_execution() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Rejection("x"))
    codec = Codec(NoopEncryptor())
    stored = codec.decode(codec.encode(Rejection("the text")))
    assert stored == {"__type": "error", "message": "the text"}
    assert "__py_pickle" not in json.dumps(rejection_text(WorkerDied("x").to_rejection()))


@pytest.mark.parametrize(
    ("code", "words"), [(-9, "was killed (SIGKILL)"), (-11, "was killed (SIGSEGV)"), (3, "exited (status 3)")]
)
def test_the_exit_of_a_process_is_described(code: int, words: str) -> None:
    assert describe_exit(code) == words


def test_the_peak_memory_of_a_process_is_told_with_its_end() -> None:
    assert describe_exit(-9, 209_000_000) == "was killed (SIGKILL, peak memory 209 MB)"
    assert describe_exit(3, 42_000_000) == "exited (status 3, peak memory 42 MB)"
