"""Writes packs and files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import zstandard

from capsule_worker.checkpoints.storage.chunking import BLOCK, blocks
from capsule_worker.checkpoints.storage.pack_format import (
    ALIGNMENT,
    RAW,
    ZEROS,
    ZSTD,
    Chunk,
    StorageError,
    digest_of,
    pack_path,
)
from capsule_worker.protocol.fsync import fsync_path
from capsule_worker.protocol.manifest import Location

#: Compression pays if it leaves no more than this part.
_WORTH_IT = 0.8
_LEVEL = 1
#: Bytes of a chunk that is too small to be compressed.
_TINY = 512
#: Bytes that are collected before they are written.
_COLLECT = 4 << 20
_TO_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_ZERO_BLOCK = digest_of(bytes(BLOCK))


class PackWriter:
    """Writes one pack. A small one touches no file before ``finish``.

    Args:
        directory: the session's.
        name: the pack's.
        known: chunks that need not be written, by hash; gets the new ones.
        progress: called with the number of bytes so far whenever some were written.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        known: dict[bytes, Chunk],
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.name = name
        self._progress = progress
        self._process = os.getpid()
        self._path = pack_path(directory, name)
        self._known = known
        self._file: int | None = None
        self._waiting = bytearray()
        #: Bytes so far: in the file, and waiting.
        self.written = 0
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)

    def chunk(self, data: bytes | bytearray | memoryview, *, compress: bool) -> Chunk:
        """Store a chunk, unless its content is stored already; return where it is.

        Args:
            data: less than 4 GiB.
            compress: whether to compress the content where that saves space.

        Raises:
            StorageError: the pack cannot be written.
        """
        digest = digest_of(data)
        found = self._known.get(digest)
        if found is None:
            found = self._known[digest] = self._write(digest, data, compress=compress)
        return found

    def blob(self, data: bytes) -> Location:
        """Store bytes in one piece; return where they are.

        Args:
            data: the bytes.

        Raises:
            StorageError: the pack cannot be written.
        """
        return Location(pack=self.name, offset=self._append(data), size=len(data), digest=digest_of(data))

    def copy(self, chunk: Chunk, stored: bytes) -> Chunk:
        """Store a chunk of another pack without decompressing it; return where it is now.

        Args:
            chunk: the chunk, in the other pack.
            stored: its bytes as they are stored there.

        Raises:
            StorageError: the pack cannot be written.
        """
        found = self._known.get(chunk.digest)
        if found is None or found.pack == chunk.pack:
            if chunk.size == BLOCK and chunk.kind == RAW:
                self._align()
            found = self._known[chunk.digest] = chunk._replace(pack=self.name, offset=self._append(stored))
        return found

    def buffer(self, data: memoryview) -> list[Chunk]:
        """Store a buffer block by block; return where the blocks are.

        Args:
            data: the buffer, of single bytes.

        Raises:
            StorageError: the pack cannot be written.
        """
        return [self.chunk(data[start:end], compress=False) for start, end in blocks(len(data))]

    def stage(self) -> None:
        """Write everything to the file, without waiting for the disk: if this process ends now, nothing is lost.

        Raises:
            StorageError: the pack cannot be written.
        """
        if self._waiting:
            self._flush()

    def finish(self) -> None:
        """Write everything to the disk, and wait for that.

        Raises:
            StorageError: the pack cannot be written.
        """
        if not self.written:
            return
        self.stage()
        assert self._file is not None
        try:
            os.fsync(self._file)
            self._close()
            fsync_path(self._path.parent)
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror}") from error

    def discard(self) -> None:
        """Remove what was written."""
        with contextlib.suppress(OSError):
            self._close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _close(self) -> None:
        # Once only: by the second time the number may be that of another file.
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _write(self, digest: bytes, data: bytes | bytearray | memoryview, *, compress: bool) -> Chunk:
        size = len(data)
        if size == BLOCK and digest == _ZERO_BLOCK:
            return Chunk(self.name, 0, 0, size, ZEROS, digest)
        kind = RAW
        if compress and size > _TINY:
            smaller = self._compressor.compress(data)
            if len(smaller) < size * _WORTH_IT:
                data, kind = smaller, ZSTD
        elif size == BLOCK:
            self._align()
        return Chunk(self.name, self._append(data), len(data), size, kind, digest)

    def _align(self) -> None:
        self._append(bytes(-self.written % ALIGNMENT))

    def _append(self, data: bytes | bytearray | memoryview) -> int:
        offset = self.written
        self._waiting += data
        self.written += len(data)
        if len(self._waiting) > _COLLECT:
            self._flush()
        return offset

    def _flush(self) -> None:
        only_in(self._process)
        try:
            if self._file is None:
                self._file = os.open(self._path, _TO_WRITE, 0o600)
            write_all(self._file, self._waiting)
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror}") from error
        self._waiting.clear()
        if self._progress is not None:
            self._progress(self.written)


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file.

    Args:
        path: the file, which is made or replaced.
        data: its content.

    Raises:
        OSError: the file cannot be written.
    """
    file = os.open(path, _TO_WRITE, 0o600)
    try:
        write_all(file, data)
    finally:
        os.close(file)


def write_all(file: int, data: bytes | bytearray) -> None:
    """Write all of some data, in as many calls as the system needs.

    Args:
        file: the descriptor.
        data: the bytes.

    Raises:
        OSError: the file cannot be written.
    """
    with memoryview(data) as view:
        done = 0
        while done < len(view):
            done += os.write(file, view[done:])


def only_in(process: int) -> None:
    """End this process if it is a copy of ``process``: two that write the same would spoil it.

    The user's objects may make one when they are asked for their state, and let it continue as if it were the writer.

    Args:
        process: number of the process.
    """
    if os.getpid() != process:
        os._exit(1)
