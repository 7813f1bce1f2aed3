"""Setting up the sandbox of a kernel: the session's directory, and what must exist before cells run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from capsule_durable.config.paths import SESSIONS
from capsule_durable.sandbox.policy import Sandbox
from capsule_durable.sandbox.setup import set_up


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"JUPYTER_DATA_DIR": str(tmp_path / "data"), "XDG_CONFIG_HOME": str(tmp_path / "config")}


@pytest.mark.process
def test_a_session_has_its_directory_before_its_cells_begin(
    tmp_path: Path, environ: dict[str, str], fake_bubblewrap: Callable[[str], Path]
) -> None:
    fake_bubblewrap("exit 0")
    sandbox, session = set_up("notebook", tmp_path / "kernel.json", tmp_path / "home", environ)
    assert session is not None
    assert str(tmp_path / "home" / SESSIONS / session) in sandbox.prefix
    assert (tmp_path / "home" / SESSIONS / session).stat().st_mode & 0o777 == 0o700
    # These directories start the next kernel. They exist, so that a cell cannot create them.
    assert (tmp_path / "data" / "kernels").is_dir()
    assert (tmp_path / "config" / "capsule").is_dir()


@pytest.mark.process
def test_without_checkpoints_there_is_no_session_directory(
    tmp_path: Path, environ: dict[str, str], fake_bubblewrap: Callable[[str], Path]
) -> None:
    fake_bubblewrap("exit 0")
    home = tmp_path / "home"
    sandbox, session = set_up("notebook", tmp_path / "kernel.json", home, environ, has_checkpoints=False)
    assert session is None
    assert sandbox.prefix
    assert not (home / SESSIONS).exists()


def test_without_namespaces_the_usual_directories_exist(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    sandbox, session = set_up("notebook", tmp_path / "kernel.json", tmp_path / "home", environ)
    assert sandbox.prefix == ()
    assert session is not None
    assert (tmp_path / "person" / ".cache").is_dir()


def test_a_home_that_cannot_be_created_means_no_session(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").write_text("")
    assert set_up("notebook", tmp_path / "kernel.json", tmp_path / "file" / "home", environ)[1] is None


def test_the_profile_open_creates_nothing(tmp_path: Path) -> None:
    assert set_up("open", tmp_path / "kernel.json", tmp_path / "home", {}) == (Sandbox("open"), None)
    assert list(tmp_path.iterdir()) == []
