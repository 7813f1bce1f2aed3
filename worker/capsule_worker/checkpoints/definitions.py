"""The classes of the notebook and their ids."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from typing import Any


class Definitions:
    """Gives each class of the notebook an id that stays the same as long as the class lives, restores included.

    A class that was made here is known by its address, which no other class can have while something that was saved
    refers to it; one that was restored keeps the id under which it was saved.
    """

    def __init__(self) -> None:
        self._token = os.urandom(4).hex()
        self._restored: dict[int, tuple[str, weakref.ref[type]]] = {}
        self._classes: dict[str, weakref.ref[type]] = {}

    def id_of(self, cls: type) -> str:
        """Return the id of a class."""
        known = self._restored.get(id(cls))
        if known is not None and known[1]() is cls:
            return known[0]
        return f"{self._token}.{id(cls):x}"

    def remember(self, uid: str, cls: type) -> None:
        """Take notice of a class that was restored under an id."""
        reference = weakref.ref(cls)
        self._restored[id(cls)] = (uid, reference)
        self._classes[uid] = reference

    def get(self, uid: str) -> type | None:
        """Return the class with an id, if it lives in this process."""
        reference = self._classes.get(uid)
        if reference is not None:
            return reference()
        token, _, address = uid.partition(".")
        if token == self._token:
            for cls in _living(object):
                if f"{id(cls):x}" == address and cls.__module__ == "__main__":
                    return cls
        return None

    def renew(self) -> None:
        """Give all classes new ids: those of a checkpoint that comes back as a whole take the old ones."""
        self._token = os.urandom(4).hex()
        self._restored.clear()
        self._classes.clear()

    def __reduce__(self) -> Any:
        raise TypeError("definitions belong to one process")


def _living(cls: type) -> Iterator[type]:
    """Yield all subclasses."""
    subclasses: list[type] = type.__subclasses__(cls)
    for below in subclasses:
        yield below
        yield from _living(below)
