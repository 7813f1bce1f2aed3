"""Lock a session's directory, so that other processes see that its front and its writers run.

The front holds ``session.lock`` exclusively for its life, and each writer of checkpoints holds ``writers.lock`` shared.
Another process acquires the first one, shared, before it touches the second one, so that it never takes the second one
from the workers of a front that runs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from capsule_durable.storage.process_identity import LockState
from capsule_worker.protocol.manifest import LOCK as WRITERS_LOCK

SESSION_LOCK = "session.lock"
#: Seconds between two attempts to acquire the writers' lock.
POLL_INTERVAL = 0.02
#: The errors of a file system without locks.
_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
# Cells can write in the directory: do not follow links, and do not wait for pipes.
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class SessionLocks:
    """The result of an attempt to acquire a session's locks.

    Args:
        session: the front's lock.
        writers: the lock of the writers.
    """

    session: LockState = "held"
    writers: LockState = "held"

    @property
    def both(self) -> LockState:
        """The state of both together: free only if both were acquired."""
        found = (self.session, self.writers)
        return "unsupported" if "unsupported" in found else "held" if "held" in found else "free"


def hold(directory: Path) -> int:
    """Lock a session for the life of this process, and return the descriptor that holds the lock.

    A program that this process starts does not inherit it.

    Args:
        directory: the session's directory.

    Raises:
        OSError: the file cannot be created, or another process holds the lock.
    """
    lock = os.open(directory / SESSION_LOCK, _FLAGS | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            os.close(lock)
            raise
        # Then other processes cannot acquire it either, and leave the session alone.
    return lock


@contextlib.contextmanager
def acquired(directory: Path, *, own: bool = False, timeout: float = 0.0) -> Iterator[SessionLocks]:
    """Acquire the free ones of a session's locks, and hold them in the block.

    Args:
        directory: the session's directory. If it does not exist, there is nothing to protect.
        own: whether this process holds the front's lock already.
        timeout: seconds to wait for the writers of a front that has ended.
    """
    with contextlib.ExitStack() as held:
        if not directory.exists():
            yield SessionLocks("free", "free")
            return
        session: LockState = "free" if own else _acquire(directory / SESSION_LOCK, fcntl.LOCK_SH, held, missing="held")
        writers: LockState = "held"
        if session == "free":
            deadline = time.monotonic() + timeout
            # A worker creates the file before it writes.
            path = directory / WRITERS_LOCK
            while (writers := _acquire(path, fcntl.LOCK_EX, held, missing="free")) == "held":
                if time.monotonic() >= deadline:
                    break
                time.sleep(POLL_INTERVAL)
        yield SessionLocks(session, writers)


def session_lock(directory: Path) -> LockState:
    """Return the state of the front's lock, without keeping it.

    Args:
        directory: the session's directory.
    """
    with contextlib.ExitStack() as held:
        return _acquire(directory / SESSION_LOCK, fcntl.LOCK_SH, held, missing="held") if directory.exists() else "free"


def _acquire(path: Path, operation: int, held: contextlib.ExitStack, missing: LockState) -> LockState:
    """Acquire a lock if it is free, until the end of ``held``."""
    try:
        lock = os.open(path, _FLAGS)
    except FileNotFoundError:
        return missing
    except OSError:
        return "held"
    try:
        fcntl.flock(lock, operation | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        return "unsupported" if error.errno in _UNSUPPORTED else "held"
    held.callback(os.close, lock)
    return "free"
