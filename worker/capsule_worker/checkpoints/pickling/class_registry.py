"""The classes of the notebook and their ids."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any


class ClassRegistry:
    """Gives each class of the notebook an id that stays the same as long as the class lives, restores included.

    A class that was made here is known by its address; one that was restored keeps the id under which it was saved.
    Once a class is gone another one may get its address: it gets another id if the first one's was learned.
    """

    def __init__(self) -> None:
        self._token = os.urandom(4).hex()
        self._known: dict[int, tuple[str, weakref.ref[type]]] = {}
        self._classes: dict[str, Callable[[], type | None]] = {}

    def id_of(self, cls: type) -> str:
        """Return the id of a class."""
        known = self._known.get(id(cls))
        if known is not None and known[1]() is cls:
            return known[0]
        uid = address = f"{self._token}.{id(cls):x}"
        number = 0
        while uid in self._classes:
            number += 1
            uid = f"{address}.{number}"
        return uid

    def remember(self, uid: str, cls: type) -> None:
        """Record a class that was restored under an id.

        Args:
            uid: the id.
            cls: the class.
        """
        reference = weakref.ref(cls)
        self._known[id(cls)] = (uid, reference)
        self._classes[uid] = reference

    def learn(self, uids: Iterable[str]) -> None:
        """Record the classes that a copy of this process saved, under the ids that it gave them.

        Args:
            uids: ids of the classes that the copy saved.
        """
        fresh = {uid for uid in uids if uid.startswith(self._token) and uid not in self._classes}
        for cls in _living(object) if fresh else ():
            uid = self.id_of(cls)
            if uid in fresh:
                self.remember(uid, cls)
                fresh.discard(uid)
        # Gone meanwhile: their ids are not given again.
        self._classes.update(dict.fromkeys(fresh, _nothing))

    def get(self, uid: str) -> type | None:
        """Return the class with an id, if it lives in this process."""
        reference = self._classes.get(uid)
        if reference is not None:
            return reference()
        if uid.startswith(self._token):
            for cls in _living(object):
                if cls.__module__ == "__main__" and self.id_of(cls) == uid:
                    return cls
        return None

    def renew(self) -> None:
        """Give all classes new ids: those of a checkpoint that comes back as a whole take the old ones."""
        self._token = os.urandom(4).hex()
        self._known.clear()
        self._classes.clear()

    def __reduce__(self) -> Any:
        raise TypeError("definitions belong to one process")


def _nothing() -> None:
    """Stand for a reference to a class that is gone."""


def _living(cls: type) -> Iterator[type]:
    """Yield all subclasses."""
    subclasses: list[type] = type.__subclasses__(cls)
    for below in subclasses:
        yield below
        yield from _living(below)
