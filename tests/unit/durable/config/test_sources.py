"""Sources of the configuration: which one wins, and how wrong values and unknown settings are reported."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from capsule_durable.config.fast_defaults import ENVIRONMENT_PREFIX
from capsule_durable.config.settings import Settings
from capsule_durable.config.sources import ConfigurationError, load, read

#: Variables with the prefix of settings that are none: those of Capsule itself, of its tests, and of other programs.
OTHER_VARIABLES = (
    *("CONNECTION_FILE", "HIDDEN_ENVIRONMENT", "IPYTHON_OPTIONS", "ISOLATION", "PROCESS_TAG", "TOKEN", "WRITER_TAG"),
    *("SCREENSHOTS", "TEST_DEADLINE", "TEST_KERNEL", "TEST_SEED", "WRITE_TABLE", "UNRELATED"),
)


def write(directory: Path, text: str) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / "capsule.toml"
    path.write_text(text)
    return path


def test_a_later_source_of_a_setting_wins_and_is_its_origin(tmp_path: Path) -> None:
    user, project = tmp_path / "user", tmp_path / "project"
    for directory, value in ((user, 1), (project, 2)):
        write(directory, f"drain_timeout = {value}\nrequest_timeout = {value}\n")
    environ = {"CAPSULE_REQUEST_TIMEOUT": "3", "CAPSULE_UNRELATED": "x"}
    settings, origins = load(environ, {"python": "/p", "profile": None}, project, user)
    assert (settings.drain_timeout, settings.request_timeout, settings.python) == (2, 3, "/p")
    assert origins["drain_timeout"] == str(project / "capsule.toml")
    assert origins["request_timeout"] == "CAPSULE_REQUEST_TIMEOUT"
    assert origins["python"] == "argument"
    assert origins["spare_worker"] == "default"


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("memry_limit", ' Did you mean "memory_limit"?'),
        ("timeout", ' Did you mean "input_timeout"?'),
        ("no_such_thing", ""),
    ],
)
def test_an_unknown_setting_in_a_file_is_a_warning_with_a_suggestion(
    tmp_path: Path, name: str, suggestion: str
) -> None:
    path = write(tmp_path, f'{name} = "8GB"\nretries = 2\n')
    found = read({}, {}, tmp_path, tmp_path / "none")
    assert found.warnings == (f'Unknown setting "{name}" in {path}.{suggestion}',)
    assert found.problem == ""
    assert found.settings.retries == 2
    assert name not in found.origins


def test_a_misspelt_variable_is_a_warning_with_a_suggestion(tmp_path: Path) -> None:
    found = read({"CAPSULE_MEMRY_LIMIT": "8GB", "CAPSULE_RETRIES": "2"}, {}, tmp_path, tmp_path)
    assert found.warnings == (
        'Unknown setting "CAPSULE_MEMRY_LIMIT" in the environment. Did you mean "CAPSULE_MEMORY_LIMIT"?',
    )
    assert found.problem == ""
    assert (found.settings.memory_limit, found.settings.retries) == (None, 2)


@pytest.mark.parametrize("name", OTHER_VARIABLES)
def test_a_variable_unlike_any_setting_belongs_to_another_program(tmp_path: Path, name: str) -> None:
    assert read({ENVIRONMENT_PREFIX + name: "x"}, {}, tmp_path, tmp_path).warnings == ()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_can_be_misspelt_in_the_environment(tmp_path: Path, name: str) -> None:
    variable = ENVIRONMENT_PREFIX + name.upper()
    (warning,) = read({f"{variable}X": "1"}, {}, tmp_path, tmp_path).warnings
    assert warning.endswith(f'Did you mean "{variable}"?')


def test_a_wrong_value_is_reported_with_its_origin_and_replaced_by_the_default(tmp_path: Path) -> None:
    path = write(tmp_path, "drain_timeout = -1\nretries = 2\n")
    found = read({"CAPSULE_ENGINE": "embedded"}, {"profile": "none"}, tmp_path, tmp_path / "none")
    lines = found.problem.splitlines()
    assert f'Wrong value for "drain_timeout" in {path}: -1 (input should be greater than 0).' in lines
    assert any("\"engine\" in CAPSULE_ENGINE: 'embedded'" in line for line in lines)
    assert any("\"profile\" in the kernelspec's arguments: 'none'" in line for line in lines)
    assert len(lines) == 3
    assert (found.settings.drain_timeout, found.settings.engine, found.settings.profile, found.settings.retries) == (
        Settings().drain_timeout,
        Settings().engine,
        Settings().profile,
        2,
    )


def test_a_file_that_cannot_be_read_is_reported_and_the_other_sources_count(tmp_path: Path) -> None:
    path = write(tmp_path, "not toml")
    found = read({"CAPSULE_RETRIES": "2"}, {}, tmp_path, tmp_path / "none")
    assert found.problem.startswith(f"Cannot read {path}: ")
    assert found.settings.retries == 2


@pytest.mark.parametrize("text", ["drain_timeout = -1", "not toml"])
def test_a_command_cannot_run_with_a_wrong_value(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError, match=str(path)):
        load({}, {}, tmp_path, tmp_path / "none")


def test_a_command_runs_with_an_unknown_setting_and_logs_it_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, "memry_limit = 1")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            settings, _ = load({}, {}, tmp_path, tmp_path / "none")
    assert settings.memory_limit is None
    assert caplog.messages == [f'Unknown setting "memry_limit" in {path}. Did you mean "memory_limit"?']


@pytest.mark.parametrize(
    ("name", "text", "size"),
    [("memory_limit", "8GB", 8 * 10**9), ("checkpoint_size", "20GB", 20 * 10**9), ("history_size", "2GiB", 2 * 2**30)],
)
def test_sizes_have_units(tmp_path: Path, name: str, text: str, size: int) -> None:
    found = read({ENVIRONMENT_PREFIX + name.upper(): text}, {}, tmp_path, tmp_path)
    assert found.problem == ""
    assert getattr(found.settings, name) == size


def test_names_and_paths_in_variables_are_split(tmp_path: Path) -> None:
    environ = {"CAPSULE_PASS_ENVIRONMENT": "A_KEY, AWS_*", "CAPSULE_HIDDEN_PATHS": "~/.ssh:/secret"}
    settings = read(environ, {}, tmp_path, tmp_path).settings
    assert settings.pass_environment == ("A_KEY", "AWS_*")
    assert settings.hidden_paths == ("~/.ssh", "/secret")


def test_an_engine_is_any_url_with_a_scheme(tmp_path: Path) -> None:
    found = read({"CAPSULE_ENGINE": "postgresql://somewhere"}, {}, tmp_path, tmp_path)
    assert (found.settings.engine, found.problem) == ("postgresql://somewhere", "")
