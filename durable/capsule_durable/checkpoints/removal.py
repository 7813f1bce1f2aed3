"""Removes checkpoints: those that a user names, and those that the settings do not keep."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.models import Entry
from capsule_durable.checkpoints.retention import Retention
from capsule_durable.errors import CapsuleError


class CheckpointInUse(CapsuleError):
    """A checkpoint cannot be deleted, since a running kernel needs it.

    Args:
        entries: the checkpoints that are in use.
    """

    def __init__(self, entries: list[Entry]) -> None:
        names = ", ".join(entry.name or f"#{entry.number} ({entry.id})" for entry in entries)
        super().__init__(
            f"nothing was deleted: a running kernel needs {names}; its latest checkpoint and its current one stay"
        )
        self.entries = entries


@dataclass(frozen=True, slots=True)
class Collection:
    """What the collection of a whole home removed.

    Args:
        freed: bytes of files that were removed.
        checkpoints: how many checkpoints were removed.
        sessions: ids of the sessions that were removed.
        in_use: how many sessions were left alone, since their kernels run.
    """

    freed: int = 0
    checkpoints: int = 0
    sessions: list[str] = field(default_factory=list)
    in_use: int = 0


def delete(catalogue: Catalogue, references: Iterable[str], session: str | None = None) -> tuple[list[Entry], int]:
    """Delete checkpoints, all of them or none.

    Args:
        catalogue: all checkpoints.
        references: names, numbers or ids.
        session: id of the session in which they were written; None for any.

    Returns:
        The checkpoints, and the bytes that became free.

    Raises:
        UnknownCheckpoint: a reference stands for no checkpoint, or for several.
        CheckpointInUse: a running kernel needs one.
        StoreError: the catalogue cannot be used.
    """
    found = [catalogue.find(reference, session) for reference in references]
    entries = list({entry.id: entry for entry in found}.values())
    needed = catalogue.garbage.in_use()
    in_use = [entry for entry in entries if entry.id in needed]
    if in_use:
        raise CheckpointInUse(in_use)
    catalogue.garbage.delete(entry.id for entry in entries)
    freed, keep_all = 0, Retention(count=sys.maxsize, age=None, size=None)
    for row in catalogue.sessions.all():
        numbers = [entry.number for entry in entries if entry.session == row.id]
        if not numbers:
            continue
        with catalogue.sessions.access(row) as access:
            # A kernel that runs collects its own session.
            if access.allows("collect"):
                freed += catalogue.garbage.collect(
                    row.id, keep_all, 0.0, has_writers=True, newest_complete=max(numbers)
                ).freed
    return entries, freed


def collect_all(catalogue: Catalogue, policy: Retention, now: float) -> Collection:
    """Remove the checkpoints and sessions that a policy does not keep, where no kernel runs.

    Args:
        catalogue: all checkpoints.
        policy: what is kept.
        now: seconds since the epoch.

    Raises:
        StoreError: the catalogue cannot be used.
    """
    freed = dropped = in_use = 0
    for row in catalogue.sessions.all():
        with catalogue.sessions.access(row) as access:
            if not access.allows("collect"):
                in_use += 1
                continue
            found = catalogue.garbage.collect(row.id, policy, now, has_writers=access.has_writers)
        freed, dropped = freed + found.freed, dropped + len(found.dropped)
    return Collection(freed, dropped, catalogue.garbage.remove_sessions(policy, now), in_use)
