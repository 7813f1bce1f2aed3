"""The manifest of a checkpoint: its description, which the front reads. It has no pickles.

A checkpoint is a set of *groups*: variables that share objects, and are saved together. The data of a group is in pack
files; its *record* lists the chunks of packs that it consists of. A group that did not change keeps its record from one
checkpoint to the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

import msgpack  # type: ignore[import-untyped]
import zstandard
from pydantic import Field

from capsule_worker.protocol.errors import ProtocolError
from capsule_worker.protocol.model import Model

#: Incremented when manifests, records or pickles change in a way that older versions cannot read.
FORMAT = 1
#: The largest manifest that is read, in bytes.
MAX_MANIFEST = 64 * 1024 * 1024
#: The subdirectories of a session's directory.
PACKS, INCOMING = "packs", "incoming"
PACK_SUFFIX, MANIFEST_SUFFIX = ".pack", ".manifest"
#: A file on which every process that may write to the directory holds a shared lock.
LOCK = "writers.lock"
#: The suffix of a manifest whose checkpoint is written, but may not be on disk yet.
DRAFT_SUFFIX = ".draft"
#: The suffix of a file with the names of the packs that a writer needs. The writer holds a lock on it until it ends.
CLAIM_SUFFIX = ".claim"
#: The suffix of files that a front found damaged.
DAMAGED_SUFFIX = ".damaged"
#: Python's error for an object that has no pickle.
_CANNOT_PICKLE = re.compile(r"TypeError: cannot pickle '([\w.]+)' object")


class SavedCell(Model):
    """The cell that last assigned a variable.

    Args:
        number: as in ``In [n]``.
        line: its first line.
    """

    number: int
    line: str = ""


class Variable(Model):
    """A name of the namespace."""

    name: str
    type: str
    #: In bytes.
    size: int = 0
    cell: SavedCell | None = None
    #: Why the value could not be saved; None if it was.
    reason: str | None = None
    #: Identifies the content: equal in two checkpoints if nothing changed in between.
    digest: bytes = b""


def plain_reason(reason: str) -> str:
    """Return why a variable could not be saved, in words that a user knows.

    Args:
        reason: `Variable.reason`.
    """
    found = _CANNOT_PICKLE.fullmatch(reason)
    if found is None:
        return reason
    kind = found[1].rpartition(".")[2]
    return f"{kind}s cannot be saved" if kind.isalpha() and kind.islower() else f"{kind} objects cannot be saved"


#: The name of a pack, without its suffix and without a directory.
PackName = Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{0,80}$")]


class Location(Model):
    """The place of bytes: ``size`` of them at ``offset`` of a pack, with their xxh3-128 hash."""

    pack: PackName
    offset: int
    size: int
    digest: bytes


class Group(Model):
    """Variables that share objects, and classes of the notebook that belong to them."""

    names: list[str] = Field(default_factory=list)
    #: Ids of the classes that this group defines.
    defines: list[str] = Field(default_factory=list)
    #: Ids of the classes that it needs and other groups define.
    needs: list[str] = Field(default_factory=list)
    #: Global names that functions and methods in this group use.
    reads: list[str] = Field(default_factory=list)
    #: Whether the values are immutable and small, and share nothing; they are one group for brevity only.
    plain: bool = False
    #: Roots of the modules whose classes and functions the objects in this group belong to.
    modules: list[str] = Field(default_factory=list)
    record: Location
    #: All packs with chunks of this group.
    packs: list[PackName] = Field(default_factory=list)
    #: Size of the content in bytes.
    size: int = 0


class Manifest(Model):
    """The description of a checkpoint."""

    format: Literal[1] = 1
    id: str
    session: str
    parent: str | None = None
    #: The number of the checkpoint in its session.
    number: int
    #: Seconds since the epoch at which the state was taken.
    time: float
    #: The number of the cell after which it was taken.
    execution_count: int
    execution_id: str = ""
    code: str = ""
    variables: list[Variable] = Field(default_factory=list)
    groups: list[Group] = Field(default_factory=list)
    #: The interpreter's own state: path, environment, random numbers, history.
    shell: Group
    bytes_written: int = 0
    #: Seconds from the moment the state was taken until all of it was on disk.
    duration: float = 0.0
    #: The version of Python that wrote it. Another version may not be able to read its functions.
    python: str = ""
    #: The name that the user gave it.
    name: str | None = None
    description: str = ""
    tags: list[str] = Field(default_factory=list)

    @property
    def packs(self) -> set[str]:
        """The packs that this checkpoint needs."""
        return {pack for group in [*self.groups, self.shell] for pack in [group.record.pack, *group.packs]}

    @property
    def size(self) -> int:
        """Size of the content in bytes."""
        return sum(group.size for group in self.groups) + self.shell.size


def pack(model: Variable | Group) -> bytes:
    """Return a part of a manifest as bytes. Most parts are the same in the next manifest.

    Args:
        model: the part.
    """
    return bytes(msgpack.packb(model.model_dump(), unicode_errors="backslashreplace"))


def dump(manifest: Manifest) -> bytes:
    """Return a manifest as compressed bytes.

    Args:
        manifest: the manifest.
    """
    return assemble(manifest, map(pack, manifest.variables), map(pack, manifest.groups), pack(manifest.shell))


def assemble(head: Manifest, variables: Iterable[bytes], groups: Iterable[bytes], shell: bytes) -> bytes:
    """Return a manifest as compressed bytes, from parts that are packed already.

    Args:
        head: a manifest with everything else.
        variables: the packed variables.
        groups: the packed groups.
        shell: the packed group of the interpreter's own state.
    """
    packer = msgpack.Packer(unicode_errors="backslashreplace")
    lists = {"variables": list(variables), "groups": list(groups)}
    fields = head.model_dump(exclude={*lists, "shell"})
    parts = [packer.pack_map_header(len(fields) + len(lists) + 1)]
    for name, value in fields.items():
        parts += [packer.pack(name), packer.pack(value)]
    for name, packed in lists.items():
        parts += [packer.pack(name), packer.pack_array_header(len(packed)), *packed]
    parts += [packer.pack("shell"), shell]
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(b"".join(parts))


def load(data: bytes) -> Manifest:
    """Return a manifest, with its variables sorted by name.

    Args:
        data: its compressed bytes.

    Raises:
        ProtocolError: the data is not a manifest of this format, or it is too large.
    """
    try:
        if zstandard.frame_content_size(data) > MAX_MANIFEST:
            raise ProtocolError(f"a manifest is larger than {MAX_MANIFEST:,} bytes")
        raw = zstandard.ZstdDecompressor().decompress(data, max_output_size=MAX_MANIFEST)
        manifest = Manifest.model_validate(msgpack.unpackb(raw, strict_map_key=True))
    except ProtocolError:
        raise
    except (zstandard.ZstdError, msgpack.UnpackException, ValueError, TypeError, RecursionError) as error:
        raise ProtocolError(f"not a manifest: {type(error).__name__}: {error}") from error
    manifest.variables.sort(key=lambda variable: variable.name)
    return manifest
