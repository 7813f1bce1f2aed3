"""Settings: which source wins, and how a wrong one is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from capsule_durable.config.settings import ConfigurationError, load


def test_the_later_source_of_a_setting_wins_and_is_named(tmp_path: Path) -> None:
    user, project = tmp_path / "user", tmp_path / "project"
    for directory, value in ((user, 1), (project, 2)):
        directory.mkdir()
        (directory / "capsule.toml").write_text(f"drain_timeout = {value}\nrequest_timeout = {value}\n")
    environ = {"CAPSULE_REQUEST_TIMEOUT": "3", "CAPSULE_UNRELATED": "x"}
    settings, origins = load(environ, {"python": "/p", "profile": None}, project, user)
    assert (settings.drain_timeout, settings.request_timeout, settings.python) == (2, 3, "/p")
    assert origins["drain_timeout"] == str(project / "capsule.toml")
    assert origins["request_timeout"] == "CAPSULE_REQUEST_TIMEOUT"
    assert origins["python"] == "argument"
    assert origins["spare_worker"] == "default"


@pytest.mark.parametrize("text", ["drain_timeout = -1", "no_such_setting = 1", "not toml"])
def test_a_wrong_setting_is_named_with_its_place(tmp_path: Path, text: str) -> None:
    (tmp_path / "capsule.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"capsule\.toml|unknown setting"):
        load({}, {}, tmp_path, tmp_path / "none")


def test_an_engine_is_any_url_with_a_scheme(tmp_path: Path) -> None:
    settings, _ = load({"CAPSULE_ENGINE": "postgresql://somewhere"}, {}, tmp_path, tmp_path)
    assert settings.engine == "postgresql://somewhere"
    with pytest.raises(ConfigurationError, match=r"engine \(CAPSULE_ENGINE\)"):
        load({"CAPSULE_ENGINE": "embedded"}, {}, tmp_path, tmp_path)
