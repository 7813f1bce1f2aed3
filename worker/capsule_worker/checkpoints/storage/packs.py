"""Chunks on disk: one append-only file a checkpoint, and references into it.

A chunk is known by its xxh3-128 hash. What is known already is not written again; what is read is checked.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import xxhash
import zstandard

from capsule_worker.checkpoints.storage.chunking import BLOCK, blocks
from capsule_worker.protocol.manifest import PACK_SUFFIX, PACKS, Location

#: Pack (an index into the record's list), offset, bytes in the pack, bytes of content, how it is stored, hash.
_REFERENCE = struct.Struct("<HQIIB16s")
_RAW, _ZSTD, _ZEROS = 0, 1, 2
#: Blocks lie at multiples of this, so that they can be mapped whatever the page size.
ALIGNMENT = 65536
#: Compression pays if it leaves no more than this part.
_WORTH_IT = 0.8
_LEVEL = 1
#: Bytes of a chunk that is too small for it.
_TINY = 512
#: Bytes that are collected before they are written.
_COLLECT = 4 << 20
#: A buffer scattered over more runs than this is read, not mapped: the system bounds the number of mappings.
MAX_RUNS = 4096


class DamagedError(Exception):
    """Data on disk is not what was written. The message says where."""


class StorageError(Exception):
    """The disk is full, or cannot be written. The message says what the system said."""


class Chunk(NamedTuple):
    """Where a chunk lies, and what it is."""

    pack: str
    offset: int
    stored: int
    size: int
    kind: int
    digest: bytes


def digest_of(data: bytes | bytearray | memoryview) -> bytes:
    """Return the hash by which ``data`` is known."""
    return xxhash.xxh3_128_digest(data)


def pack_chunks(chunks: Iterable[Chunk], packs: list[str]) -> bytes:
    """Return references to ``chunks`` as bytes; ``packs`` gets the names of packs that are not in it yet."""
    index = {name: number for number, name in enumerate(packs)}
    parts = []
    for chunk in chunks:
        number = index.get(chunk.pack)
        if number is None:
            number = index[chunk.pack] = len(packs)
            packs.append(chunk.pack)
        parts.append(_REFERENCE.pack(number, *chunk[1:]))
    return b"".join(parts)


def unpack_chunks(data: bytes, packs: list[str]) -> Iterator[Chunk]:
    """Yield the chunks that ``data`` refers to.

    Raises:
        DamagedError: it refers to no pack of ``packs``, or is cut off.
    """
    try:
        for number, *rest in _REFERENCE.iter_unpack(data):
            yield Chunk(packs[number], *rest)
    except (struct.error, IndexError) as error:
        raise DamagedError(f"a record's references make no sense: {error}") from error


class PackWriter:
    """Writes one pack. A small one touches no file before ``finish``.

    Args:
        directory: the session's.
        name: the pack's.
        known: chunks that need not be written, by hash; gets the new ones.
        progress: called with the number of bytes so far whenever some were written.

    Methods that write raise StorageError.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        known: dict[bytes, Chunk],
        progress: Callable[[int], None] = lambda _written: None,
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
        """Keep ``data`` and return where it is."""
        digest = digest_of(data)
        found = self._known.get(digest)
        if found is None:
            found = self._known[digest] = self._write(digest, data, compress=compress)
        return found

    def blob(self, data: bytes) -> Location:
        """Keep ``data`` in one piece."""
        return Location(pack=self.name, offset=self._append(data), size=len(data), digest=digest_of(data))

    def copy(self, chunk: Chunk, stored: bytes) -> Chunk:
        """Keep a chunk of another pack, as it is stored there."""
        found = self._known.get(chunk.digest)
        if found is None or found.pack == chunk.pack:
            if chunk.size == BLOCK and chunk.kind == _RAW:
                self._align()
            found = self._known[chunk.digest] = chunk._replace(pack=self.name, offset=self._append(stored))
        return found

    def buffer(self, data: memoryview) -> list[Chunk]:
        """Keep a buffer, block by block."""
        return [self.chunk(data[start:end], compress=False) for start, end in blocks(len(data))]

    def stage(self) -> None:
        """Hand everything to the system: the end of this process does not end it any more. Raises StorageError."""
        if self._waiting:
            self._flush()

    def finish(self) -> None:
        """Bring everything to the disk. Raises StorageError."""
        if not self.written:
            return
        self.stage()
        assert self._file is not None
        try:
            os.fsync(self._file)
            self._close()
            sync_directory(self._path.parent)
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
            return Chunk(self.name, 0, 0, size, _ZEROS, digest)
        kind = _RAW
        if compress and size > _TINY:
            smaller = self._compressor.compress(data)
            if len(smaller) < size * _WORTH_IT:
                data, kind = smaller, _ZSTD
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
        self._progress(self.written)


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
        """Return the bytes at ``location``. Raises DamagedError."""
        data = self._read(location.pack, location.offset, location.size)
        if digest_of(data) != location.digest:
            raise DamagedError(f"pack {location.pack} is damaged at byte {location.offset:,}")
        return data

    def stored(self, chunk: Chunk) -> bytes:
        """Return a chunk as it is stored. Raises DamagedError."""
        return self._read(chunk.pack, chunk.offset, chunk.stored)

    def chunk(self, chunk: Chunk) -> bytes:
        """Return a chunk's content. Raises DamagedError."""
        if chunk.kind == _ZEROS:
            return bytes(chunk.size)
        data = self._read(chunk.pack, chunk.offset, chunk.stored)
        if chunk.kind == _ZSTD:
            try:
                data = self._decompressor.decompress(data, max_output_size=chunk.size)
            except zstandard.ZstdError as error:
                raise DamagedError(f"pack {chunk.pack} is damaged at byte {chunk.offset:,}: {error}") from error
        if digest_of(data) != chunk.digest:
            raise DamagedError(f"pack {chunk.pack} is damaged at byte {chunk.offset:,}")
        return data

    def buffer(self, chunks: list[Chunk], size: int) -> memoryview:
        """Return a buffer of ``size`` bytes, writable, of which as much as possible is mapped copy-on-write.

        Raises:
            DamagedError: a chunk is not what was written.
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
            mappable = run[0].kind == _RAW and not run[0].offset % ALIGNMENT and not at % ALIGNMENT
            if mapping and mappable and self._map(view, at, run, length):
                for chunk in run:
                    if digest_of(view[at : at + chunk.size]) != chunk.digest:
                        raise DamagedError(f"pack {chunk.pack} is damaged at byte {chunk.offset:,}")
                    at += chunk.size
                continue
            for chunk in run:
                if chunk.kind != _ZEROS:
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


def pack_path(directory: Path, name: str) -> Path:
    """Return the file of a pack."""
    return directory / PACKS / (name + PACK_SUFFIX)


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file. Raises OSError."""
    file = os.open(path, _TO_WRITE, 0o600)
    try:
        write_all(file, data)
    finally:
        os.close(file)


def sync_file(path: Path) -> None:
    """Bring a file's content to the disk. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def write_all(file: int, data: bytes | bytearray) -> None:
    """Write all of ``data``, however little the system takes at a time."""
    with memoryview(data) as view:
        done = 0
        while done < len(view):
            done += os.write(file, view[done:])


def only_in(process: int) -> None:
    """End this process if it is a copy of ``process``: two that write the same would spoil it.

    The user's objects may make one when they are asked for their state, and let it go on as if it were the writer.
    """
    if os.getpid() != process:
        os._exit(1)


def sync_directory(path: Path) -> None:
    """Bring a directory's entries to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _runs(chunks: list[Chunk]) -> list[list[Chunk]]:
    """Return ``chunks`` in runs that follow each other in one pack."""
    runs: list[list[Chunk]] = []
    for chunk in chunks:
        if runs:
            last = runs[-1][-1]
            follows = chunk.pack == last.pack and chunk.offset == last.offset + last.stored
            if follows and chunk.kind == last.kind == _RAW and last.size == BLOCK:
                runs[-1].append(chunk)
                continue
        runs.append([chunk])
    return runs


_TO_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_ZERO_BLOCK = digest_of(bytes(BLOCK))
_MAP_FIXED = 0x10

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
