"""A real JupyterLab server, and a person's hands and eyes in its page."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from playwright.sync_api import expect

from tests.support.kernels import KERNEL
from tests.support.notebooks import notebook
from tests.support.processes import RUN_MODULE
from tests.support.servers import TOKEN, Server, address, serving
from tests.support.waiting import DEADLINE, poll_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Locator, Page

SLOW = 1000 * DEADLINE
"""Milliseconds for what a cold server, a cold browser or a cold kernel does on a busy machine."""

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

SHOWN = ".jp-MainAreaWidget:not(.lm-mod-hidden)"


@contextmanager
def lab_server(home: Path, work: Path, log: Path) -> Iterator[Server]:
    """Run a JupyterLab server on a free loopback port, and end it and its process group.

    Args:
        home: where the Jupyter directories of this test's environment lie.
        work: the folder that the server shows.
        log: where the server's log is kept.

    """
    settings = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    command = [
        *(*RUN_MODULE, "jupyterlab", "--no-browser", "--allow-root"),
        *("--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", f"--ServerApp.root_dir={work}"),
        f"--IdentityProvider.token={TOKEN}",
        # Tests open and close documents by JupyterLab's own commands, without loading the page again.
        "--LabApp.expose_app_in_browser=True",
    ]
    with serving(command, work, log) as process:
        yield Server(address(process, home, log), TOKEN, work)


#: Opens a document in a page that shows JupyterLab.
OPEN = """async path => { await window.jupyterapp.commands.execute("docmanager:open", { path }); }"""
#: Closes all documents, without asking whether they are to be saved. Returns whether the page can be used again.
CLOSE_ALL = """() => {
    const app = window.jupyterapp;
    if (!app) return false;
    for (const widget of Array.from(app.shell.widgets("main"))) widget.dispose();
    return document.querySelectorAll(".jp-Dialog").length === 0;
}"""


class Lab:
    """JupyterLab as a person sees and uses it. A page is loaded once, since that takes longer than most tests."""

    def __init__(self, server: Server, page: Page) -> None:
        """Use a server by a page of a browser."""
        self.display_name = KernelSpecManager().get_kernel_spec(KERNEL).display_name
        self.server = server
        self.page = page

    def open_launcher(self) -> None:
        """Open JupyterLab with nothing in it but the launcher."""
        self.page.goto(f"{self.server.url}lab?reset&token={self.server.token}")
        self.page.locator(".jp-LauncherCard").first.wait_for(timeout=SLOW)

    def open_notebook(self, name: str, *cells: str) -> None:
        """Write a notebook and open it; it is ready to run when this returns."""
        nbformat.write(notebook(*cells, kernel_name=KERNEL), self.server.work / name)
        if self.page.url.startswith(self.server.url):
            self.page.evaluate(OPEN, name)
        else:
            self.page.goto(f"{self.server.url}lab/tree/{name}?reset&token={self.server.token}")
        self.wait_for_idle()

    def wait_for_idle(self) -> None:
        """Wait until the notebook's kernel runs and has nothing to do."""
        expect(self.page.locator("#jp-bottom-panel")).to_contain_text(f"{self.display_name} | Idle", timeout=SLOW)

    def shown(self, selector: str) -> Locator:
        """Return the parts of the open notebook that match."""
        return self.page.locator(f"{SHOWN} {selector}")

    def choose(self, menu: str, command: str) -> None:
        """Choose an entry, by its command, from a menu of the menu bar."""
        self.page.locator(".lm-MenuBar-item", has_text=menu).first.click()
        self.page.locator(f'.lm-Menu-item[data-command="{command}"]').click()

    def press(self, command: str) -> None:
        """Press a button of the notebook's toolbar."""
        self.shown(f'[data-command="{command}"]').first.click()

    def run_all(self) -> None:
        """Run all cells by the menu."""
        self.choose("Run", "runmenu:run-all")

    def run_cell(self, index: int) -> None:
        """Click into a cell and run it by Shift-Enter."""
        self.cell(index).locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")

    def cell(self, index: int) -> Locator:
        """Return one code cell."""
        return self.shown(".jp-CodeCell").nth(index)

    def complete(self, index: int, beginning: str) -> None:
        """Type the beginning of a name into a cell, have the rest proposed by Tab, and accept it by Enter."""
        self.cell(index).locator(".cm-content").click()
        self.page.keyboard.type(beginning)
        self.summon("Tab", self.page.locator(".jp-Completer:not(.lm-mod-hidden)"))
        self.page.keyboard.press("Enter")

    def summon(self, key: str, answer: Locator) -> None:
        """Press a key until what it asks the kernel for is shown: JupyterLab gives up when the kernel is late."""

        def look() -> bool:
            self.page.keyboard.press(key)
            try:
                answer.wait_for(timeout=3000)
            except PlaywrightTimeoutError:
                return False
            return True

        poll_until(look, f"an answer to {key}")

    def expect_output(self, index: int, text: str) -> None:
        """Wait until text is to be read below one code cell."""
        expect(self.cell(index).locator(".jp-Cell-outputArea")).to_contain_text(text, timeout=SLOW)

    def expect_count(self, index: int, count: str) -> None:
        """Wait until one code cell shows a count: a number, `*` while it runs, or a blank."""
        prompt = self.cell(index).locator(".jp-InputArea-prompt")
        expect(prompt).to_have_text(f"[{count}]:", timeout=SLOW)

    def restart(self) -> None:
        """Restart the kernel by the menu, and confirm it."""
        self.choose("Kernel", "kernelmenu:restart")
        with self.page.expect_response(lambda response: "/restart" in response.url, timeout=SLOW):
            self.page.locator(".jp-Dialog button.jp-mod-accept").click()
        self.wait_for_idle()

    def leave(self) -> None:
        """Leave the page: the next test loads it anew."""
        self.page.goto("about:blank")

    def close_all(self) -> None:
        """Close the documents and end the server's kernels."""
        if not self.page.evaluate(CLOSE_ALL):
            self.leave()
        headers = {"Authorization": f"token {self.server.token}"}
        for session in self.page.request.get(f"{self.server.url}api/sessions", headers=headers).json():
            self.page.request.delete(f"{self.server.url}api/sessions/{session['id']}", headers=headers)
