"""A module of ipykernel's that is in ``sys.modules`` from the beginning and is read only when code needs more of it."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Protocol

PACKAGE = "ipykernel"
#: Attributes of a module that are known without reading it.
_SPEC_NAMES = frozenset({"__spec__", "__loader__", "__package__", "__path__", "__file__", "__cached__"})
#: Attributes of the package that a small module of its own has.
_VERSION_NAMES = frozenset({"__version__", "version_info", "kernel_protocol_version", "kernel_protocol_version_info"})
#: What the package imports from another module, by ``*``.
_CONNECT_NAMES = frozenset({"connect_qtconsole", "get_connection_file", "get_connection_info", "write_connection_file"})
#: Modules that are attributes of the package in ipykernel's kernel without being imported.
_SUBMODULES = frozenset(
    {"comm", "compiler", "connect", "eventloops", "ipkernel", "jsonutil", "kernelapp", "kernelbase"}
)


class Finder(Protocol):
    """Finds modules, as ``importlib.abc.MetaPathFinder`` does."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module; None if this finder has no such module.

        Args:
            fullname: name of the module, with those of its packages.
            path: ``__path__`` of its package; None at the top level.
            target: module that is being reloaded, if any.
        """


class LazyModule:
    """A module that is read when code asks for an attribute that only reading provides.

    It is a plain module with a function ``__getattr__``: libraries, and checkpoints, need its type to be exactly that.

    Args:
        finder: finds the module.
        name: its full name.
        known: what is in it from the beginning.
    """

    def __init__(self, finder: Finder, name: str, known: dict[str, type]) -> None:
        self._finder, self._name = finder, name
        self._lock = threading.RLock()
        self._spec: ModuleSpec | None = None
        self._names: frozenset[str] | None = None
        self._is_loaded = False
        self.module = ModuleType(name)
        namespace = vars(self.module)
        for unset in ("__spec__", "__loader__", "__package__"):
            del namespace[unset]
        namespace.update(known, __getattr__=self._get, __dir__=self._list)
        sys.modules[name] = self.module

    def _get(self, name: str) -> Any:
        namespace = vars(self.module)
        with self._lock:
            if name not in namespace:
                if name in _SPEC_NAMES:
                    self._find()
                elif name in _VERSION_NAMES and self._name == PACKAGE:
                    with contextlib.suppress(ImportError, AttributeError):
                        namespace[name] = getattr(importlib.import_module("ipykernel._version"), name)
                if name not in namespace and not self._is_loaded and self._may_have(name):
                    self._load()
            if name in namespace:
                return namespace[name]
        if name in _SUBMODULES and self._name == PACKAGE:
            return importlib.import_module(f"{PACKAGE}.{name}")
        raise AttributeError(f"module {self._name!r} has no attribute {name!r}")

    def _list(self) -> Iterable[str]:
        with self._lock:
            if not self._is_loaded:
                self._load()
        return [name for name in vars(self.module) if name not in {"__getattr__", "__dir__"}]

    def _find(self) -> ModuleSpec:
        if self._spec is None:
            parent = self._name.rpartition(".")[0]
            spec = self._finder.find_spec(self._name, sys.modules[parent].__path__ if parent else None)
            if spec is None:
                raise ModuleNotFoundError(f"No module named {self._name!r}", name=self._name)
            namespace = vars(self.module)
            namespace.update(__spec__=spec, __loader__=spec.loader, __package__=spec.parent)
            if spec.submodule_search_locations is not None:
                namespace["__path__"] = spec.submodule_search_locations
            if spec.has_location:
                namespace.update(__file__=spec.origin, __cached__=spec.cached)
            self._spec = spec
        return self._spec

    def _may_have(self, name: str) -> bool:
        """Return whether a name may be in the module once it is read.

        Some code asks all modules for a name, as pickle does. That reads no module that does not mention the name.
        """
        if name == "__all__" or (name in _CONNECT_NAMES and self._name == PACKAGE):
            return True
        if self._names is None:
            get_code = getattr(self._find().loader, "get_code", None)
            if get_code is None:
                return True
            self._names = frozenset(get_code(self._name).co_names)
        return name in self._names

    def _load(self) -> None:
        spec = self._find()
        assert spec.loader is not None
        self._is_loaded = True
        try:
            spec.loader.exec_module(self.module)
        except BaseException:
            self._is_loaded = False
            raise
