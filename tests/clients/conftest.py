"""The kernel under test, a place of its own for all that clients write, a JupyterLab server and a browser.

The same tests run against any Python kernel: ``CAPSULE_TEST_KERNEL=python3 pytest tests/clients`` runs them
against ipykernel, which tells a wrong test from a wrong kernel.
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import sync_playwright

from . import kernels
from .lab import CHROMIUM_ARGUMENTS, Lab, lab_server
from .processes import MARK, Family

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

    from .conversation import Conversation
    from .kernels import Opened
    from .servers import Server


def pytest_configure(config: pytest.Config) -> None:
    """Name our marker."""
    config.addinivalue_line("markers", "capsule_only: behaviour that other Python kernels do not promise")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what only Capsule promises when another kernel is under test."""
    if kernels.KERNEL == "capsule" or "CAPSULE_TEST_ALL" in os.environ:
        return
    for item in items:
        if item.get_closest_marker("capsule_only"):
            item.add_marker(pytest.mark.skip(reason=f"Capsule promises this, {kernels.KERNEL} does not"))


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
def family(monkeypatch: pytest.MonkeyPatch) -> Iterator[Family]:
    """Return the family of all processes that this test starts from now on."""
    family = Family(uuid.uuid4().hex)
    monkeypatch.setenv(MARK, family.mark)
    yield family
    family.end()


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


@pytest.fixture(scope="module")
def server(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a JupyterLab server for a module; nothing that it started outlives it."""
    family = Family(uuid.uuid4().hex)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, family.mark)
        with lab_server(home, tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("log") / "lab.log") as server:
            patch.delenv(MARK)
            yield server
            family.meet()
    family.wait_until_gone()


@pytest.fixture(scope="module")
def page(home: Path) -> Iterator[Page]:
    """Return a page of Debian's Chromium with an empty profile. CI has to have it, a desk may do without."""
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is not installed: apt-get install chromium")
        pytest.skip("chromium is not installed, so no one has looked at JupyterLab")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            home / "profile",
            executable_path=chromium,
            headless=True,
            args=CHROMIUM_ARGUMENTS,
            viewport={"width": 1280, "height": 900},
        )
        yield context.pages[0]
        context.close()


@pytest.fixture
def lab(server: Server, page: Page, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Return JupyterLab in a browser. What a person sees when the test ends is kept as a picture."""
    pictures = Path(os.environ.get("CAPSULE_SCREENSHOTS", tmp_path))
    pictures.mkdir(parents=True, exist_ok=True)
    lab = Lab(server, page)
    yield lab
    page.screenshot(path=pictures / f"{request.node.name}.png")
    lab.end_all_kernels()
