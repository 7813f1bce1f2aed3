"""A catalogue in a new home, with one session of this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.storage.process_identity import this_process
from tests.support.catalogues import (
    Clock,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def catalogue(tmp_path: Path, clock: Clock) -> Iterator[Catalogue]:
    with Catalogue(tmp_path / "home", clock) as catalogue:
        yield catalogue


@pytest.fixture
def session(catalogue: Catalogue) -> str:
    return catalogue.sessions.begin("kernel", "a.ipynb", this_process()).id
