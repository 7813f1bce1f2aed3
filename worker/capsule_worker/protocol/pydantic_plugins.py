"""Builds models without pydantic's plugins, which are meant for the models of applications."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from types import ModuleType

#: Pydantic reads this variable whenever a model is built.
_DISABLE = "PYDANTIC_DISABLE_PLUGINS"
#: Pydantic imports this module then, and with it importlib.metadata.
_LOADER = "pydantic.plugin._loader"
#: Threads that build models at the same time must not restore each other's variable.
_lock = threading.RLock()


@contextlib.contextmanager
def without_plugins() -> Iterator[None]:
    """Build models without pydantic's plugins: a context.

    For the first model of a process pydantic searches all installed distributions for plugins, which takes 10 ms for a
    hundred of them. The import of the module that does so takes 20 ms more, which this saves too. Models that are built
    later, for example in cells, have their plugins as usual.
    """
    with _lock:
        before = os.environ.get(_DISABLE)
        os.environ[_DISABLE] = "__all__"
        is_replaced = _LOADER not in sys.modules
        if is_replaced:
            sys.modules[_LOADER] = _NoPlugins(_LOADER)
        try:
            yield
        finally:
            if is_replaced:
                del sys.modules[_LOADER]
            if before is None:
                del os.environ[_DISABLE]
            else:
                os.environ[_DISABLE] = before


class _NoPlugins(ModuleType):
    """Replaces the module of that name."""

    @staticmethod
    def get_plugins() -> tuple[()]:
        return ()
