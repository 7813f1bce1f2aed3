"""Two processes never have the name of the same kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

PROGRAM = (
    "import sys, pathlib; from capsule_durable.storage.kernel_lock import lock_name\n"
    "print(lock_name(pathlib.Path(sys.argv[1]), sys.argv[2]), flush=True); sys.stdin.read()"
)


class Locker:
    """A process that locks a name until it is told to end."""

    def __init__(self, home: Path, name: str) -> None:
        command = [sys.executable, "-c", PROGRAM, str(home), name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.name = self.process.stdout.readline().strip()

    def end(self, *, kill: bool = False) -> None:
        if kill:
            self.process.kill()
        self.process.communicate(timeout=60)


def test_a_name_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first, second, other = Locker(home, "kernel-7"), Locker(home, "kernel-7"), Locker(home, "kernel-8")
    try:
        assert (first.name, second.name, other.name) == ("kernel-7", "kernel-7-2", "kernel-8")
        assert (home / "kernels.lock").stat().st_mode & 0o777 == 0o600
        first.end(kill=True)
        again = Locker(home, "kernel-7")
        again.end()
        assert again.name == "kernel-7"
    finally:
        for each in (first, second, other):
            each.end(kill=True)


def test_without_a_home_nothing_is_locked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    locker = Locker(tmp_path / "file", "kernel-7")
    locker.end()
    assert locker.name == "kernel-7"
