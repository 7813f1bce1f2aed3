"""The kernel under test, and a kernel that the tests of a module share.

The same tests run against any Python kernel: ``CAPSULE_TEST_KERNEL=python3 pytest tests/clients`` runs them
against ipykernel, which tells a wrong test from a wrong kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import kernels
from tests.support.client_fixtures import family, home, kernel_name

if TYPE_CHECKING:
    from tests.support.conversation import Conversation
    from tests.support.kernels import Opened

__all__ = ["family", "home", "kernel_name"]


@pytest.fixture
def open_kernel() -> Iterator[Callable[..., Opened]]:
    """Return a function that starts a kernel of the test's own, which ends with the test."""
    opened: list[Opened] = []

    def start(**how: Any) -> Opened:
        opened.append(kernels.open_kernel(**how))
        return opened[-1]

    yield start
    for one in opened:
        kernels.close_kernel(one)


@pytest.fixture(scope="module")
def standing_kernels(home: Path) -> Iterator[list[Opened]]:
    """Keep the kernel that the tests of a module share: one, or none when the next test has to start it."""
    assert home.is_dir()
    standing: list[Opened] = []
    yield standing
    for opened in standing:
        kernels.close_kernel(opened)


@pytest.fixture
def shared_kernel(standing_kernels: list[Opened]) -> Iterator[Opened]:
    """Return a kernel shared by a module's tests, for those that do not care what ran before.

    A kernel that a failed test has left busy or broken is not handed on.
    """
    if not standing_kernels:
        standing_kernels.append(kernels.open_kernel())
    yield standing_kernels[0]
    try:
        standing_kernels[0][1].run("", silent=True, deadline=5)
    except AssertionError:
        kernels.close_kernel(standing_kernels.pop())


@pytest.fixture
def kernel(shared_kernel: Opened) -> Conversation:
    """Return a conversation with the shared kernel."""
    return shared_kernel[1]
