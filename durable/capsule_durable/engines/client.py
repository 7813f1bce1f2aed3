"""The engine's promises, for a process that is not a kernel."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from resonate.error import ConnectorError

from capsule_durable.config.settings import Settings
from capsule_durable.engines.base import Engine, EngineContext
from capsule_durable.engines.registry import open_client
from capsule_durable.errors import EngineUnavailable

#: The name by which engines know such a process.
_NAME = "command-line"


@contextlib.asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[Engine | None]:
    """Connect to the configured engine, and disconnect at the end. Does not create its store.

    Args:
        settings: the configuration.

    Yields:
        The engine; None if no promise was ever made.

    Raises:
        StoreError: its store cannot be used.
        EngineUnavailable: other processes cannot see its promises, or a request failed.
    """
    engine = open_client(settings.engine, EngineContext(Path(settings.home), _NAME))
    if engine is None:
        yield None
        return
    try:
        yield engine
    except ConnectorError as error:
        raise EngineUnavailable(str(error.error)) from error
    finally:
        await engine.close()
