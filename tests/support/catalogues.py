"""Checkpoints in a catalogue, written as a worker writes them, but without any data."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.storage.process_identity import this_process
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol.manifest import Group, Location, Manifest, Variable

#: A process that has ended: the largest pid that Linux gives is 2**22.
ENDED = replace(this_process(), pid=2**22 + 1)
#: A process that may run in another container of this machine, and one of another machine.
ELSEWHERE = replace(this_process(), place=f"{this_process().place}0")
OTHER_MACHINE = replace(this_process(), place="00000000-1")


class Clock:
    """Seconds that pass when told to."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def pack_name(number: int) -> str:
    return f"{number:08d}-{number:08x}"


@contextlib.contextmanager
def writer(directory: Path) -> Iterator[None]:
    """Hold the lock that a writer holds."""
    with (directory / mf.LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield


def group(names: str, *packs: int) -> Group:
    record = Location(pack=pack_name(packs[0]), offset=0, size=1, digest=b"1")
    return Group(names=list(names), record=record, packs=[pack_name(number) for number in packs], size=10)


def checkpoint(session: str, number: int, *older: int, **fields: Any) -> Manifest:
    """Return a checkpoint with a pack of its own, that needs those of ``older`` ones, too."""
    return Manifest(
        **{
            "id": f"id{number:04d}{session}",
            "session": session,
            "number": number,
            "time": 1_000_000.0 + number,
            "execution_count": number,
            "variables": [Variable(name="a", type="int"), Variable(name="s", type="socket", reason="open")],
            "groups": [group("a", number), *(group("b", one) for one in older)],
            "shell": group("", number),
            **fields,
        }
    )


def write_pack(directory: Path, number: int, size: int = 100) -> Path:
    path = directory / mf.PACKS / f"{pack_name(number)}{mf.PACK_SUFFIX}"
    path.write_bytes(bytes(size))
    return path


def publish(directory: Path, manifest: Manifest) -> Path:
    """Do what a worker does: packs first, then the manifest, which appears whole."""
    write_pack(directory, manifest.number)
    path = directory / mf.INCOMING / f"{manifest.number:08d}-{manifest.id}{mf.MANIFEST_SUFFIX}"
    draft = path.with_suffix(".draft")
    draft.write_bytes(mf.dump(manifest))
    return draft.rename(path)


def save(catalogue: Catalogue, session: str, number: int, *older: int, **fields: Any) -> str:
    """Write a checkpoint and have it adopted."""
    manifest = checkpoint(session, number, *older, **fields)
    publish(catalogue.sessions.directory(session), manifest)
    catalogue.incoming.import_session(session)
    return manifest.id


def packs_of(catalogue: Catalogue, session: str) -> list[int]:
    return sorted(int(path.name[:8]) for path in (catalogue.sessions.directory(session) / mf.PACKS).iterdir())


def incoming_of(catalogue: Catalogue, session: str) -> list[str]:
    return sorted(path.name for path in (catalogue.sessions.directory(session) / mf.INCOMING).iterdir())
