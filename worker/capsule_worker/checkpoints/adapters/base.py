"""What an adapter says about its library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: Reduces an object as ``__reduce_ex__`` does; returns ``NotImplemented`` to leave the object to cloudpickle.
Reducer = Callable[[Any], Any]


class RestoreError(Exception):
    """The global state of a library could not be restored. The message says why."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """Special treatment for the objects of one library.

    The module of an adapter must not import its library at the top: a checkpoint may name the library before a cell
    imports it. A reducer and the function that rebuilds the object are in the same module.

    Args:
        library: top-level module of the library; the adapter is imported only once ``sys.modules`` has it.
        reducers: reducers by ``module.QualName`` of the types; a name that ends with ``+`` stands for the type and its
            subclasses within the library. Names are resolved when a type is first seen.
        is_small: whether a value may be pickled in the worker's main thread; must answer within 50 microseconds.
        retains: whether modules of the library may keep references to the user's objects; a set names those that may.
        save_state: returns the global state of the library, for example of its random generator; None for no state.
        restore_state: restores what ``save_state`` returned; raises `RestoreError`.
        fork_unsafe: names of threads that do not survive a fork, without a number at the end.
    """

    library: str
    reducers: Mapping[str, Reducer]
    is_small: Callable[[object], bool] | None = None
    retains: bool | frozenset[str] = False
    save_state: Callable[[], bytes | None] | None = None
    restore_state: Callable[[bytes], None] | None = None
    fork_unsafe: frozenset[str] = frozenset()


def name_of(kind: type) -> str:
    """Return the ``module.QualName`` of a type."""
    return f"{kind.__module__}.{kind.__qualname__}"
