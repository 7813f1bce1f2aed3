"""What a checkpoint consists of: the part that the front reads. Pure, and free of pickles.

A checkpoint is a set of *groups*: variables that share objects, saved together. A group's data lies in pack files; its
*record* says which chunks of which packs make it up. A group that did not change keeps its record from one checkpoint
to the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgpack  # type: ignore[import-untyped]
import zstandard
from pydantic import Field

from capsule_worker.protocol.errors import ProtocolError
from capsule_worker.protocol.model import Model

#: Raised when manifests, records or pickles change in a way that older versions cannot read.
FORMAT = 1
#: The largest manifest that is read, in bytes.
MAX_MANIFEST = 64 * 1024 * 1024
#: Where the parts of a checkpoint lie in a session's directory.
PACKS, INCOMING = "packs", "incoming"
PACK_SUFFIX, MANIFEST_SUFFIX = ".pack", ".manifest"
#: A file that everybody who may write there holds a shared lock on.
LOCK = "writers.lock"
#: A manifest whose checkpoint is written, but may not be on disk yet.
DRAFT_SUFFIX = ".draft"
#: The names of the packs that a writer needs, which holds a lock on the file as long as it lives.
CLAIM_SUFFIX = ".claim"
#: Added to the name of what a front has found to be of no use.
DAMAGED_SUFFIX = ".damaged"


class SavedCell(Model):
    """The cell that last assigned a variable: its number, as in ``In [n]``, and its first line."""

    number: int
    line: str = ""


class Variable(Model):
    """A name of the namespace. ``reason`` says why its value could not be saved (None: it was)."""

    name: str
    type: str
    size: int = 0
    cell: SavedCell | None = None
    reason: str | None = None
    #: Identifies the content: equal in two checkpoints if nothing changed in between.
    digest: bytes = b""


#: The name of a pack, without its suffix: no path.
PackName = Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{0,80}$")]


class Location(Model):
    """Where bytes lie: ``size`` of them at ``offset`` of a pack, with their xxh3-128 hash."""

    pack: PackName
    offset: int
    size: int
    digest: bytes


class Group(Model):
    """Variables that share objects, and classes of the notebook that belong to them."""

    names: list[str] = Field(default_factory=list)
    #: Ids of the classes that are defined here.
    defines: list[str] = Field(default_factory=list)
    #: Ids of the classes that are defined elsewhere and needed here.
    needs: list[str] = Field(default_factory=list)
    #: Global names that functions and methods in this group use.
    reads: list[str] = Field(default_factory=list)
    #: Whether the values are immutable and small, and share nothing: they are together for brevity only.
    plain: bool = False
    #: Roots of the modules whose classes and functions the objects in this group belong to.
    modules: list[str] = Field(default_factory=list)
    record: Location
    #: All packs that hold chunks of this group.
    packs: list[PackName] = Field(default_factory=list)
    #: Bytes of its content.
    size: int = 0


class Manifest(Model):
    """One checkpoint."""

    format: Literal[1] = 1
    id: str
    session: str
    parent: str | None = None
    #: Counts a session's checkpoints.
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
    #: The version of Python that wrote it; another one may not be able to read its functions.
    python: str = ""
    #: A person's name for it.
    name: str | None = None
    description: str = ""
    tags: list[str] = Field(default_factory=list)

    @property
    def packs(self) -> set[str]:
        """The packs that this checkpoint needs."""
        return {pack for group in [*self.groups, self.shell] for pack in [group.record.pack, *group.packs]}

    @property
    def size(self) -> int:
        """Bytes of its content."""
        return sum(group.size for group in self.groups) + self.shell.size


def pack(model: Variable | Group) -> bytes:
    """Return a part of a manifest as bytes; most parts are the same in the next one."""
    return bytes(msgpack.packb(model.model_dump(), unicode_errors="backslashreplace"))


def dump(manifest: Manifest) -> bytes:
    """Return ``manifest`` as compressed bytes."""
    return assemble(manifest, map(pack, manifest.variables), map(pack, manifest.groups), pack(manifest.shell))


def assemble(head: Manifest, variables: Iterable[bytes], groups: Iterable[bytes], shell: bytes) -> bytes:
    """Return a manifest as compressed bytes, from parts that are packed already.

    Args:
        head: everything else.
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
    """Return the manifest in ``data``; its variables are sorted by name.

    Raises:
        ProtocolError: it is no manifest of this format, or too large.
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
