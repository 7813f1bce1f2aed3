"""The promises of all kernels of a user, for a process that is not a kernel."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from resonate.error import ConnectorError
from resonate.types import PromiseRecord

from capsule_durable.engines.base import FILE, GROUP, EmbeddedEngine, Engine
from capsule_durable.errors import EngineUnavailable

#: Promises that one request of a search asks for.
PAGE_SIZE = 100


@contextlib.asynccontextmanager
async def open_client(home: Path) -> AsyncIterator[Engine | None]:
    """Open the engine of a user, and close it at the end. Does not create its file.

    Args:
        home: the user's directory.

    Yields:
        The engine; None if no promise was ever made.

    Raises:
        StoreError: its file cannot be used.
        EngineUnavailable: a request failed.
    """
    if not (home / FILE).exists():
        yield None
        return
    engine = EmbeddedEngine(home / FILE, f"{GROUP}.command-line")
    try:
        yield engine
    except ConnectorError as error:
        raise EngineUnavailable(str(error.error)) from error
    finally:
        await engine.close()


async def search_all(
    engine: Engine, state: str | None = None, tags: Mapping[str, str] | None = None
) -> AsyncIterator[PromiseRecord]:
    """Yield promises in the order in which they were created.

    Args:
        engine: the engine.
        state: only promises in this state; None: in any.
        tags: only promises with all of these tags.
    """
    cursor = None
    while True:
        page = await engine.promises.search(state, dict(tags) if tags else None, PAGE_SIZE, cursor)
        for promise in page.promises:
            yield promise
        cursor = page.cursor
        if cursor is None:
            return
