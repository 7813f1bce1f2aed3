"""Real kernels: started as Jupyter's kernel manager starts them, or with a `CAPSULE_HOME` of their own."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from jupyter_client.manager import KernelManager

from capsule_durable.checkpoints.catalogue import Catalogue
from tests.support.conversation import Conversation, Exchange
from tests.support.processes import is_running, outside
from tests.support.waiting import DEADLINE, poll_until

if TYPE_CHECKING:
    from jupyter_client.blocking.client import BlockingKernelClient

KERNEL = os.environ.get("CAPSULE_TEST_KERNEL", "capsule")
"""The kernel under test, by the name under which Jupyter lists it."""

INTERRUPT = {"async": "KernelInterrupt"}.get(KERNEL, "KeyboardInterrupt")
"""The error of a cell that was interrupted. That code may catch a `KeyboardInterrupt` has a test of its own."""

INTERRUPTS = KERNEL != "xpython"
"""Whether interrupts end cells. Where they do not, a test that is about something else ends the kernel."""

type Opened = tuple[KernelManager, Conversation]

#: Leaves a connection open, so that the process is not copied: what comes back comes from a checkpoint.
NO_STANDBY = "__import__('sys').connection = __import__('socket').socket()"
#: The same, in a variable: one that cannot be saved.
UNSAVEABLE = "import socket\nconnection = socket.socket()"
KILL = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"


def kernel_environment() -> dict[str, str]:
    """Return our environment without the variable that makes kernels think they are pytest's."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def open_kernel(transport: str = "tcp", name: str = KERNEL, encryption: str = "disabled", **options: Any) -> Opened:
    """Start a kernel of our own and begin a conversation with it. The options are those of `start_kernel`."""
    manager = KernelManager(kernel_name=name, transport=transport, transport_encryption=encryption)
    manager.start_kernel(env=kernel_environment(), **options)
    client: BlockingKernelClient = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=DEADLINE)
    except BaseException:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        raise
    return manager, Conversation(client)


def close_kernel(opened: Opened) -> None:
    """End a conversation and its kernel, if it has not ended yet."""
    manager, conversation = opened
    conversation.client.stop_channels()
    if manager.has_kernel:
        manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


class Manager(KernelManager):
    """Starts the kernel by way of another program."""

    by_way_of: tuple[str, ...] = ()

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        return [*self.by_way_of, *super().format_kernel_cmd(extra_arguments)]


class Kernel:
    """A kernel and a client of it.

    Args:
        home: where it keeps what it keeps.
        notebook: the path of its notebook.
        connection_file: the path of its connection file.
        by_way_of: a program that starts it, with arguments.
        directory: where it is started.
        environ: more variables for it.
        settings: of the kernel.
    """

    def __init__(
        self,
        home: Path,
        notebook: str = "",
        connection_file: str = "",
        by_way_of: tuple[str, ...] = (),
        directory: Path | None = None,
        environ: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        self.home = home
        variables = {f"CAPSULE_{name.upper()}": str(value) for name, value in settings.items()}
        variables |= {"CAPSULE_HOME": str(home), "JPY_SESSION_NAME": notebook, **(environ or {})}
        self.manager = Manager(kernel_name="capsule", connection_file=connection_file)
        self.manager.by_way_of = by_way_of
        where = {"cwd": str(directory)} if directory is not None else {}
        self.manager.start_kernel(env=kernel_environment() | variables, **where)
        self._connect()

    def _connect(self) -> None:
        client: Any = self.manager.client()
        client.start_channels()
        self.talk = Conversation(client)
        client.wait_for_ready(timeout=DEADLINE)

    @property
    def _process(self) -> Any:
        provisioner: Any = self.manager.provisioner
        return provisioner.process

    @property
    def front(self) -> int:
        """The process id of the front."""
        return int(self._process.pid)

    def kill_worker(self, pid: int) -> None:
        """Kill a process of the kernel's.

        Args:
            pid: its id, as a cell has it.
        """
        os.kill(outside(self.front, pid), signal.SIGKILL)

    @property
    def connection_file(self) -> str:
        return str(Path(self.manager.connection_file).resolve())

    @property
    def session(self) -> str:
        """The id of its session."""
        with Catalogue(self.home) as catalogue:
            return next(one.id for one in catalogue.sessions.all() if one.pid == self.front)

    def run(self, code: str) -> Exchange:
        """Run a cell, however it ends."""
        return self.talk.run(code)

    def ok(self, code: str) -> Exchange:
        """Run a cell that succeeds."""
        done = self.run(code)
        assert done.reply["status"] == "ok", (code, done.reply, done.text("stderr"))
        return done

    def text(self, code: str) -> str:
        """Run a cell that succeeds, and return what it prints."""
        return self.ok(code).text()

    def shown(self, code: str) -> str:
        """Run a cell that succeeds, and return what it displays, as text."""
        return "\n".join(content["data"]["text/plain"] for content in self.ok(code).of("display_data"))

    def refused(self, code: str) -> str:
        """Run a cell that is refused, and return why."""
        done = self.run(code)
        assert done.reply["status"] == "error", (code, done.of("display_data"))
        assert done.reply["ename"] == "UsageError", done.reply
        return str(done.reply["evalue"])

    def died(self, code: str = KILL) -> str:
        """Run a cell that ends its worker, and return what is said about it."""
        done = self.run(code)
        assert done.reply["ename"] == "WorkerDied", done.reply
        return str(done.reply["evalue"])

    def warnings(self) -> list[str]:
        """Return what the kernel has reported so far, besides the cells' own output."""
        texts = [one.content["text"] for one in self.talk.heard if one.kind == "stream"]
        return [line for text in texts for line in text.splitlines() if line.startswith("capsule: ")]

    def wait_for_warning(self, words: str) -> str:
        """Listen until the kernel tells something."""

        def look() -> list[str]:
            return [line for line in self.warnings() if words in line]

        return str(self.talk.listen_until(look, f"a warning: {words}")[0])

    def kill(self) -> None:
        """Kill the front at once, and wait until nothing of the kernel is left."""
        processes = [psutil.Process(self.front), *psutil.Process(self.front).children(recursive=True)]
        os.kill(self.front, signal.SIGKILL)
        self.talk.client.stop_channels()
        self._process.wait()
        poll_until(lambda: not any(is_running(process) for process in processes), "all processes gone")

    def begin(self, code: str) -> str:
        """Run a cell until it prints something; return the request."""
        request: str = self.talk.client.execute(code)
        self.talk.listen_until(lambda: self.talk.exchange(request).text(), "output")
        return request

    def kill_front(self) -> None:
        """Kill the front at once, and have Jupyter start it again, as its restarter does."""
        os.kill(self.front, signal.SIGKILL)
        self._process.wait()
        self._restart(now=True)

    def restart(self) -> None:
        """Restart it as a person does."""
        self._restart(now=False)

    def _restart(self, *, now: bool) -> None:
        self.talk.client.stop_channels()
        self.manager.restart_kernel(now=now)
        self._connect()

    def close(self) -> None:
        """End it."""
        if self.manager.provisioner is not None and self._process is not None:
            self.talk.client.stop_channels()
            self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


@contextlib.contextmanager
def kernel(home: Path, notebook: str = "", **settings: Any) -> Iterator[Kernel]:
    """Start a kernel; it has ended when the block has."""
    one = Kernel(home, notebook, **settings)
    try:
        yield one
    finally:
        one.close()
