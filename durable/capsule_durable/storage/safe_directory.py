"""Files of checkpoints.

A session's directories are written by its worker, and so cells may put anything there: links to other people's files,
pipes that nobody writes to. Hence ``Folder``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self


class SafeDirectory:
    """A directory of a session's, and the files in it: regular ones, by name. Use it as a context manager.

    It is held by a descriptor, so that it stays the same one, and no link is followed, neither to a directory nor to a
    file. One that is not there, or is none, is empty.

    Args:
        path: the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def names(self, *suffixes: str) -> list[str]:
        """Return the names of the files that end in one of some suffixes, in order."""
        if self._fd is None:
            return []
        with os.scandir(self._fd) as entries:
            return sorted(
                one.name for one in entries if one.name.endswith(suffixes) and one.is_file(follow_symlinks=False)
            )

    def sizes(self, *suffixes: str) -> dict[str, int]:
        """Return these files' sizes in bytes, without those that another process has removed."""
        found = {}
        for name in self.names(*suffixes):
            with contextlib.suppress(FileNotFoundError):
                found[name] = os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_size
        return found

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file for reading. Raises OSError; FileNotFoundError also for what is no file."""
        # Without a wait: a pipe would have us wait for somebody to write to it.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, dir_fd=self._there(name)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileNotFoundError(errno.ENOENT, "it is no file", name)
            yield file

    def has(self, name: str) -> bool:
        """Return whether there is something of that name."""
        try:
            os.stat(name, dir_fd=self._there(name), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._there(name))

    def rename(self, name: str, new: str) -> None:
        """Rename a file. Raises OSError."""
        os.rename(name, new, src_dir_fd=self._there(name), dst_dir_fd=self._fd)

    def sync(self, name: str | None = None) -> None:
        """Bring a file's content, or the names, to the disk. Raises OSError."""
        if name is None:
            os.fsync(self._there(self.path.name))
            return
        with self.open(name) as file:
            os.fsync(file.fileno())

    def link(self, other: SafeDirectory, name: str) -> None:
        """Give a file that never changes a second name, so that either can be removed; where that cannot be, copy it.

        One that is here stays.

        Args:
            other: where it is.
            name: its name, here and there.

        Raises:
            OSError: there is no such file, or none can be made here.
        """
        with other.open(name) as file:
            try:
                os.link(name, name, src_dir_fd=other._fd, dst_dir_fd=self._there(name), follow_symlinks=False)
            except FileExistsError:
                return
            except OSError:  # a file system without hard links, or too many of them
                self._copy(file, name)

    def _copy(self, file: BinaryIO, name: str) -> None:
        draft = f"{name}.copy"
        self.remove(draft)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(draft, flags, 0o600, dir_fd=self._fd), "wb") as copy:
                shutil.copyfileobj(file, copy, 1 << 20)
                copy.flush()
                os.fsync(copy.fileno())
            self.rename(draft, name)
        except OSError:
            self.remove(draft)
            raise

    def _there(self, name: str) -> int:
        if self._fd is None or "/" in name:
            raise FileNotFoundError(errno.ENOENT, "there is no such file", str(self.path / name))
        return self._fd


def is_from(name: str, newest: int) -> bool:
    """Return whether a file, by its name, belongs to a checkpoint that is no newer than number ``newest``."""
    digits = name.partition("-")[0]
    return digits.isascii() and digits.isdigit() and int(digits) <= newest


def sync(path: Path) -> None:
    """Bring a file's content, or a directory's entries, to the disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
