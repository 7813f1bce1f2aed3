"""Large contents, each in a file that is named by what is in it: what is the same is there once."""

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

#: Seconds for which a file stays that nothing refers to: something may be about to.
GRACE = 3600.0
#: Bytes of the largest content.
_MOST = 1 << 30


class BlobLost(CapsuleError):
    """A content is not there any more, or is not what it was. The message says which."""


class BlobStore:
    """Contents in a directory, which is made with the first of them.

    Args:
        directory: their place.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, content: bytes) -> str:
        """Keep a content, which is on the disk then, and return its name.

        Raises:
            StoreError: that cannot be done.
        """
        name = _name(content)
        path = self._path(name)
        try:
            # It is new again, for those who remove what is old.
            os.utime(path)
        except FileNotFoundError:
            _write(path, content)
        except OSError as error:
            raise explain(error, path) from error
        return name

    def get(self, name: str) -> bytes:
        """Return a content by its name.

        Raises:
            ArtifactLost: it is gone or damaged.
        """
        try:
            content = zstandard.ZstdDecompressor().decompress(self._path(name).read_bytes(), max_output_size=_MOST)
        except FileNotFoundError:
            raise BlobLost(f"artifact {name} is gone") from None
        except (OSError, zstandard.ZstdError) as error:
            raise BlobLost(f"artifact {name} cannot be read: {error}") from error
        if _name(content) != name:
            raise BlobLost(f"artifact {name} is damaged")
        return content

    def keep_only(self, names: Collection[str]) -> None:
        """Remove all others, but for what came or was asked for of late."""
        before = time.time() - GRACE
        for path in self._directory.glob("??/*"):
            if path.name not in names:
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < before:
                        path.unlink()

    def _path(self, name: str) -> Path:
        return self._directory / name[:2] / name


def _name(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=20).hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Bring a content to the disk; it is there whole or not at all."""
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
