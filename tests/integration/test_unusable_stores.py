"""A store that is damaged, newer, read-only, on a full disk, or where nothing can be locked: cells run all the same.

Each problem is reported, nothing is overwritten, and results are recorded again as soon as that is possible.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from capsule_durable.engines.embedded.schema import FILE
from tests.support import PROGRAMS
from tests.support.cli import capsule
from tests.support.kernels import Kernel, kernel

NO_LOCKS = (sys.executable, str(PROGRAMS / "without.py"), "locks")

pytestmark = pytest.mark.usefixtures("clients_of_the_dead")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def content(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def works(one: Kernel) -> str:
    """Check that cells run, and return what the first one shows on stderr."""
    done = one.ok("x = [1]\nprint(x)")
    assert done.text() == "[1]\n"
    assert one.ok("x.append(2)\nprint(x)").text() == "[1, 2]\n"
    assert one.run("1 / 0").reply["ename"] == "ZeroDivisionError"
    said = done.text("stderr")
    assert "Results are not being recorded: " in said
    return said


def executions(home: Path) -> int:
    """Return how many outcomes the store has."""
    with sqlite3.connect(home / FILE) as connection:
        ((count,),) = connection.execute("SELECT count(*) FROM promises WHERE id LIKE '%:1'").fetchall()
    connection.close()
    return int(count)


def test_a_damaged_store(home: Path) -> None:
    home.mkdir()
    (home / FILE).write_bytes(b"no database " * 1000)
    with kernel(home) as one:
        assert f"{home / FILE} is damaged" in works(one)
        assert one.ok("pass").text("stderr") == "", "it is said once"
    assert (home / FILE).read_bytes() == b"no database " * 1000
    done = capsule(home, "pending")
    assert done.status == 1
    assert "is damaged" in done.err
    assert "Traceback" not in done.err


def test_a_store_of_a_newer_version(home: Path) -> None:
    with kernel(home) as one:
        one.ok("1")
    with sqlite3.connect(home / FILE) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = (home / FILE).read_bytes()
    with kernel(home) as one:
        assert "made by a newer version of Capsule" in works(one)
    assert (home / FILE).read_bytes() == before
    done = capsule(home, "pending")
    assert done.status == 1
    assert "newer version" in done.err
    assert capsule(home, "verify").status == 0


def test_a_home_that_is_read_only(small_disk: Path) -> None:
    home = small_disk / "home"
    with kernel(home) as one:
        one.ok("kept = 1")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    before = content(home)
    with kernel(home) as one:
        said = works(one)
        assert "cannot be written" in said
        assert "no checkpoint" in said.lower() or any("heckpoint" in line for line in one.warnings())
    assert content(home) == before
    # The existing data can be read.
    done = capsule(home, "sessions")
    assert done.status == 0, done.err


def test_a_full_disk_and_one_that_fills_up(small_disk: Path) -> None:
    home, filler = small_disk / "home", small_disk / "filler"
    with kernel(home) as one:
        one.ok("kept = 1")
        before = executions(home)
        fill(filler)
        for number in range(3):
            assert one.text(f"print({number})") == f"{number}\n"
        assert any("not being recorded" in line for line in one.warnings())
        filler.unlink()
        assert one.text("print(kept)") == "1\n"
    assert executions(home) >= before
    fill(filler)
    with kernel(home) as one:
        assert one.text("print(1)") == "1\n"
    filler.unlink()
    with kernel(home) as one:
        assert one.ok("1").text("stderr") == ""
    assert capsule(home, "verify").status == 0


def fill(path: Path) -> None:
    """Leave no room on a disk."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def test_a_file_system_without_locks(home: Path) -> None:
    with kernel(home, by_way_of=NO_LOCKS) as one:
        assert "is on a file system where processes cannot share it" in works(one)
        # IPython's history is in a file like that as well, and SQLite would wait for its locks, again and again.
        assert "x.append(2)" in one.text("%history")
        assert one.text("print(get_ipython().history_manager.hist_file)") == ":memory:\n"
    # One that has a store, made where there were locks.
    with kernel(home) as one:
        one.ok("kept = 1")
    before = executions(home)
    with kernel(home, by_way_of=NO_LOCKS) as one:
        assert "is on a file system where processes cannot share it" in works(one)
    assert executions(home) == before
    assert capsule(home, "verify").status == 0
