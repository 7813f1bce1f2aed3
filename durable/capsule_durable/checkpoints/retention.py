"""Which checkpoints go. Pure: the caller says what there is and what time it is, and removes what is returned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import Field

from capsule_worker.protocol.model import Model


class Retention(Model):
    """How much of a session is kept. What has a name is kept in any case."""

    count: int = Field(30, ge=0, description="How many checkpoints without a name are kept")
    age: float | None = Field(14 * 86400.0, ge=0, description="For how long, in seconds; None: for ever")
    size: int | None = Field(20 * 10**9, ge=0, description="How many bytes of packs are kept; None: any")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint as retention sees it.

    Args:
        id: its id.
        number: its place in the session.
        time: when its state was taken, in seconds since the epoch.
        packs: the names of the packs that it needs.
        named: whether it has a name. It stays then, and does not count.
        current: whether it is the newest, or a session stands at it. It stays then, and counts.
    """

    id: str
    number: int
    time: float
    packs: frozenset[str]
    named: bool = False
    current: bool = False

    @property
    def protected(self) -> bool:
        """Whether it stays whatever the policy says."""
        return self.named or self.current


def dropped(candidates: Iterable[Candidate], policy: Retention, now: float, sizes: Mapping[str, int]) -> list[str]:
    """Return the ids of the checkpoints that go, oldest first.

    For ``policy.size`` the oldest go first, until what the rest needs fits. One that would free nothing, since others
    need all its packs, stays.

    Args:
        candidates: all checkpoints of one session.
        policy: what is kept.
        now: seconds since the epoch.
        sizes: bytes of each pack; one that is not in it counts as empty.
    """
    oldest_first = sorted(candidates, key=lambda one: (one.number, one.time, one.id))
    unnamed = [one for one in oldest_first if not one.named]
    surplus = {one.id for one in unnamed[: max(0, len(unnamed) - policy.count)] if not one.current}
    if policy.age is not None:
        surplus |= {one.id for one in oldest_first if not one.protected and now - one.time > policy.age}
    if policy.size is not None:
        rest = [one for one in oldest_first if one.id not in surplus]
        surplus |= _too_large(rest, policy.size, sizes)
    return [one.id for one in oldest_first if one.id in surplus]


def _too_large(oldest_first: list[Candidate], limit: int, sizes: Mapping[str, int]) -> set[str]:
    """Return the ids of those that go so that the packs of the rest have ``limit`` bytes at most."""
    users = Counter(pack for one in oldest_first for pack in one.packs)
    total = sum(sizes.get(pack, 0) for pack in users)
    gone: list[Candidate] = []
    for one in oldest_first:
        if total <= limit:
            break
        if one.protected:
            continue
        gone.append(one)
        users.subtract(one.packs)
        total -= sum(sizes.get(pack, 0) for pack in one.packs if not users[pack])
    return {one.id for one in gone if any(sizes.get(pack, 0) and not users[pack] for pack in one.packs)}
