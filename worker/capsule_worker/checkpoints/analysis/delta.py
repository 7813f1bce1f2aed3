"""What has to be saved again, and what is on disk already. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class GroupView(Protocol):
    """The part of a group of variables and classes that is needed here."""

    names: list[str]
    defines: list[str]
    needs: list[str]


@dataclass(frozen=True)
class Delta:
    """The difference between what is on disk and what is in memory.

    Args:
        kept: places of the groups that stay as they are.
        stale: places of the groups that may have changed.
        dirty: names that are to be pickled, in lists of those that were together.
        required: ids of classes that groups which stay refer to, and that no group which stays defines.
    """

    kept: list[int]
    stale: list[int]
    dirty: list[list[str]]
    required: set[str]


def delta(
    groups: Sequence[GroupView],
    present: Mapping[str, bool],
    changed: Collection[str],
    reached: Collection[str] | None,
    waiting: Collection[str] = (),
) -> Delta:
    """Decide what is to be saved.

    Args:
        groups: what is on disk.
        present: the user's names; whether the value of each is *plain*: immutable, and sharing nothing.
        changed: names that were bound to something else, or are new.
        reached: names whose objects may have been changed, or that may have been bound anew; None for all.
        waiting: names that are on disk and not loaded: no cell can have changed them.
    """
    kept, stale, dirty = [], [], []
    definers = []
    covered: set[str] = set()
    # A plain value cannot change, but another one may have taken its place in memory, and look like the same.
    suspects = None if reached is None else {*changed, *reached}.difference(waiting)
    safe = set(waiting) if suspects is None else {*present, *waiting} - suspects
    for index, group in enumerate(groups):
        if not group.names:
            definers.append(index)
        elif safe.issuperset(group.names):
            kept.append(index)
            covered.update(group.names)
        else:
            stale.append(index)
    for index in stale:
        rest = [name for name in groups[index].names if not present.get(name, True) and name not in changed]
        if rest:
            dirty.append(rest)
            covered.update(rest)
    plain = [name for name, is_plain in present.items() if is_plain and name not in covered]
    dirty += [[name] for name, is_plain in present.items() if not is_plain and name not in covered]
    if plain:
        dirty.append(plain)

    touched = _needed(groups, stale, definers)
    needed = _needed(groups, kept, definers)
    for index in definers:
        defines = set(groups[index].defines)
        if defines & touched or reached is None:
            stale.append(index)
        elif defines & needed:
            kept.append(index)
    defined = {uid for index in kept for uid in groups[index].defines}
    required = {uid for index in kept for uid in groups[index].needs} - defined
    return Delta(kept, stale, dirty, required)


def _needed(groups: Sequence[GroupView], indices: Sequence[int], definers: Sequence[int]) -> set[str]:
    """Return the ids of the classes that some groups need, and that these classes need in turn."""
    needed = {uid for index in indices for uid in groups[index].needs}
    while True:
        more = {
            uid
            for index in definers
            if needed.intersection(groups[index].defines)
            for uid in groups[index].needs
            if uid not in needed
        }
        if not more:
            return needed
        needed |= more
