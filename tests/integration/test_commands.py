"""Every command starts as a program of its own, and ends with the status that it should have.

What commands do is tested in the process of the tests; here nothing was saved yet.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import typer.main

from capsule_kernel.cli.main import app
from tests.support.cli import CAPSULE, command_environment
from tests.support.waiting import DEADLINE

#: The status of each command, with arguments.
COMMANDS = {
    "answer abcd yes": 1,
    "cancel abcd": 1,
    "cells notebook": 1,
    "checkpoint name": 1,
    "checkpoints": 0,
    "config": 0,
    "diff first second": 1,
    "doctor --help": 0,
    "export notebook -o out.ipynb": 1,
    "forget name": 1,
    "gc": 0,
    "install --profile unknown": 2,
    "log": 1,
    "outputs notebook": 1,
    "pending": 0,
    "restore name": 1,
    "resume": 1,
    "run none.ipynb": 1,
    "runs": 0,
    "sessions": 0,
    "status": 0,
    "trace notebook": 1,
    "undo": 1,
    "uninstall unknown --yes": 1,
    "verify": 1,
}


def test_no_command_is_missing() -> None:
    assert [line.split()[0] for line in COMMANDS] == sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("line", "status"), COMMANDS.items())
def test_a_command_starts_and_ends(line: str, status: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [CAPSULE, *line.split()],
        cwd=tmp_path,
        env=command_environment(tmp_path / "home"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr.lower()
    assert bool(done.stderr) == bool(status)
    assert not (tmp_path / "home").exists()
