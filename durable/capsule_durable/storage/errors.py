"""What can be wrong with a file: one class for each thing that a person can do about it."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from typing import ClassVar, Self

from capsule_durable.errors import CapsuleError


class StoreError(CapsuleError):
    """A file cannot be used. The message says what happened, to which file, and what to do."""

    #: The message.
    text: ClassVar[str] = "cannot use {path}: {reason}"
    #: Whether the same may succeed later without a change of anything that is ours.
    retryable: ClassVar[bool] = False

    @classmethod
    def at(cls, path: Path, reason: str) -> Self:
        """Return the error for a file.

        Args:
            path: the file.
            reason: what the system says.
        """
        return cls(cls.text.format(path=path, reason=reason))


class StoreDamaged(StoreError):
    """The file is no SQLite database any more, or parts of it make no sense."""

    text = (
        "{path} is damaged ({reason}): repair it with SQLite's `.recover`, or move it away to begin anew, "
        "without what it keeps; nothing was changed in it"
    )


class StoreTooNew(StoreError):
    """A newer version made the file."""

    text = (
        "{path} was made by a newer version of Capsule ({reason}): get the newer Capsule, "
        "or set CAPSULE_HOME to another directory"
    )


class StoreUnreleased(StoreError):
    """A version of Capsule before the first release made the file."""

    text = "{path} was made by an unreleased version; move it away or set CAPSULE_HOME ({reason})"


class StoreForeign(StoreError):
    """The file is a database of another program."""

    text = "{path} is somebody else's database ({reason}): move it away, or set CAPSULE_HOME to another directory"


class StoreReadOnly(StoreError):
    """The file or its directory cannot be written."""

    text = "{path} cannot be written ({reason}): see to its permissions, or set CAPSULE_HOME"


class StoreFull(StoreError):
    """The disk is full."""

    text = "no room for {path} ({reason}): free some of the disk; nothing that is kept is lost"
    retryable = True


class StoreNotLockable(StoreError):
    """The file system cannot lock files or share memory between processes, so several could spoil the file."""

    text = (
        "{path} is on a file system where processes cannot share it ({reason}): "
        "set CAPSULE_HOME to a directory on a local disk"
    )


class StoreBusy(StoreError):
    """Another process has held the file for too long."""

    text = "another process holds {path} ({reason}): try again"
    retryable = True


class StoreFailed(StoreError):
    """The disk, or the system below it, reports an error."""

    text = "the disk failed at {path} ({reason}): see to the disk and the room on it"


#: SQLite's extended codes for locks and shared memory that the file system refuses.
_LOCKING = {
    sqlite3.SQLITE_IOERR_LOCK,
    sqlite3.SQLITE_IOERR_UNLOCK,
    sqlite3.SQLITE_IOERR_RDLOCK,
    sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK,
    sqlite3.SQLITE_IOERR_SHMOPEN,
    sqlite3.SQLITE_IOERR_SHMLOCK,
    sqlite3.SQLITE_IOERR_SHMMAP,
}
_BY_SQLITE_CODE: dict[int, type[StoreError]] = {
    sqlite3.SQLITE_CORRUPT: StoreDamaged,
    sqlite3.SQLITE_NOTADB: StoreDamaged,
    sqlite3.SQLITE_FULL: StoreFull,
    sqlite3.SQLITE_READONLY: StoreReadOnly,
    sqlite3.SQLITE_CANTOPEN: StoreReadOnly,
    sqlite3.SQLITE_PERM: StoreReadOnly,
    sqlite3.SQLITE_AUTH: StoreReadOnly,
    sqlite3.SQLITE_PROTOCOL: StoreNotLockable,
    sqlite3.SQLITE_NOLFS: StoreNotLockable,
    sqlite3.SQLITE_BUSY: StoreBusy,
    sqlite3.SQLITE_LOCKED: StoreBusy,
    sqlite3.SQLITE_IOERR: StoreFailed,
}
_BY_ERRNO: dict[int, type[StoreError]] = {
    errno.ENOSPC: StoreFull,
    errno.EDQUOT: StoreFull,
    errno.EACCES: StoreReadOnly,
    errno.EPERM: StoreReadOnly,
    errno.EROFS: StoreReadOnly,
    errno.ENOLCK: StoreNotLockable,
    errno.EOPNOTSUPP: StoreNotLockable,
    errno.ENOSYS: StoreNotLockable,
    errno.EAGAIN: StoreBusy,
}


def explain(error: sqlite3.Error | OSError, path: Path) -> StoreError:
    """Return our error for one of SQLite's or of the system's.

    Args:
        error: what was raised.
        path: the file.
    """
    if isinstance(error, OSError):
        where, reason = Path(error.filename or path), error.strerror or str(error)
        known = _BY_ERRNO.get(error.errno or 0)
        return known.at(where, reason) if known else StoreError.at(where, f"{reason}; see to its disk and permissions")
    code = getattr(error, "sqlite_errorcode", 0)
    kind = StoreNotLockable if code in _LOCKING else _BY_SQLITE_CODE.get(code & 0xFF, StoreError)
    return kind.at(path, str(error))
