"""Fixtures of the tests of clients: the kernel under test, and directories and processes that end with the tests.

A conftest imports them by name.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support import kernels
from tests.support.homes import jupyter_directories
from tests.support.processes import MARK, Family


@pytest.fixture(scope="session")
def kernel_name() -> str:
    """Return the name of the kernel under test."""
    return kernels.KERNEL


@pytest.fixture(scope="module", autouse=True)
def home() -> Iterator[Path]:
    """Keep all that clients and kernels write in a directory that is new for each module of tests.

    Its path is short, because the ipc transport puts sockets into it and their names have to fit 107 bytes.
    """
    with (
        TemporaryDirectory(prefix="cap", ignore_cleanup_errors=True) as name,
        pytest.MonkeyPatch.context() as patch,
    ):
        home = Path(name)
        for variable, folder in jupyter_directories(home).items():
            patch.setenv(variable, folder)
        for variable in ("JUPYTER_PATH", "JUPYTER_CONFIG_PATH"):
            patch.delenv(variable, raising=False)
        yield home


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> Iterator[Family]:
    """Return the family of all processes that this test starts from now on."""
    family = Family(uuid.uuid4().hex)
    monkeypatch.setenv(MARK, family.mark)
    yield family
    family.end()
