"""What all tests share: markers by folder, the order of tests, and homes and ports of their own."""

from __future__ import annotations

import gc
import itertools
import os
import re
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
from hypothesis import settings

# Otherwise every process of tests compiles all tests and all of Capsule's modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# jsonschema, which reads notebooks, builds grammars for a format that no notebook has. It does without them if this
# module cannot be imported, and every process of tests starts a second earlier.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

# Continuous integration must not fail by chance; a developer's machine does search for new examples.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


#: The kernel under test, if it is not Capsule, unless everything is asked of it.
OTHER_KERNEL = os.environ.get("CAPSULE_TEST_KERNEL", "capsule").removesuffix("capsule")
if "CAPSULE_TEST_ALL" in os.environ:
    OTHER_KERNEL = ""
#: What the folders of tests are marked with.
FOLDER_MARKERS = {"browser": "browser", "crash": "slow", "sandbox": "sandbox"}
#: Folders whose tests are fast, unless they are marked otherwise.
FAST_FOLDERS = ("unit", "engines", "docs", "downstream")
#: Markers of tests that are not fast wherever they are.
NOT_FAST = ("slow", "process", "perf")
#: Seconds of processor time that a fast test may take before it is listed at the end of a run.
FAST_LIMIT = 0.5
#: The order of folders: what takes longest first, so that no process of tests ends long after the others.
ORDER = ("browser", "crash", "pickling", "sandbox", "integration", "clients", "engines", "worker_compat")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folders, and order them.

    With another kernel under test, tests of what only Capsule promises are skipped.
    """
    for item in items:
        folder = _folder(item)
        if folder in FOLDER_MARKERS:
            item.add_marker(FOLDER_MARKERS[folder])
        if folder in FAST_FOLDERS and not any(map(item.get_closest_marker, NOT_FAST)):
            item.add_marker("fast")
        if OTHER_KERNEL and item.get_closest_marker("capsule_only"):
            item.add_marker(pytest.mark.skip(reason=f"only Capsule promises this, not {OTHER_KERNEL}"))
    items.sort(key=_place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Have one process run what shares a kernel, and hand out work in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return shared_by(nodeid)

    return Scheduling(config, log)


def shared_by(nodeid: str) -> str:
    """Return what a test shares a process with: those for which this is the same.

    A module may share a kernel. Tests of crashes start what they need themselves, and take long; those of kinds of
    objects share a kernel for each way of several tables.
    """
    path, _, test = nodeid.partition("::")
    if path.startswith("tests/crash/"):
        return nodeid
    found = re.match(r"test_it_comes_back\[(\w+): .*, (changed.*)\]", test)
    return f"{path}: {found[1]}, {found[2]}" if found else path


def _folder(item: pytest.Item) -> str:
    """Return the folder of a test: the second part of ``tests/unit/...``."""
    return item.nodeid.split("/", 2)[1]


def _is_slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


def _place(item: pytest.Item) -> tuple[bool, int]:
    folder = _folder(item)
    return not _is_slow(item), ORDER.index(folder) if folder in ORDER else len(ORDER)


@pytest.fixture(autouse=True)
def no_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a fast test that starts a process."""
    if request.node.get_closest_marker("fast"):

        def refuse(*_: object, **__: object) -> NoReturn:
            pytest.fail("a fast test starts a process: mark it as `process`")

        monkeypatch.setattr(os, "fork", refuse)
        monkeypatch.setattr(subprocess, "Popen", refuse)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Measure fast tests, by a clock that stands still while other processes run."""
    before = time.process_time()
    yield
    if item.get_closest_marker("fast"):
        item.user_properties.append(("processor time", time.process_time() - before))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List fast tests that are not."""
    late = [
        f"{seconds:6.2f} s  {report.nodeid}"
        for report in terminalreporter.stats.get("passed", [])
        for name, seconds in report.user_properties
        if name == "processor time" and seconds > FAST_LIMIT
    ]
    if late:
        terminalreporter.section(f"fast tests that took over {FAST_LIMIT} s")
        terminalreporter.write("\n".join([*late, ""]))


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
    """Give kernels ports that no other process takes between their choice and their use.

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
    """Collect what clients of killed kernels leave open, so that no other test is blamed for it."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
