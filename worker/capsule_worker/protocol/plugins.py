"""Spares the models of this project what is meant for those of applications."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

#: Read by pydantic whenever a model is made.
_DISABLE = "PYDANTIC_DISABLE_PLUGINS"
#: Threads that make models at the same time would take each other's word for the environment's.
_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def without_plugins() -> Iterator[None]:
    """Make models inside without pydantic's plugins.

    For the first model of a process pydantic looks into all installed distributions for plugins, which takes 10 ms for
    a hundred of them. Whoever makes models later, as cells do, gets the plugins as always.
    """
    with _one_at_a_time:
        before = os.environ.get(_DISABLE)
        os.environ[_DISABLE] = "__all__"
        try:
            yield
        finally:
            if before is None:
                del os.environ[_DISABLE]
            else:
                os.environ[_DISABLE] = before
