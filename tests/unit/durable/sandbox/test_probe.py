"""What works on this machine is probed once per boot; what does not work is probed every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from capsule_durable.sandbox.policy import SandboxPaths
from capsule_durable.sandbox.setup import detect

pytestmark = pytest.mark.process


def test_a_failure_is_reported_until_it_is_fixed(
    paths: SandboxPaths, tmp_path: Path, fake_bubblewrap: Callable[[str], Path]
) -> None:
    calls = fake_bubblewrap("echo 'bwrap: No permissions to create a new namespace' >&2; exit 1")
    for _ in range(3):
        sandbox = detect("notebook", paths)
        assert sandbox.prefix == ()
        assert "No permissions to create a new namespace" in sandbox.summary()
        assert "user namespaces" in sandbox.layers[0].fix
    assert calls.read_text() == "call\n" * 3
    (tmp_path / "bin" / "bwrap").write_text("#!/bin/sh\nexit 0\n")
    assert detect("notebook", paths).prefix


def test_a_success_is_remembered_for_all_sessions(paths: SandboxPaths, fake_bubblewrap: Callable[[str], Path]) -> None:
    calls = fake_bubblewrap("exit 0")
    assert detect("notebook", paths).summary() == "notebook (namespaces: active)"
    other = paths.home / "sessions" / "s2"
    other.mkdir()
    assert detect("notebook", SandboxPaths(paths.home, other, paths.secrets, paths.fixed)).prefix
    assert calls.read_text() == "call\n"
    # Another profile needs other rights.
    assert detect("restricted", paths).prefix
    assert calls.read_text() == "call\n" * 2


def test_a_program_that_cannot_be_started_is_a_problem(
    paths: SandboxPaths, tmp_path: Path, fake_bubblewrap: Callable[[str], Path]
) -> None:
    fake_bubblewrap("exit 0")
    (tmp_path / "bin" / "bwrap").write_text("#!/does/not/exist\n")
    assert "No such file" in detect("notebook", paths).layers[0].why
