"""What a kind of object is: how it is made, changed and looked at."""

from __future__ import annotations

import importlib.util
import textwrap
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of object that a notebook may hold, as three cells.

    The cells find ``scratch`` (a folder of their own, a Path) in the namespace, and in ``check`` ``expect_gone(name)``,
    which shows that a name holds a placeholder. All else that they use, imports included, is theirs.

    Args:
        name: unique, for people.
        setup: makes the objects; a checkpoint follows.
        change: changes them, or uses them where they cannot be changed; another checkpoint follows.
        check: runs after a restore in a new process; asserts that the changed state was restored and can be used.
        needs: packages beyond the standard library.
        unsaved: names that hold a placeholder after the restore.
    """

    name: str
    setup: str
    change: str
    check: str
    needs: tuple[str, ...] = ()
    unsaved: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # The cells stand indented in their tables, but a cell must not start indented.
        for cell in ("setup", "change", "check"):
            object.__setattr__(self, cell, textwrap.dedent(getattr(self, cell)).strip())


def is_installed(kind: Kind) -> bool:
    """Return whether the packages that a kind needs are installed."""
    return all(importlib.util.find_spec(package) is not None for package in kind.needs)
