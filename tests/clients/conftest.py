"""The kernel under test, and a place of its own for everything that clients write.

The same tests run against any Python kernel: ``CAPSULE_TEST_KERNEL=python3 pytest tests/clients`` runs them against
ipykernel, which tells a wrong test from a wrong kernel.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from jupyter_client.manager import KernelManager

from .conversation import Conversation
from .processes import MARK, Family
from .waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jupyter_client.blocking.client import BlockingKernelClient

KERNEL = os.environ.get("CAPSULE_TEST_KERNEL", "capsule")

type Opened = tuple[KernelManager, Conversation]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what only Capsule promises when another kernel is under test."""
    if KERNEL == "capsule":
        return
    for item in items:
        if item.get_closest_marker("capsule_only"):
            item.add_marker(pytest.mark.skip(reason=f"Capsule promises this, {KERNEL} does not"))


def pytest_configure(config: pytest.Config) -> None:
    """Name our marker."""
    config.addinivalue_line("markers", "capsule_only: behaviour that other Python kernels do not promise")


@pytest.fixture(scope="session")
def kernel_name() -> str:
    """Return the name of the kernel under test."""
    return KERNEL


@pytest.fixture(scope="module", autouse=True)
def home() -> Iterator[Path]:
    """Keep all that clients and kernels write in a directory that is new for each module of tests.

    Its path is short, because the ipc transport puts sockets into it and their names have to fit 107 bytes.
    """
    with TemporaryDirectory(prefix="cap", ignore_cleanup_errors=True) as name, pytest.MonkeyPatch.context() as patch:
        home = Path(name)
        for variable, folder in {
            "IPYTHONDIR": "ipython",
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "run",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "XDG_CONFIG_HOME": "xdg-config",
            "XDG_DATA_HOME": "xdg-data",
            "XDG_STATE_HOME": "xdg-state",
            "XDG_CACHE_HOME": "xdg-cache",
        }.items():
            (home / folder).mkdir()
            patch.setenv(variable, str(home / folder))
        for variable in ("JUPYTER_PATH", "JUPYTER_CONFIG_PATH"):
            patch.delenv(variable, raising=False)
        yield home


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> Family:
    """Return the family of all processes that this test starts from now on."""
    family = Family(uuid.uuid4().hex)
    monkeypatch.setenv(MARK, family.mark)
    return family


def kernel_environment() -> dict[str, str]:
    """Return the environment for a kernel: without the variable that makes kernels think they are pytest's."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def _open(transport: str = "tcp") -> Opened:
    manager = KernelManager(kernel_name=KERNEL, transport=transport)
    manager.start_kernel(env=kernel_environment())
    client: BlockingKernelClient = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=DEADLINE)
    except BaseException:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        raise
    return manager, Conversation(client)


def _close(opened: Opened) -> None:
    manager, conversation = opened
    conversation.client.stop_channels()
    if manager.has_kernel:
        manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


@pytest.fixture
def open_kernel() -> Iterator[Callable[..., Opened]]:
    """Return a function that starts a kernel of the test's own and ends it with the test."""
    opened: list[Opened] = []

    def start(transport: str = "tcp") -> Opened:
        opened.append(_open(transport))
        return opened[-1]

    yield start
    for one in opened:
        _close(one)


@pytest.fixture(scope="module")
def shared_kernel(home: Path) -> Iterator[Opened]:
    """Return a kernel that all tests of a module share, for those that do not care what ran before."""
    assert home.is_dir()
    opened = _open()
    yield opened
    _close(opened)


@pytest.fixture
def kernel(shared_kernel: Opened) -> Conversation:
    """Return a conversation with the shared kernel."""
    return shared_kernel[1]
