"""What all tests share."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_directories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests out of the user's history, profile and checkpoints, those of child processes included."""
    variables = ("IPYTHONDIR", "CAPSULE_HOME")
    before = {name: os.environ.get(name) for name in variables}
    for name in variables:
        os.environ[name] = str(tmp_path_factory.mktemp(name.lower()))
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture
def clients_of_the_dead() -> Iterator[None]:
    """Collect what clients of killed kernels leave open, where nobody else's test is blamed for it."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
