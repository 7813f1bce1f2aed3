"""Without a configuration, the first worker is started with the defaults of the settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from capsule_durable.config.fast_defaults import load_fast_defaults
from capsule_durable.config.sources import load

NOTHING = {"python": None, "profile": None}


@pytest.fixture(autouse=True)
def unconfigured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Use the home directory of a user who has configured nothing."""
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize("environ", [{}, {"CAPSULE_HOME": "~/kept"}, {"CAPSULE_HOME": "relative"}])
def test_fast_defaults_equal_the_defaults_of_the_settings(tmp_path: Path, environ: dict[str, str]) -> None:
    found = load_fast_defaults(environ, NOTHING, tmp_path)
    assert found is not None
    settings, _ = load(environ, NOTHING, tmp_path)
    for name, value in found._asdict().items():
        assert value == getattr(settings, name), name


def test_any_source_of_a_setting_turns_fast_defaults_off(tmp_path: Path) -> None:
    assert load_fast_defaults({"CAPSULE_PROFILE": "open"}, NOTHING, tmp_path) is None
    assert load_fast_defaults({"CAPSULE_MISSPELT": "1"}, NOTHING, tmp_path) is None
    assert load_fast_defaults({}, {**NOTHING, "profile": "open"}, tmp_path) is None
    (tmp_path / "capsule.toml").touch()
    assert load_fast_defaults({}, NOTHING, tmp_path) is None
    assert load_fast_defaults({}, NOTHING, tmp_path / "elsewhere") is not None
    (tmp_path / ".config" / "capsule").mkdir(parents=True)
    (tmp_path / ".config" / "capsule" / "capsule.toml").touch()
    assert load_fast_defaults({}, NOTHING, tmp_path / "elsewhere") is None
    elsewhere = {"XDG_CONFIG_HOME": str(tmp_path / "elsewhere")}
    assert load_fast_defaults(elsewhere, NOTHING, tmp_path / "elsewhere") is not None


@pytest.mark.process
def test_the_start_of_the_first_worker_imports_nothing_heavy() -> None:
    program = (
        "import sys, capsule_durable.config.fast_defaults, capsule_durable.workers.launcher;"
        "import capsule_kernel.jupyter.connection_file, capsule_durable.sandbox.setup;"
        "import capsule_kernel.__main__, capsule_kernel.jupyter.arguments;"
        "capsule_kernel.jupyter.arguments.parse(['-f', 'connection.json']);"
        "heavy = {'pydantic', 'dataclasses', 'inspect', 'argparse', 'hashlib', 'platformdirs', 'shutil'};"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
