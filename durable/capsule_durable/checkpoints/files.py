"""Files of checkpoints, and the processes that they belong to."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from capsule_worker.protocol.manifest import LOCK


def _number(path: Path) -> int | None:
    """Return the checkpoint's number with which the names of its files begin."""
    digits = path.name.partition("-")[0]
    return int(digits) if digits.isascii() and digits.isdigit() else None


def is_from(path: Path, newest: int) -> bool:
    """Return whether a file belongs to a checkpoint that is no newer than number ``newest``."""
    number = _number(path)
    return number is not None and number <= newest


def sizes(paths: Iterable[Path]) -> dict[Path, int]:
    """Return the files' sizes in bytes, without those that another process has removed."""
    found = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            found[path] = path.stat().st_size
    return found


def alive(pid: int) -> bool:
    """Return whether a process ``pid`` runs; one that took over the number of another counts, too."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    # One that has ended is there until its parent takes notice.
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return True


def booted() -> float:
    """Return when the machine started, in seconds since the epoch; 0 where that is not known."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/stat").read_text().splitlines():
            if line.startswith("btime "):
                return float(line.split()[1])
    return 0.0


def wait_for_writers(directory: Path, seconds: float) -> bool:
    """Wait until no worker of a session, and no copy of one, is left; return whether it is so.

    Each holds a shared lock on a file in the session's directory as long as it lives.

    Args:
        directory: the session's.
        seconds: how long to wait.
    """
    deadline = time.monotonic() + seconds
    try:
        fd = os.open(directory / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.02)
            else:
                return True
    finally:
        os.close(fd)


def sync(path: Path) -> None:
    """Bring a file's content, or a directory's entries, to the disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def link(source: Path, target: Path) -> None:
    """Give a file that never changes a second name, so that either can be removed; where that cannot be, copy it.

    A ``target`` that is there stays.

    Raises:
        OSError: there is no ``source``, or ``target`` cannot be made.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links, or too many of them
        draft = target.with_suffix(".copy")
        try:
            shutil.copyfile(source, draft)
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            draft.rename(target)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
