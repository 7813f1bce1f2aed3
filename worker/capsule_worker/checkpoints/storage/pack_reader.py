"""Reads packs, and maps what can be mapped."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from pathlib import Path

import zstandard

from capsule_worker.checkpoints.storage.chunking import BLOCK
from capsule_worker.checkpoints.storage.pack_format import (
    ALIGNMENT,
    RAW,
    ZEROS,
    ZSTD,
    Chunk,
    DamagedError,
    digest_of,
    pack_path,
)
from capsule_worker.protocol.manifest import Location

#: A buffer scattered over more runs than this is read, not mapped: the system bounds the number of mappings.
MAX_RUNS = 4096
_MAP_FIXED = 0x10


class PackReader:
    """Reads chunks from a session's packs, and checks each.

    Args:
        directory: the session's.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, int] = {}
        self._decompressor = zstandard.ZstdDecompressor()

    def blob(self, location: Location) -> bytes:
        """Return the bytes at a location.

        Args:
            location: the pack, the offset and the size in bytes, and the hash.

        Raises:
            DamagedError: the bytes are not what was written.
        """
        data = self._read(location.pack, location.offset, location.size)
        if digest_of(data) != location.digest:
            raise DamagedError(f"pack {location.pack} is damaged at byte {location.offset:,}")
        return data

    def stored(self, chunk: Chunk) -> bytes:
        """Return a chunk as it is stored, without checking its hash.

        Args:
            chunk: the chunk.

        Raises:
            DamagedError: the pack cannot be read, or is cut off.
        """
        return self._read(chunk.pack, chunk.offset, chunk.stored)

    def chunk(self, chunk: Chunk) -> bytes:
        """Return a chunk's content, decompressed.

        Args:
            chunk: the chunk.

        Raises:
            DamagedError: the content is not what was written.
        """
        if chunk.kind == ZEROS:
            return bytes(chunk.size)
        data = self._read(chunk.pack, chunk.offset, chunk.stored)
        if chunk.kind == ZSTD:
            try:
                data = self._decompressor.decompress(data, max_output_size=chunk.size)
            except zstandard.ZstdError as error:
                raise DamagedError(f"pack {chunk.pack} is damaged at byte {chunk.offset:,}: {error}") from error
        if digest_of(data) != chunk.digest:
            raise DamagedError(f"pack {chunk.pack} is damaged at byte {chunk.offset:,}")
        return data

    def buffer(self, chunks: list[Chunk], size: int) -> memoryview:
        """Return a writable buffer, of which as much as possible is mapped copy-on-write.

        Args:
            chunks: the chunks that make up the buffer, in order.
            size: bytes of all of them.

        Raises:
            DamagedError: a chunk is not what was written, or the chunks are not of this size in all.
        """
        if not size:
            return memoryview(bytearray())
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        view = memoryview(memory)
        runs = _runs(chunks)
        mapping = len(runs) <= MAX_RUNS
        at = 0
        for run in runs:
            length = sum(chunk.size for chunk in run)
            mappable = run[0].kind == RAW and not run[0].offset % ALIGNMENT and not at % ALIGNMENT
            if mapping and mappable and self._map(view, at, run, length):
                for chunk in run:
                    if digest_of(view[at : at + chunk.size]) != chunk.digest:
                        raise DamagedError(f"pack {chunk.pack} is damaged at byte {chunk.offset:,}")
                    at += chunk.size
                continue
            for chunk in run:
                if chunk.kind != ZEROS:
                    view[at : at + chunk.size] = self.chunk(chunk)
                at += chunk.size
        if at != size:
            raise DamagedError(f"a buffer of {size:,} bytes has chunks of {at:,}")
        return view

    def close(self) -> None:
        """Close the files; what is mapped stays."""
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()

    def _map(self, view: memoryview, at: int, run: list[Chunk], length: int) -> bool:
        """Put a run of blocks into its place without reading it."""
        fd = self._open(run[0].pack)
        if run[0].offset + length > os.fstat(fd).st_size:
            raise DamagedError(f"pack {run[0].pack} ends before byte {run[0].offset + length:,}")
        address = ctypes.addressof(ctypes.c_char.from_buffer(view, at))
        mapped = _libc_mmap(
            address,
            length,
            mmap.PROT_READ | mmap.PROT_WRITE,
            mmap.MAP_PRIVATE | _MAP_FIXED,
            fd,
            run[0].offset,
        )
        return bool(mapped == address)

    def _read(self, pack: str, offset: int, size: int) -> bytes:
        file = self._open(pack)
        try:
            data = os.pread(file, size, offset)
        except OSError as error:
            raise DamagedError(f"pack {pack} cannot be read at byte {offset:,}: {error.strerror}") from error
        if len(data) != size:
            raise DamagedError(f"pack {pack} ends before byte {offset + size:,}")
        return data

    def _open(self, pack: str) -> int:
        fd = self._files.get(pack)
        if fd is None:
            try:
                fd = os.open(pack_path(self._directory, pack), os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise DamagedError(f"pack {pack} cannot be read: {error.strerror}") from error
            self._files[pack] = fd
        return fd


def _runs(chunks: list[Chunk]) -> list[list[Chunk]]:
    """Return ``chunks`` in runs that follow each other in one pack."""
    runs: list[list[Chunk]] = []
    for chunk in chunks:
        if runs:
            last = runs[-1][-1]
            follows = chunk.pack == last.pack and chunk.offset == last.offset + last.stored
            if follows and chunk.kind == last.kind == RAW and last.size == BLOCK:
                runs[-1].append(chunk)
                continue
        runs.append([chunk])
    return runs


with contextlib.suppress(AttributeError, OSError):
    _libc_mmap = ctypes.CDLL(None, use_errno=True).mmap
    _libc_mmap.restype = ctypes.c_void_p
    _libc_mmap.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    ]
