"""A JupyterLab server, and a browser."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.client_fixtures import family, home, kernel_name
from tests.support.lab import CHROMIUM_ARGUMENTS, Lab, lab_server
from tests.support.processes import MARK, Family

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.support.servers import Server

__all__ = ["family", "home", "kernel_name"]

#: Whether a test has failed.
FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Note for the fixtures of a test that it has failed."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


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
    from playwright.sync_api import sync_playwright

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
    """Return JupyterLab in a browser. What a person sees when a test has failed is kept as a picture.

    ``CAPSULE_SCREENSHOTS`` is a folder for pictures of all tests.
    """
    lab = Lab(server, page)
    yield lab
    failed = request.node.stash.get(FAILED, False)
    if failed or "CAPSULE_SCREENSHOTS" in os.environ:
        pictures = Path(os.environ.get("CAPSULE_SCREENSHOTS", tmp_path))
        pictures.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=pictures / f"{request.node.name}.png")
    if failed:
        lab.leave()
    lab.close_all()
