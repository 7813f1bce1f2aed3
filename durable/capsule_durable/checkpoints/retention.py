"""Decide which checkpoints to drop. Pure: the caller passes the checkpoints and the time, and removes the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import Field

from capsule_worker.protocol.model import Model


class Retention(Model):
    """How much of a session is kept. Checkpoints with a name are always kept."""

    count: int = Field(30, ge=0, description="How many checkpoints without a name are kept")
    age: float | None = Field(14 * 86400.0, ge=0, description="For how many seconds they are kept; None: indefinitely")
    size: int | None = Field(20 * 10**9, ge=0, description="How many bytes of packs are kept; None: no limit")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint as retention sees it.

    Args:
        id: the checkpoint.
        number: its number in the session.
        time: when its state was taken, in seconds since the epoch.
        packs: the names of the packs that it needs.
        is_named: whether it has a name. If so it stays, and does not count.
        is_current: whether it is the newest, or the head of a session. If so it stays, and counts.
    """

    id: str
    number: int
    time: float
    packs: frozenset[str]
    is_named: bool = False
    is_current: bool = False

    @property
    def is_protected(self) -> bool:
        """Whether the checkpoint stays under every policy."""
        return self.is_named or self.is_current


def dropped(candidates: Iterable[Candidate], policy: Retention, now: float, sizes: Mapping[str, int]) -> list[str]:
    """Return the ids of the checkpoints to drop, oldest first.

    To meet ``policy.size`` the oldest are dropped first, until the packs of the rest fit. A checkpoint that would free
    nothing, because others need all its packs, stays.

    Args:
        candidates: all checkpoints of one session.
        policy: what is kept.
        now: seconds since the epoch.
        sizes: bytes of each pack; a pack without an entry counts as empty.
    """
    oldest_first = sorted(candidates, key=lambda one: (one.number, one.time, one.id))
    unnamed = [one for one in oldest_first if not one.is_named]
    surplus = {one.id for one in unnamed[: max(0, len(unnamed) - policy.count)] if not one.is_current}
    if policy.age is not None:
        surplus |= {one.id for one in oldest_first if not one.is_protected and now - one.time > policy.age}
    if policy.size is not None:
        rest = [one for one in oldest_first if one.id not in surplus]
        surplus |= _too_large(rest, policy.size, sizes)
    return [one.id for one in oldest_first if one.id in surplus]


def _too_large(oldest_first: list[Candidate], limit: int, sizes: Mapping[str, int]) -> set[str]:
    """Return the ids of the checkpoints to drop so that the packs of the rest have at most ``limit`` bytes."""
    users = Counter(pack for one in oldest_first for pack in one.packs)
    total = sum(sizes.get(pack, 0) for pack in users)
    gone: list[Candidate] = []
    for one in oldest_first:
        if total <= limit:
            break
        if one.is_protected:
            continue
        gone.append(one)
        users.subtract(one.packs)
        total -= sum(sizes.get(pack, 0) for pack in one.packs if not users[pack])
    return {one.id for one in gone if any(sizes.get(pack, 0) and not users[pack] for pack in one.packs)}
