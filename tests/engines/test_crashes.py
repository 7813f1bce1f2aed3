"""A process is killed at every statement, and at every system call that writes: all of a request is kept, or none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import PROGRAMS
from tests.support.programs import killed_transactions as boundaries

pytestmark = pytest.mark.process

BOUNDARIES = PROGRAMS / "killed_transactions.py"


def run(*command: str) -> list[list]:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=100)
    return [json.loads(line) for line in done.stdout.splitlines()]


def program(command: str, directory: Path, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, str(BOUNDARIES), command, str(directory), *arguments)


def examine(directory: Path, trials: list[list]) -> None:
    """Check what each trial left."""
    verdicts = {(case, trial): verdict for case, trial, verdict in run(*program("verify", directory))}
    assert len(verdicts) == len(trials)
    for case, trial, acknowledged in trials:
        verdict = verdicts[case, trial]
        assert verdict in {"before", "after"}, (case, trial)
        if acknowledged:
            assert verdict == "after", (case, trial)
    # There were boundaries at all, on both sides of the one that counts.
    for case in {case for case, _, _ in trials} - {"open"}:
        assert {verdict for (one, _), verdict in verdicts.items() if one == case} == {"before", "after"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("boundaries")
    run(*program("prepare", directory))
    return directory


@pytest.fixture
def directory(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "boundaries"))


def test_a_process_that_is_killed_between_statements_leaves_all_or_nothing(directory: Path) -> None:
    trials = run(*program("statements", directory))
    assert len(trials) > 150
    examine(directory, trials)


def can_trace() -> bool:
    """Whether system calls can be made to kill here."""
    strace = shutil.which("strace")
    if strace is None:
        return False
    probe = subprocess.run(
        [strace, "-f", "-qq", "-e", "trace=fsync", "-e", "inject=fsync:signal=SIGKILL:when=1", "true"],
        check=False,
        capture_output=True,
    )
    return probe.returncode == 0


@pytest.mark.skipif(not can_trace(), reason="strace is not here, or may not trace")
def test_a_process_that_is_killed_in_a_system_call_leaves_all_or_nothing(directory: Path) -> None:
    trials = []
    for name in boundaries.SYSTEM:
        tracing = ("strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={name}")
        injecting = ("-e", f"inject={name}:signal=SIGKILL:when={boundaries.CALLS}")
        trials += run(*tracing, *injecting, *program("calls", directory, name))
    assert len(trials) > 150
    examine(directory, trials)
