"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_ipython_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the tests out of the user's IPython history and profile, those of child processes included."""
    directory = tmp_path_factory.mktemp("ipython")
    before = os.environ.get("IPYTHONDIR")
    os.environ["IPYTHONDIR"] = str(directory)
    yield directory
    if before is None:
        del os.environ["IPYTHONDIR"]
    else:
        os.environ["IPYTHONDIR"] = before
