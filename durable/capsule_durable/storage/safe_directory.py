"""Read and remove files in a directory that cells can write to.

The worker writes a session's directories, so cells may put anything there: links to files of other users, or pipes that
no process writes to.
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
    """The regular files of one directory, by name. Use it as a context manager.

    A descriptor holds the directory, so that it stays the same one. Symbolic links are not followed, neither to a
    directory nor to a file. A path that does not exist, or is not a directory, counts as an empty directory.

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
        """Return the sorted names of the files that end in one of the suffixes.

        Args:
            suffixes: ends of names; "" for all files.
        """
        if self._fd is None:
            return []
        with os.scandir(self._fd) as entries:
            return sorted(
                one.name for one in entries if one.name.endswith(suffixes) and one.is_file(follow_symlinks=False)
            )

    def sizes(self, *suffixes: str) -> dict[str, int]:
        """Return the sizes in bytes of the files that end in one of the suffixes, by name.

        Args:
            suffixes: as for ``names``.
        """
        found = {}
        for name in self.names(*suffixes):
            with contextlib.suppress(FileNotFoundError):
                found[name] = os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_size
        return found

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file for reading.

        Args:
            name: the file.

        Raises:
            FileNotFoundError: it does not exist, or is not a regular file.
            OSError: it cannot be opened.
        """
        # O_NONBLOCK: opening a pipe would otherwise wait for a process that writes to it.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, dir_fd=self._fd_for(name)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileNotFoundError(errno.ENOENT, "not a regular file", name)
            yield file

    def has(self, name: str) -> bool:
        """Return whether the directory has an entry of this name.

        Args:
            name: the entry.
        """
        try:
            os.stat(name, dir_fd=self._fd_for(name), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def remove(self, name: str) -> None:
        """Remove a file, if it exists.

        Args:
            name: the file.
        """
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd_for(name))

    def rename(self, name: str, new: str) -> None:
        """Rename a file.

        Args:
            name: the file.
            new: its new name.

        Raises:
            OSError: the file cannot be renamed.
        """
        os.rename(name, new, src_dir_fd=self._fd_for(name), dst_dir_fd=self._fd)

    def sync(self, name: str | None = None) -> None:
        """Write a file's content to disk, or the entries of the directory.

        Args:
            name: the file; None for the directory.

        Raises:
            OSError: the disk reports an error, or the file does not exist.
        """
        if name is None:
            os.fsync(self._fd_for(self.path.name))
            return
        with self.open(name) as file:
            os.fsync(file.fileno())

    def link(self, other: SafeDirectory, name: str) -> None:
        """Link a file of another directory into this one, or copy it where the file system cannot link it.

        The file must never change. If this directory has a file of this name, nothing happens.

        Args:
            other: the directory that has the file.
            name: its name, in both directories.

        Raises:
            OSError: the file does not exist, or cannot be created here.
        """
        with other.open(name) as file:
            try:
                os.link(name, name, src_dir_fd=other._fd, dst_dir_fd=self._fd_for(name), follow_symlinks=False)
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

    def _fd_for(self, name: str) -> int:
        if self._fd is None or "/" in name:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(self.path / name))
        return self._fd
