"""Spares the models of this project what is meant for those of applications."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from types import ModuleType

#: Read by pydantic whenever a model is made.
_DISABLE = "PYDANTIC_DISABLE_PLUGINS"
#: Imported by pydantic then, to be asked for plugins; and with it what knows all distributions.
_LOADER = "pydantic.plugin._loader"
#: Threads that make models at the same time would take each other's word for the environment's.
_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def without_plugins() -> Iterator[None]:
    """Make models inside without pydantic's plugins.

    For the first model of a process pydantic looks into all installed distributions for plugins, which takes 10 ms for
    a hundred of them; and to import what does that takes 20 ms more, which is spared, too, where pydantic has it in the
    module known here. Whoever makes models later, as cells do, gets the plugins as always.
    """
    with _one_at_a_time:
        before = os.environ.get(_DISABLE)
        os.environ[_DISABLE] = "__all__"
        stands_in = _LOADER not in sys.modules
        if stands_in:
            sys.modules[_LOADER] = _NoPlugins(_LOADER)
        try:
            yield
        finally:
            if stands_in:
                del sys.modules[_LOADER]
            if before is None:
                del os.environ[_DISABLE]
            else:
                os.environ[_DISABLE] = before


class _NoPlugins(ModuleType):
    """Stands for the module of that name."""

    @staticmethod
    def get_plugins() -> tuple[()]:
        return ()
