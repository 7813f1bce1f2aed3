"""The engines under test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.engines import NAMES, Engine, close_engine, open_engine


@pytest_asyncio.fixture(params=NAMES)
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    """One engine after the other."""
    engine = await open_engine(request.param, tmp_path)
    yield engine
    await close_engine(engine)
