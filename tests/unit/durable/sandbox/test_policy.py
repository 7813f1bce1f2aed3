"""Which layers of the isolation hold, and why others do not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from capsule_durable.sandbox.policy import Layer, Sandbox, SandboxPaths, enter, plan, sandbox_paths


@pytest.fixture
def where(tmp_path: Path) -> SandboxPaths:
    for name in ("home/checkpoints/s1", "runtime"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "kernel.json").write_text("{}")
    home = tmp_path / "home"
    secrets = [tmp_path / "runtime", tmp_path / "kernel.json", tmp_path / "not there"]
    return SandboxPaths(home, home / "checkpoints" / "s1", secrets, [tmp_path / "kernels"])


def bubblewrap(directory: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program of that name first on the path; return the file in which it counts its calls."""
    program, calls = directory / "bin" / "bwrap", directory / "calls"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho call >> {calls}\n{text}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return calls


def test_without_bubblewrap_that_is_said_with_its_mend(where: SandboxPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    sandbox = plan("notebook", where)
    (layer,) = sandbox.layers
    assert (layer.name, layer.enforced, sandbox.prefix) == ("namespaces", False, ())
    assert "install bubblewrap" in layer.fix
    assert sandbox.summary() == "notebook: namespaces are missing: there is no bubblewrap"


@pytest.mark.process
def test_what_does_not_work_here_is_said_until_it_does(
    where: SandboxPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = bubblewrap(tmp_path, "echo 'bwrap: No permissions to create a new namespace' >&2; exit 1", monkeypatch)
    for _ in range(3):
        sandbox = plan("notebook", where)
        assert sandbox.prefix == ()
        assert "No permissions to create a new namespace" in sandbox.summary()
        assert "user namespaces" in sandbox.layers[0].fix
    assert calls.read_text() == "call\n" * 3
    (tmp_path / "bin" / "bwrap").write_text("#!/bin/sh\nexit 0\n")
    assert plan("notebook", where).prefix


@pytest.mark.process
def test_what_works_is_tried_once_for_all_sessions(
    where: SandboxPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = bubblewrap(tmp_path, "exit 0", monkeypatch)
    assert plan("notebook", where).summary([Layer("system calls", enforced=True)]) == (
        "notebook: namespaces, system calls hold"
    )
    other = where.home / "checkpoints" / "s2"
    other.mkdir()
    assert plan("notebook", SandboxPaths(where.home, other, where.secrets, where.fixed)).prefix
    assert calls.read_text() == "call\n"


@pytest.mark.process
def test_what_is_hidden_is_hidden_before_the_session_is_put_back(
    where: SandboxPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bubblewrap(tmp_path, "exit 0", monkeypatch)
    words = " ".join(plan("notebook", where).prefix)
    hidden = f"--tmpfs {where.home} --tmpfs {tmp_path / 'runtime'} --ro-bind /dev/null {tmp_path / 'kernel.json'}"
    assert hidden in words
    assert words.endswith(f"--bind {where.session} {where.session}")
    assert words.index(f"--ro-bind-try {tmp_path / 'kernels'}") < words.index(hidden)
    assert "not there" not in words


@pytest.mark.process
def test_a_session_has_its_directory_before_its_cells_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bubblewrap(tmp_path, "exit 0", monkeypatch)
    environ = {"JUPYTER_DATA_DIR": str(tmp_path / "data"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    sandbox, session = enter("notebook", tmp_path / "kernel.json", tmp_path / "home", environ)
    assert session is not None
    assert str(tmp_path / "home" / "checkpoints" / session) in sandbox.prefix
    assert (tmp_path / "home" / "checkpoints" / session).stat().st_mode & 0o777 == 0o700
    # What starts the next kernel is there, and so cannot be made by a cell.
    assert {path.name for path in sandbox_paths(tmp_path / "k", tmp_path, None, environ).fixed} == {
        "kernels",
        "capsule",
    }
    assert (tmp_path / "data" / "kernels").is_dir()
    assert (tmp_path / "config" / "capsule").is_dir()


def test_without_a_sandbox_nothing_is_made(tmp_path: Path) -> None:
    assert enter("open", tmp_path / "kernel.json", tmp_path / "home", {}) == (Sandbox("open"), None)
    assert list(tmp_path.iterdir()) == []


def test_the_front_is_out_of_reach_where_cells_have_an_environment_of_their_own(tmp_path: Path) -> None:
    def fixed(profile: str, python: Path) -> set[Path]:
        where = sandbox_paths(tmp_path / "k", tmp_path, None, {}, None, None, profile, str(python))
        return {path for path in where.fixed if path.name not in ("kernels", "capsule")}

    own, other = Path(sys.prefix), tmp_path / "other"
    assert fixed("notebook", own / "bin" / "python") == set()
    assert {own, Path(sys.path[-1])} <= fixed("notebook", other / "bin" / "python")
    # An environment below the front's: packages are installed there, and the front's own stay as they are.
    below = fixed("notebook", own / "envs" / "one" / "bin" / "python")
    assert own not in below
    assert any(path.name == "site-packages" for path in below)
    assert {own, other} <= fixed("restricted", other / "bin" / "python")
