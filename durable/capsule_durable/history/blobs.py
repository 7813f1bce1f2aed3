"""Large outputs, each in a file that is named by the hash of its content, so that equal contents are stored once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

import zstandard

from capsule_durable.config.paths import ensure
from capsule_durable.errors import CapsuleError
from capsule_durable.storage.errors import explain
from capsule_worker.protocol.fsync import fsync_path

#: The directory, in the user's directory.
DIRECTORY = "blobs"
#: Seconds for which an unreferenced file is kept: a row that refers to it may be about to be written.
GRACE_SECONDS = 3600.0
#: Size of the largest content, in bytes.
_MAX_BYTES = 1 << 30


class BlobLost(CapsuleError):
    """A content is missing or damaged. The message names it."""


class BlobStore:
    """Contents in a directory, which is created with the first of them.

    Args:
        directory: the directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, content: bytes) -> str:
        """Store a content, sync it to the disk, and return its digest.

        Args:
            content: the content.

        Raises:
            StoreError: the content cannot be written.
        """
        digest = _digest(content)
        path = self._path(digest)
        try:
            # Its age counts from now on: see ``keep_only``.
            os.utime(path)
        except FileNotFoundError:
            _write(path, content)
        except OSError as error:
            raise explain(error, path) from error
        return digest

    def get(self, digest: str) -> bytes:
        """Return a content by its digest.

        Args:
            digest: as ``put`` returned it.

        Raises:
            BlobLost: the content is missing or damaged.
        """
        try:
            content = zstandard.ZstdDecompressor().decompress(
                self._path(digest).read_bytes(), max_output_size=_MAX_BYTES
            )
        except FileNotFoundError:
            raise BlobLost(f"blob {digest} is missing") from None
        except (OSError, zstandard.ZstdError) as error:
            raise BlobLost(f"blob {digest} cannot be read: {error}") from error
        if _digest(content) != digest:
            raise BlobLost(f"blob {digest} is damaged")
        return content

    def keep_only(self, digests: Collection[str]) -> None:
        """Remove all other contents, except those that were stored or requested in the last hour.

        Args:
            digests: the contents to keep.
        """
        before = time.time() - GRACE_SECONDS
        for path in self._directory.glob("??/*"):
            if path.name not in digests:
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < before:
                        path.unlink()

    def _path(self, digest: str) -> Path:
        return self._directory / digest[:2] / digest


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=20).hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Write a content and sync it; the file is complete or does not exist."""
    try:
        ensure(path.parent)
        # Readable for its owner only, whatever the umask.
        fd, unfinished = tempfile.mkstemp(dir=path.parent, prefix="new-")
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(zstandard.compress(content))
                file.flush()
                os.fsync(fd)
            Path(unfinished).rename(path)
        except BaseException:
            Path(unfinished).unlink()
            raise
        fsync_path(path.parent)
    except OSError as error:
        raise explain(error, path) from error
