"""Finds the adapters: one module in this package for each library, named as the library in lower case.

An adapter is loaded when its library is imported, or when a cell or a checkpoint names the library. An adapter that
raises while it is loaded is reported once and skipped; cloudpickle then saves the objects of its library without help.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from capsule_worker.checkpoints import adapters
from capsule_worker.checkpoints.adapters.base import Adapter, Reducer, name_of
from capsule_worker.checkpoints.adapters.known_libraries import PARTS_OF, RETAIN_NOTHING

#: The library that all modules of the standard library belong to; it needs no import.
STANDARD_LIBRARY = "stdlib"
#: Modules of this package that are not adapters.
_NOT_ADAPTERS = frozenset({"base", "known_libraries", "registry"})
#: The end of the name of a thread of a pool.
_NUMBER = re.compile(r"[-_]?\d+$")


class AdapterRegistry:
    """The adapters of the libraries that this process has imported."""

    def __init__(self) -> None:
        names = {module.name for module in pkgutil.iter_modules(adapters.__path__)}
        self._modules = names - _NOT_ADAPTERS
        #: Adapters by library; None for one that could not be loaded.
        self._adapters: dict[str, Adapter | None] = {}
        #: How many modules were imported when `present` last looked for libraries.
        self._imported = 0
        self.load(STANDARD_LIBRARY)

    def load(self, library: str) -> Adapter | None:
        """Return the adapter of a library, imported or not; None if it has none, or one that cannot be loaded.

        Args:
            library: top-level module of the library.
        """
        if library in self._adapters:
            return self._adapters[library]
        if library.lower() not in self._modules:
            return None
        try:
            module = importlib.import_module(f"{adapters.__name__}.{library.lower()}")
            adapter: Adapter | None = module.ADAPTER
        # Whatever an incompatible version of the library raises: checkpoints continue without the adapter.
        except Exception as error:
            adapter = None
            _report(f"the adapter for {library} is skipped: {type(error).__name__}: {error}")
        self._adapters[library] = adapter
        return adapter

    def adapter_for(self, root: str) -> Adapter | None:
        """Return the adapter for a top-level module; None if it has none or is not imported.

        Args:
            root: top-level name of a module, such as ``numpy`` in ``numpy.random``.
        """
        library = library_of(root)
        if library not in self._adapters and library not in sys.modules:
            return None
        return self.load(library)

    def present(self) -> list[Adapter]:
        """Return the adapters of all libraries that are imported."""
        if len(sys.modules) != self._imported:
            self._imported = len(sys.modules)
            for name in list(sys.modules):
                if "." not in name and name.lower() in self._modules:
                    self.load(name)
        return [adapter for adapter in self._adapters.values() if adapter is not None]

    def reducer_for(self, kind: type) -> Reducer | None:
        """Return what reduces objects of a type; None if its library has no reducer for it."""
        root = str(kind.__module__).partition(".")[0]
        adapter = self.adapter_for(root)
        if adapter is None or not adapter.reducers:
            return None
        reducers = adapter.reducers
        reducer = reducers.get(name_of(kind))
        if reducer is None:
            names = (f"{name_of(base)}+" for base in kind.__mro__)
            reducer = next((reducers[name] for name in names if name in reducers), None)
        return reducer

    def is_small(self, root: str, value: object) -> bool:
        """Whether a value of a library may be pickled in the worker's main thread.

        Args:
            root: top-level module of the value's type.
            value: the value.
        """
        adapter = self.adapter_for(root)
        return adapter is not None and adapter.is_small is not None and adapter.is_small(value)

    def can_retain(self, root: str) -> bool:
        """Whether a top-level module may keep references to the user's objects; yes if the module is unknown.

        Args:
            root: top-level name of a module.
        """
        library = library_of(root)
        if library.lower() not in self._modules:
            return root not in RETAIN_NOTHING
        adapter = self.load(library)
        if adapter is None:
            return True
        return adapter.retains if isinstance(adapter.retains, bool) else root in adapter.retains

    def save_states(self) -> dict[str, bytes]:
        """Return the global state of each library that is imported and has one."""
        states = {}
        for adapter in self.present():
            state = None if adapter.save_state is None else adapter.save_state()
            if state is not None:
                states[adapter.library] = state
        return states

    def restore_states(self, states: Mapping[str, bytes]) -> dict[str, str]:
        """Restore the global states of libraries; return why some could not be restored, by library.

        Args:
            states: pickles by library, in the form that `save_states` returns.
        """
        failed = {}
        for library, state in states.items():
            try:
                adapter = self.load(library)
                if adapter is not None and adapter.restore_state is not None:
                    adapter.restore_state(state)
            # A library that is not installed here, or cannot read the state of another version.
            except Exception as error:
                failed[library] = f"{type(error).__name__}: {error}"
        return failed

    def fork_unsafe_thread(self) -> str | None:
        """Return the name of a running thread that would not survive a fork of this process; None if none is known."""
        unsafe = {name for adapter in self.present() for name in adapter.fork_unsafe}
        return next((name for name in _threads() if _NUMBER.sub("", name) in unsafe), None) if unsafe else None


def library_of(root: str) -> str:
    """Return the library that a top-level module belongs to.

    Args:
        root: top-level name of a module.
    """
    return STANDARD_LIBRARY if root in sys.stdlib_module_names else PARTS_OF.get(root, root)


def _threads() -> Iterable[str]:
    """Yield the names of all threads of this process, those of libraries included."""
    for task in Path("/proc/self/task").iterdir():
        try:
            yield (task / "comm").read_text().strip()
        except OSError:  # the thread has just ended
            continue


def _report(text: str) -> None:
    print(f"capsule-worker: {text}", file=sys.__stderr__)


#: The adapters of this process.
ADAPTERS = AdapterRegistry()
