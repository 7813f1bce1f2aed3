"""The command line of bubblewrap."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from capsule_durable.sandbox import bubblewrap
from capsule_durable.sandbox.policy import SandboxPaths


def test_the_program_is_found_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_bubblewrap: Callable[[str], Path]
) -> None:
    fake_bubblewrap("exit 0")
    assert bubblewrap.find() == str(tmp_path / "bin" / "bwrap")
    (tmp_path / "bin" / "bwrap").chmod(0o644)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert bubblewrap.find() is None
    monkeypatch.setenv("PATH", "/nowhere")
    assert bubblewrap.find() is None


def test_home_and_secrets_are_hidden_before_the_session_is_shown(paths: SandboxPaths, tmp_path: Path) -> None:
    words = " ".join(bubblewrap.command("bwrap", paths, restricted=False))
    hidden = f"--tmpfs {paths.home} --tmpfs {tmp_path / 'runtime'} --ro-bind {os.devnull} {tmp_path / 'kernel.json'}"
    assert hidden in words
    assert words.endswith(f"--bind {paths.session} {paths.session}")
    assert words.index(f"--ro-bind-try {tmp_path / 'kernels'}") < words.index(hidden)
    assert "does not exist" not in words


def test_the_profile_restricted_has_no_network_and_writes_only_in_its_directory(
    paths: SandboxPaths, tmp_path: Path
) -> None:
    words = bubblewrap.command("bwrap", paths._replace(directory=tmp_path), restricted=True)
    text = " ".join(words)
    assert "--unshare-net --ro-bind / /" in text
    assert f"--bind {tmp_path} {tmp_path}" in text
    assert "--setenv IPYTHONDIR /tmp/ipython" in text
    assert {"/dev", "/tmp", "/var/tmp", str(paths.home)} <= set(bubblewrap.scratch_directories(words))
    open_text = " ".join(bubblewrap.command("bwrap", paths, restricted=False))
    assert "--bind / /" in open_text
    assert "--unshare-net" not in open_text


def test_readable_and_writable_paths_cover_hidden_ones(paths: SandboxPaths, tmp_path: Path) -> None:
    more = paths._replace(hidden=[tmp_path / "runtime"], readable=[Path("/a")], writable=[Path("/b")])
    text = " ".join(bubblewrap.command("bwrap", more, restricted=False))
    places = [
        text.index(f"--tmpfs {tmp_path / 'runtime'}"),
        text.index("--ro-bind-try /a /a"),
        text.index("--bind-try /b /b"),
    ]
    assert places == sorted(places)
