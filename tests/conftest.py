"""What all tests share."""

from __future__ import annotations

import gc
import itertools
import os
import socket
import warnings
from collections.abc import Iterator

import pytest
from hypothesis import settings

# What is checked in must not fail by the luck of a draw; whoever works on it does look for more.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


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


@pytest.fixture(scope="session", autouse=True)
def own_ports() -> Iterator[None]:
    """Give kernels ports that nobody else takes between their choice and their use.

    Jupyter asks the system for a free port and gives it back, to be used by the kernel later. What the system hands out
    begins at 32768; each process of tests has a range of its own below that.
    """
    try:
        from jupyter_client.connect import LocalPortCache
    except ImportError:  # the worker's own tests need no Jupyter
        yield
        return
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    # Another run at the same time begins elsewhere.
    first = 12_000 + 5_000 * (number % 4) + os.getpid() % 4_000
    ports = itertools.cycle(range(first, first + 1_000))

    def find(_self: object, ip: str) -> int:
        while True:
            port = next(ports)
            with socket.socket() as sock:
                try:
                    sock.bind((ip if ip != "localhost" else "127.0.0.1", port))
                except OSError:
                    continue
            return port

    before = LocalPortCache.find_available_port
    LocalPortCache.find_available_port = find  # type: ignore[method-assign]
    yield
    LocalPortCache.find_available_port = before  # type: ignore[method-assign]


@pytest.fixture
def clients_of_the_dead() -> Iterator[None]:
    """Collect what clients of killed kernels leave open, where nobody else's test is blamed for it."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
