"""The locks of a session: which process holds them, and for how long."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsule_durable.checkpoints.session_locks import SESSION_LOCK, SessionLocks, acquired, hold, session_lock
from capsule_worker.protocol.manifest import LOCK as WRITERS_LOCK
from tests.support import PROGRAMS

FREE = SessionLocks("free", "free")
WITHOUT_LOCKS = [sys.executable, str(PROGRAMS / "without.py"), "locks", sys.executable]


def found(directory: Path, **options: float) -> SessionLocks:
    with acquired(directory, **options) as locks:
        return locks


@contextlib.contextmanager
def front(directory: Path) -> Iterator[None]:
    """Be a front: another open file, and so another holder."""
    lock = hold(directory)
    yield
    os.close(lock)


@contextlib.contextmanager
def writer(directory: Path) -> Iterator[None]:
    """Be a writer."""
    lock = os.open(directory / WRITERS_LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    yield
    os.close(lock)


def test_the_lock_of_a_front_is_held_until_it_is_closed(tmp_path: Path) -> None:
    with front(tmp_path):
        assert found(tmp_path) == SessionLocks("held", "held")
        assert session_lock(tmp_path) == "held"
    assert found(tmp_path) == FREE
    assert session_lock(tmp_path) == "free"
    assert (tmp_path / SESSION_LOCK).stat().st_mode & 0o777 == 0o600


def test_a_second_front_is_refused(tmp_path: Path) -> None:
    with front(tmp_path), pytest.raises(BlockingIOError):
        hold(tmp_path)
    os.close(hold(tmp_path))


def test_a_writer_is_seen_after_its_front_has_ended(tmp_path: Path) -> None:
    os.close(hold(tmp_path))
    with writer(tmp_path):
        assert found(tmp_path) == SessionLocks("free", "held")
        assert found(tmp_path).both == "held"
        assert session_lock(tmp_path) == "free"
    assert found(tmp_path) == FREE
    assert found(tmp_path).both == "free"


def test_the_writers_of_a_running_front_are_not_disturbed(tmp_path: Path) -> None:
    """A worker that finds its lock held would write without one."""
    with front(tmp_path):
        (tmp_path / WRITERS_LOCK).touch()
        with acquired(tmp_path), writer(tmp_path):
            pass


def test_locks_are_held_in_the_block_and_only_there(tmp_path: Path) -> None:
    os.close(hold(tmp_path))
    (tmp_path / WRITERS_LOCK).touch()
    with acquired(tmp_path) as locks:
        assert locks == FREE
        # Several may look at a time, and one may act.
        assert found(tmp_path) == SessionLocks("free", "held")
        with pytest.raises(BlockingIOError):
            hold(tmp_path)
    assert found(tmp_path) == FREE


def test_the_front_itself_acquires_only_the_lock_of_the_writers(tmp_path: Path) -> None:
    with front(tmp_path):
        assert found(tmp_path, own=True) == FREE
        with writer(tmp_path):
            assert found(tmp_path, own=True) == SessionLocks("free", "held")


def test_acquiring_waits_for_the_last_writers(tmp_path: Path) -> None:
    os.close(hold(tmp_path))
    began = time.monotonic()
    with writer(tmp_path):
        assert found(tmp_path, timeout=0.1) == SessionLocks("free", "held")
        assert time.monotonic() - began >= 0.1
        lock = os.open(tmp_path / WRITERS_LOCK, os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_SH)
    timer = threading.Timer(0.1, os.close, [lock])
    timer.start()
    assert found(tmp_path, timeout=30.0) == FREE
    timer.join()


def test_missing_files_and_directories(tmp_path: Path) -> None:
    assert found(tmp_path / "nothing") == FREE
    assert session_lock(tmp_path / "nothing") == "free"
    # A cell may have removed the file: so nothing was acquired.
    assert found(tmp_path) == SessionLocks("held", "held")
    assert session_lock(tmp_path) == "held"
    # No worker was told to write.
    os.close(hold(tmp_path))
    assert found(tmp_path) == FREE


def test_a_link_in_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    for name in (SESSION_LOCK, WRITERS_LOCK):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
        assert found(tmp_path).both == "held"
        (tmp_path / name).unlink()
        os.close(hold(tmp_path))


@pytest.mark.process
def test_a_program_that_a_front_starts_does_not_inherit_its_lock(tmp_path: Path) -> None:
    with front(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    with child:
        assert found(tmp_path) == FREE
        assert child.stdin is not None
        child.stdin.close()


@pytest.mark.process
def test_the_locks_of_a_process_that_is_killed_are_free(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from capsule_durable.checkpoints.session_locks import hold\n"
        "hold(Path(sys.argv[1])); print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        assert found(tmp_path) == SessionLocks("held", "held")
        child.kill()
        child.wait()
        assert found(tmp_path) == FREE


@pytest.mark.process
def test_without_locks_a_front_begins_and_its_state_is_unknown_to_others(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from capsule_durable.checkpoints.session_locks import *\n"
        "directory = Path(sys.argv[1]); hold(directory)\n"
        "with acquired(directory) as locks: print(locks.session, locks.both, session_lock(directory))"
    )
    done = subprocess.run(
        [*WITHOUT_LOCKS, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "unsupported unsupported unsupported\n", done.stderr


def test_if_one_of_both_locks_is_unsupported_both_are() -> None:
    assert SessionLocks("free", "unsupported").both == "unsupported"
    assert SessionLocks("held", "unsupported").both == "unsupported"
    assert SessionLocks().both == "held"
