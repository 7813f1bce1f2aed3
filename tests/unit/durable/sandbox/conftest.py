"""Paths of a sandbox, and a program that stands for bubblewrap."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from capsule_durable.sandbox.policy import SandboxPaths


@pytest.fixture
def paths(tmp_path: Path) -> SandboxPaths:
    for name in ("home/sessions/s1", "runtime"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "kernel.json").write_text("{}")
    home = tmp_path / "home"
    secrets = [tmp_path / "runtime", tmp_path / "kernel.json", tmp_path / "does not exist"]
    return SandboxPaths(home, home / "sessions" / "s1", secrets, [tmp_path / "kernels"])


@pytest.fixture
def fake_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a function that puts a shell script called bwrap first on the path, and returns the log of its calls."""

    def install(script: str) -> Path:
        program, calls = tmp_path / "bin" / "bwrap", tmp_path / "calls"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho call >> {calls}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        return calls

    return install
