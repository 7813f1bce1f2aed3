"""Copies what is used of packs that are mostly unused, so that these packs can be removed."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

import msgpack  # type: ignore[import-untyped]

from capsule_worker.checkpoints.storage.pack_format import DamagedError, pack_chunks, pack_path, unpack_chunks
from capsule_worker.checkpoints.storage.pack_reader import PackReader
from capsule_worker.checkpoints.storage.pack_writer import PackWriter
from capsule_worker.checkpoints.writing.job import SavedGroup, chunks_of

#: Part of a pack that must still be used; of a pack below it the used part is copied.
_MIN_USED = 0.5
#: Bytes of old packs that one checkpoint copies, at most.
_MAX_BYTES = 64 << 20


def compact(groups: list[SavedGroup], directory: Path, pack: PackWriter) -> list[SavedGroup]:
    """Return groups that need no pack that is mostly unused.

    Args:
        groups: all that is used.
        directory: the session's.
        pack: gets the copies.

    Raises:
        StorageError: the disk is full, or cannot be written.
    """
    wasted = _wasted(groups, directory, pack.name)
    if not wasted:
        return groups
    reader = PackReader(directory)
    try:
        return [_moved(one, wasted, reader, pack) for one in groups]
    finally:
        reader.close()


def _wasted(groups: Iterable[SavedGroup], directory: Path, current: str) -> set[str]:
    """Return the packs that are mostly unused, as many of them as one checkpoint copies."""
    used: dict[str, int] = {}
    for one in groups:
        used[one.group.record.pack] = used.get(one.group.record.pack, 0) + one.group.record.size
        for chunk in chunks_of(one.record):
            used[chunk.pack] = used.get(chunk.pack, 0) + chunk.stored
    wasted = set()
    budget = _MAX_BYTES
    for pack, size in sorted(used.items()):
        if pack == current or not pack:
            continue
        try:
            total = pack_path(directory, pack).stat().st_size
        except OSError:
            continue
        if size < total * _MIN_USED and size <= budget:
            budget -= size
            wasted.add(pack)
    return wasted


def _moved(one: SavedGroup, wasted: Collection[str], reader: PackReader, pack: PackWriter) -> SavedGroup:
    """Return a group none of whose parts lie in ``wasted`` packs."""
    if {one.group.record.pack, *one.group.packs}.isdisjoint(wasted):
        return one
    record = msgpack.unpackb(one.record)
    packs: list[str] = []

    def moved(references: bytes) -> bytes:
        chunks = []
        for chunk in unpack_chunks(references, record["packs"]):
            if chunk.pack in wasted and chunk.stored:
                # What cannot be read stays where it is: a restore reports which variables that costs.
                with contextlib.suppress(DamagedError):
                    chunk = pack.copy(chunk, reader.stored(chunk))  # noqa: PLW2901  # it moved
            chunks.append(chunk)
        return pack_chunks(chunks, packs)

    fresh = {
        "stream": moved(record["stream"]),
        "buffers": [[size, readonly, moved(references)] for size, readonly, references in record["buffers"]],
        "packs": packs,
    }
    data = msgpack.packb(fresh)
    group = one.group.model_copy(
        update={
            "record": pack.blob(data),
            "packs": sorted({chunk.pack for chunk in chunks_of(data) if chunk.stored}),
        }
    )
    return replace(one, group=group, record=data)
