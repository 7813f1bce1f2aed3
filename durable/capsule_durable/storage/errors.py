"""Errors of files: one class for each thing that a user can do about it."""

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
    #: Whether the same call may succeed later although nothing of Capsule has changed.
    retryable: ClassVar[bool] = False

    @classmethod
    def at(cls, path: Path, reason: str) -> Self:
        """Return the error for a file.

        Args:
            path: the file.
            reason: the error text of the system.
        """
        return cls(cls.text.format(path=path, reason=reason))


class StoreDamaged(StoreError):
    """The file is not an SQLite database any more, or its content is damaged."""

    text = (
        "{path} is damaged ({reason}): repair it with SQLite's `.recover`, or move it away to start with an empty one; "
        "nothing was changed in it"
    )


class StoreTooNew(StoreError):
    """A newer version made the file."""

    text = (
        "{path} was made by a newer version of Capsule ({reason}): install that version, "
        "or set CAPSULE_HOME to another directory"
    )


class StoreUnreleased(StoreError):
    """A version of Capsule before the first release made the file."""

    text = "{path} was made by an unreleased version; move it away or set CAPSULE_HOME ({reason})"


class StoreForeign(StoreError):
    """The file is a database of another program."""

    text = "{path} belongs to another program ({reason}): move it away, or set CAPSULE_HOME to another directory"


class StoreReadOnly(StoreError):
    """The file or its directory cannot be written."""

    text = "{path} cannot be written ({reason}): correct its permissions, or set CAPSULE_HOME"


class StoreFull(StoreError):
    """The disk is full."""

    text = "no space left for {path} ({reason}): free disk space; nothing that is stored is lost"
    retryable = True


class StoreNotLockable(StoreError):
    """The file system cannot lock files or share memory, so several processes would damage the file."""

    text = (
        "{path} is on a file system where processes cannot share it ({reason}): "
        "set CAPSULE_HOME to a directory on a local disk"
    )


class StoreBusy(StoreError):
    """Another process has held the file for too long."""

    text = "another process holds {path} ({reason}): try again"
    retryable = True


class StoreFailed(StoreError):
    """The disk or the operating system reports an error."""

    text = "the disk failed at {path} ({reason}): check the disk and its free space"


#: SQLite's extended codes for locks and shared memory that the file system refused.
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
    """Return our error for an error of SQLite or of the system.

    Args:
        error: the error.
        path: the file that was used.
    """
    if isinstance(error, OSError):
        where, reason = Path(error.filename or path), error.strerror or str(error)
        known = _BY_ERRNO.get(error.errno or 0)
        return known.at(where, reason) if known else StoreError.at(where, f"{reason}; check its disk and permissions")
    code = getattr(error, "sqlite_errorcode", 0)
    kind = StoreNotLockable if code in _LOCKING else _BY_SQLITE_CODE.get(code & 0xFF, StoreError)
    return kind.at(path, str(error))
