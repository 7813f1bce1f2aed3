"""What a checkpoint is made of, before it is written and when it is on disk."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]

from capsule_worker.checkpoints.pickling.class_registry import ClassRegistry
from capsule_worker.checkpoints.pickling.prepickled import Prepickled
from capsule_worker.checkpoints.storage.pack_format import Chunk, digest_of, unpack_chunks
from capsule_worker.protocol import manifest as mf

#: Stands for the interpreter's own state where names of variables stand; it is not one.
SHELL = "<shell>"


@dataclass(frozen=True)
class SavedGroup:
    """A group as it is on disk, and its record."""

    group: mf.Group
    record: bytes
    #: By name.
    variables: dict[str, mf.Variable]
    #: Identifies the content.
    digest: bytes

    @cached_property
    def packed(self) -> tuple[bytes, list[bytes]]:
        """The group and its variables, as they stand in manifests."""
        return mf.pack(self.group), [mf.pack(variable) for variable in self.variables.values()]


@dataclass(frozen=True)
class CheckpointJob:
    """Everything that a checkpoint is made of.

    Args:
        directory: the session's.
        head: the manifest as far as it is known before anything is written.
        namespace: the notebook's globals.
        dirty: names in groups that may have changed, or are new.
        kept: groups that did not change.
        before: what the dirty groups were, by their names; what turns out to be the same is kept.
        shell: the interpreter's own state.
        cells: the cells that assigned the variables.
        definitions: the classes.
        plain: names whose values share nothing with others and are told apart by themselves, though saved together.
        same: those of them that are what they were, as they were described then.
        unsaveable: variables that are known to be unsaveable.
        required: classes that kept groups refer to and that are to be saved again, by id.
        ready: what stands for values that are pickled already, by their addresses.
        reachable: names that the cells since the checkpoint before could reach.
    """

    directory: Path
    head: mf.Manifest
    namespace: dict[str, Any]
    dirty: list[list[str]]
    kept: list[SavedGroup]
    before: dict[frozenset[str], SavedGroup]
    shell: dict[str, Any]
    cells: dict[str, mf.SavedCell]
    definitions: ClassRegistry
    plain: frozenset[str] = frozenset()
    same: dict[str, mf.Variable] = field(default_factory=dict)
    unsaveable: dict[str, mf.Variable] = field(default_factory=dict)
    required: dict[str, type] = field(default_factory=dict)
    ready: dict[int, Prepickled] = field(default_factory=dict)
    reachable: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Outcome:
    """A checkpoint that is on disk.

    Args:
        kept: its groups.
        shell: the interpreter's own state.
        unsaved: variables whose values are not in it.
        size: bytes of its content.
        written: bytes written for it.
        duration: seconds that it took.
    """

    kept: list[SavedGroup]
    shell: SavedGroup
    unsaved: dict[str, mf.Variable]
    size: int
    written: int
    duration: float


def content_digest(chunks: Iterable[Chunk]) -> bytes:
    """Return what identifies the content that ``chunks`` make up."""
    return digest_of(b"".join([chunk.digest for chunk in chunks]))


def chunks_of(record: bytes) -> Iterable[Chunk]:
    """Yield all chunks of a group.

    Args:
        record: the group's record, as msgpack.
    """
    fields = msgpack.unpackb(record)
    packs = fields["packs"]
    yield from unpack_chunks(fields["stream"], packs)
    for _, _, references in fields["buffers"]:
        yield from unpack_chunks(references, packs)


def dump_outcome(outcome: Outcome, job: CheckpointJob) -> bytes:
    """Return an outcome as bytes, for the process that the job comes from.

    Args:
        outcome: the outcome.
        job: the job; what it keeps unchanged is not repeated in the bytes.
    """
    places = {id(kept): index for index, kept in enumerate(job.kept)}
    return bytes(
        msgpack.packb(
            {
                "kept": [places[id(one)] if id(one) in places else _fields(one) for one in outcome.kept],
                "shell": _fields(outcome.shell),
                "unsaved": [variable.model_dump() for variable in outcome.unsaved.values()],
                "size": outcome.size,
                "written": outcome.written,
                "duration": outcome.duration,
            },
            unicode_errors="backslashreplace",
        )
    )


def load_outcome(data: bytes, job: CheckpointJob) -> Outcome:
    """Return the outcome that bytes hold.

    Args:
        data: what `dump_outcome` returned.
        job: the job of the outcome.
    """
    fields = msgpack.unpackb(data)
    return Outcome(
        kept=[job.kept[one] if isinstance(one, int) else _kept(one) for one in fields["kept"]],
        shell=_kept(fields["shell"]),
        unsaved={one["name"]: _variable(one) for one in fields["unsaved"]},
        size=fields["size"],
        written=fields["written"],
        duration=fields["duration"],
    )


def _fields(kept: SavedGroup) -> dict[str, Any]:
    return {
        "group": kept.group.model_dump(),
        "record": kept.record,
        "variables": [variable.model_dump() for variable in kept.variables.values()],
        "digest": kept.digest,
    }


def _kept(fields: dict[str, Any]) -> SavedGroup:
    return SavedGroup(
        mf.Group.model_validate(fields["group"]),
        fields["record"],
        {one["name"]: _variable(one) for one in fields["variables"]},
        fields["digest"],
    )


def _variable(fields: dict[str, Any]) -> mf.Variable:
    return mf.Variable.model_validate(fields)


def describe(error: BaseException) -> str:
    """Return why something could not be saved, in one line."""
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, pickle.PicklingError) and text else f"{type(error).__name__}: {text}"


def type_name(value: Any) -> str:
    """Return the name of a value's class, as a person would write it."""
    kind = type(value)
    module = getattr(kind, "__module__", "")
    name = getattr(kind, "__qualname__", str(kind))
    return name if module in ("builtins", "__main__", None) else f"{str(module).split('.', maxsplit=1)[0]}.{name}"
