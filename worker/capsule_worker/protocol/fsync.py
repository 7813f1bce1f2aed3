"""Synchronize files and directories to disk."""

from __future__ import annotations

import os
from pathlib import Path


def fsync_path(path: Path) -> None:
    """Write a file's content, or a directory's entries, to disk.

    Args:
        path: the file or directory. A symbolic link is followed.

    Raises:
        OSError: the path cannot be opened, or the disk reports an error.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
