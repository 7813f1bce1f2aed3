"""Values that a copy of this process cannot pickle, and that are pickled here.

Locks that a library's threads held, its pools of threads, and what a GPU holds do not survive a fork. Which types that
is true of shows when a copy has failed with one of them; from then on values of that type are pickled in this process.
"""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Iterable
from typing import Any

from capsule_worker.checkpoints.analysis.reachability import root_of

#: Seconds that pickling one value may take here: the notebook waits for it.
_TIMEOUT_SECONDS = 5.0


class Prepickled:
    """A value that is pickled already; stands for it in the pickle of its group."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __reduce__(self) -> Any:
        return pickle.loads, (self._data,)


class PrepickledCache:
    """Knows which types have to be pickled here."""

    def __init__(self) -> None:
        #: Types with which a copy has failed, and whether it works here.
        self._types: dict[type, bool] = {}

    def consider(self, value: Any) -> bool:
        """Record that a copy of this process could not pickle a value; return whether this process can.

        Each type is tried once.

        Args:
            value: the value that the copy could not pickle.
        """
        kind = type(value)
        if kind not in self._types:
            self._types[kind] = _is_from_library(kind) and _pickled(value) is not None
        return self._types[kind]

    def prepare(self, values: Iterable[Any]) -> dict[int, Prepickled]:
        """Pickle the values that a copy of this process could not; return what stands for them, by address.

        Args:
            values: the values of a checkpoint.
        """
        ready: dict[int, Prepickled] = {}
        if not any(self._types.values()):
            return ready
        for value in values:
            if self._types.get(type(value)) and id(value) not in ready:
                data = _pickled(value)
                if data is not None:
                    ready[id(value)] = Prepickled(data)
        return ready


def _is_from_library(kind: type) -> bool:
    root = root_of(kind)
    ours = {"__main__", "capsule_worker", "ipykernel", "IPython"}
    return bool(root) and root not in sys.stdlib_module_names and root not in ours


def _pickled(value: Any) -> bytes | None:
    """Pickle a value in a thread that can be left behind."""
    results: list[bytes] = []

    def act() -> None:
        try:
            results.append(pickle.dumps(value, 5))
        except BaseException:  # whatever the library raises; the copy's reason is told
            results.clear()

    thread = threading.Thread(target=act, name="capsule-pickle", daemon=True)
    thread.start()
    thread.join(_TIMEOUT_SECONDS)
    return results[0] if results else None
