"""Ids, errors, settings, and what durable functions may touch."""

from __future__ import annotations

import ast
import json
import pickle
from pathlib import Path

import pytest
from resonate.codec import Codec, NoopEncryptor
from resonate.ids import origin_of, validate_root_id

import capsule_durable.execution.functions
from capsule_durable import ids
from capsule_durable.config.settings import ConfigurationError, load
from capsule_durable.errors import Rejection, WorkerDied, describe_exit, from_rejection, rejection_text
from capsule_durable.text import coloured, visible


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


def test_a_rejection_comes_back_as_our_error_with_its_history() -> None:
    error = WorkerDied("it died", "e1", returncode=-9, peak_memory=5)
    text = rejection_text(error.to_rejection())["message"]
    back = from_rejection(text, "e1")
    assert type(back) is WorkerDied
    assert (back.message, back.execution_id, back.fields) == ("it died", "e1", {"returncode": -9, "peak_memory": 5})
    assert back.__notes__ == ["execution id: e1", f"original rejection: {text}"]


@pytest.mark.parametrize("text", ["", "no json", "[]", "{}", '{"type": 1}'])
def test_a_rejection_from_elsewhere_is_told_as_it_came(text: str) -> None:
    assert text in str(from_rejection(text, "e1"))


def test_no_pickle_is_stored_with_a_rejected_execution() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Rejection("x"))
    codec = Codec(NoopEncryptor())
    stored = codec.decode(codec.encode(Rejection("the text")))
    assert stored == {"__type": "error", "message": "the text"}
    assert "__py_pickle" not in json.dumps(rejection_text(WorkerDied("x").to_rejection()))


@pytest.mark.parametrize(
    ("code", "words"), [(-9, "was killed by SIGKILL"), (-11, "was killed by SIGSEGV"), (3, "exited with status 3")]
)
def test_the_end_of_a_process_is_told_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words


def test_the_later_source_of_a_setting_wins_and_is_named(tmp_path: Path) -> None:
    user, project = tmp_path / "user", tmp_path / "project"
    for directory, value in ((user, 1), (project, 2)):
        directory.mkdir()
        (directory / "capsule.toml").write_text(f"drain_timeout = {value}\nquestion_timeout = {value}\n")
    environ = {"CAPSULE_QUESTION_TIMEOUT": "3", "CAPSULE_UNRELATED": "x"}
    settings, origins = load(environ, {"python": "/p", "profile": None}, project, user)
    assert (settings.drain_timeout, settings.question_timeout, settings.python) == (2, 3, "/p")
    assert origins["drain_timeout"] == str(project / "capsule.toml")
    assert origins["question_timeout"] == "CAPSULE_QUESTION_TIMEOUT"
    assert origins["python"] == "argument"
    assert origins["spare"] == "default"


@pytest.mark.parametrize("text", ["drain_timeout = -1", "no_such_setting = 1", "not toml"])
def test_a_wrong_setting_is_named_with_its_place(tmp_path: Path, text: str) -> None:
    (tmp_path / "capsule.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"capsule\.toml|unknown setting"):
        load({}, {}, tmp_path, tmp_path / "none")


def test_an_engine_that_this_version_does_not_have_is_refused_with_those_that_it_has(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"engine \(CAPSULE_ENGINE\).*'embedded:' or 'memory:'"):
        load({"CAPSULE_ENGINE": "postgresql://somewhere"}, {}, tmp_path, tmp_path)


def test_durable_functions_touch_no_event_loop() -> None:
    tree = ast.parse(Path(capsule_durable.execution.functions.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    forbidden = {"asyncio", "socket", "threading", "time", "zmq", "selectors", "subprocess", "os", "io"}
    assert not {name.split(".")[0] for name in imported} & forbidden
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not called & {"create_task", "run_until_complete", "get_running_loop", "get_event_loop", "new_event_loop"}


# -- text ---------------------------------------------------------------------------------------------------------


def test_a_terminal_finds_nothing_to_obey() -> None:
    assert visible("a\tb\nc") == "a\tb\nc"
    assert visible("\x1b[2J\x07\x7f\x9b\u202e") == "\u241b[2J\u2407\u2421\ufffd\ufffd"
    assert coloured("\x1b[1;31mred\x1b[0m \x1b[2J\x1b]0;t\x07") == "\x1b[1;31mred\x1b[0m \u241b[2J\u241b]0;t\u2407"
