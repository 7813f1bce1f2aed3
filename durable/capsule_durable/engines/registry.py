"""Finds the engine of a URL. Only the module of that engine is imported."""

from __future__ import annotations

from importlib import import_module

from capsule_durable.engines.base import Engine, EngineContext, EngineFactory
from capsule_durable.errors import EngineUnavailable

#: The factories of engines, each as ``module:name``, by the scheme of the URL.
ENGINES: dict[str, str] = {
    "embedded:": "capsule_durable.engines.embedded.engine:EmbeddedEngine",
    "memory:": "capsule_durable.engines.memory:MemoryEngine",
}


def open_engine(url: str, context: EngineContext) -> Engine:
    """Return the engine of a URL for a kernel, not yet started.

    Args:
        url: the setting ``engine``.
        context: what it is for.

    Raises:
        EngineUnavailable: no engine has this scheme.
        StoreError: its store cannot be used.
    """
    return _factory(url).open(url, context)


def open_client(url: str, context: EngineContext) -> Engine | None:
    """Return the engine of a URL for requests from outside of kernels; None if nothing was ever stored.

    Args:
        url: the setting ``engine``.
        context: what it is for.

    Raises:
        EngineUnavailable: no engine has this scheme, or other processes cannot see its promises.
        StoreError: its store cannot be used.
    """
    return _factory(url).open_client(url, context)


def _factory(url: str) -> EngineFactory:
    scheme, colon, _ = url.partition(":")
    place = ENGINES.get(scheme + colon)
    if place is None:
        raise EngineUnavailable(f'unknown engine "{url}" (choose from {", ".join(sorted(ENGINES))})')
    module, _, name = place.partition(":")
    factory: EngineFactory = getattr(import_module(module), name)
    return factory
