"""The format of packs: chunks in append-only files, one a checkpoint, and references to them.

A chunk is identified by its xxh3-128 hash. A chunk that is in a pack already is not written again; every chunk that is
read is checked.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from capsule_worker.protocol.manifest import PACK_SUFFIX, PACKS

#: Pack (an index into the record's list), offset, bytes in the pack, bytes of content, how it is stored, hash.
_REFERENCE = struct.Struct("<HQIIB16s")
#: How a chunk is stored: as it is, compressed, or not at all because all of its bytes are zero.
RAW, ZSTD, ZEROS = 0, 1, 2
#: Bytes: blocks lie at multiples of this, so that they can be mapped whatever the page size.
ALIGNMENT = 65536
#: Returns the hash that identifies data.
digest_of: Callable[[Any], bytes] = xxhash.xxh3_128_digest


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


def pack_chunks(chunks: Iterable[Chunk], packs: list[str]) -> bytes:
    """Return references to chunks as bytes.

    Args:
        chunks: the chunks.
        packs: names of packs that references are indexes into; names that are not in it yet are added.
    """
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
    """Yield the chunks that references stand for.

    Args:
        data: what `pack_chunks` returned.
        packs: names of the packs that references are indexes into.

    Raises:
        DamagedError: a reference has no pack in ``packs``, or is cut off.
    """
    try:
        for number, *rest in _REFERENCE.iter_unpack(data):
            yield Chunk(packs[number], *rest)
    except (struct.error, IndexError) as error:
        raise DamagedError(f"a record's references make no sense: {error}") from error


def pack_path(directory: Path, name: str) -> Path:
    """Return the file of a pack.

    Args:
        directory: the session's.
        name: name of the pack, without its suffix.
    """
    return directory / PACKS / (name + PACK_SUFFIX)
