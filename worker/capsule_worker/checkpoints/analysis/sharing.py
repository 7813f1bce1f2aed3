"""Which things belong together because they share something. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def partition(holdings: Mapping[T, Iterable[int]]) -> list[list[T]]:
    """Return the keys of ``holdings`` in groups: two keys are together if they hold the same thing, or are linked so.

    Groups, and the keys in each, come in the order of ``holdings``.

    Args:
        holdings: what each key holds, as numbers that identify objects, such as their addresses.
    """
    parent: dict[T, T] = {key: key for key in holdings}

    def root(key: T) -> T:
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    owner: dict[int, T] = {}
    for key, held in holdings.items():
        fresh = held if isinstance(held, (set, frozenset)) else set(held)
        for thing in fresh & owner.keys():
            parent[root(key)] = root(owner[thing])
        owner.update(dict.fromkeys(fresh, key))
    groups: dict[T, list[T]] = {}
    for key in holdings:
        groups.setdefault(root(key), []).append(key)
    return list(groups.values())
