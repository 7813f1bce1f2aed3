"""A kernel under measurement, driven by the same client whichever it is."""

from __future__ import annotations

import queue
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

#: Seconds after which a kernel that does not answer is given up.
DEADLINE = 120.0
#: Seconds after which a client asks again, when its subscription to the outputs came too late for an answer.
RETRY = 0.2


class BenchmarkError(Exception):
    """A kernel did not do the measured work: there is no figure."""


class LostOutput(BenchmarkError):  # named by what happened
    """A kernel did not deliver what a cell had printed or displayed, or a reply, or its end."""


@dataclass
class Exchange:
    """What came back for one cell."""

    reply: dict[str, Any] = field(default_factory=dict)
    #: Text of stdout in order.
    text: list[str] = field(default_factory=list)
    displays: list[dict[str, Any]] = field(default_factory=list)
    #: Results of cells (``Out[n]``).
    results: list[dict[str, Any]] = field(default_factory=list)


class Kernel:
    """A running kernel. Use it as a context manager: it ends with the block.

    ``BlockingKernelClient.wait_for_ready`` is not used: it ends with 200 ms of listening to silence, which
    would hide most of a difference.

    Args:
        name: the kernelspec's, and what reports call it.
        manager: starts the kernel, where it is none of Jupyter's own.
        start: how its process is started: ``env``, ``cwd`` and the like.
    """

    def __init__(self, name: str, manager: KernelManager | None = None, **start: Any) -> None:
        self.name = name
        self.manager = manager or KernelManager(kernel_name=name)
        # The report does not include the kernels' logs; a kernel that fails does not answer, which is reported.
        self.manager.start_kernel(**{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **start})
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()

    def __enter__(self) -> Self:
        try:
            self._wait_until_connected()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def _wait_until_connected(self) -> None:
        """Send kernel_info_request until the kernel answers and its outputs arrive, too."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            self.reply(self.client.kernel_info())
            try:
                self.client.get_iopub_msg(timeout=RETRY)
            except queue.Empty:
                continue
            return
        raise LostOutput(f"{self.name}: nothing is heard on iopub")

    def send(self, code: str, *, stop_on_error: bool = True) -> str:
        """Send a cell and return its message id."""
        return str(self.client.execute(code, stop_on_error=stop_on_error, allow_stdin=False))

    def finish(self, request: str) -> Exchange:
        """Wait for the reply and for idle, and return the exchange."""
        exchange = self.outputs(request)
        exchange.reply = self.reply(request)
        return exchange

    def outputs(self, request: str) -> Exchange:
        """Wait for idle, and return what came until then; the reply is not in it."""
        exchange = Exchange()
        while True:
            message = self._receive(self.client.get_iopub_msg, "output")
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream" and content["name"] == "stdout":
                exchange.text.append(content["text"])
            elif kind == "display_data":
                exchange.displays.append(content["data"])
            elif kind == "execute_result":
                exchange.results.append(content["data"])
            elif kind == "status" and content["execution_state"] == "idle":
                return exchange

    def reply(self, request: str) -> dict[str, Any]:
        """Wait for the reply to a request."""
        while True:
            message = self._receive(self.client.get_shell_msg, "reply")
            if message["parent_header"].get("msg_id") == request:
                content: dict[str, Any] = message["content"]
                return content

    def execute(self, code: str) -> Exchange:
        """Run a cell, which must not fail, and return the exchange.

        Raises:
            BenchmarkError: it failed.
        """
        exchange = self.finish(self.send(code))
        if exchange.reply["status"] != "ok":
            error = f"{exchange.reply.get('ename')}: {exchange.reply.get('evalue')}"
            raise BenchmarkError(f"{self.name}: {code!r} failed: {error}")
        return exchange

    def wait_for_text(self) -> None:
        """Wait until the running cell has printed something."""
        while self._receive(self.client.get_iopub_msg, "output")["msg_type"] != "stream":
            pass

    def first_text(self, request: str) -> str:
        """Wait for the first text on stdout of a cell, and return it."""
        while True:
            message = self._receive(self.client.get_iopub_msg, "output")
            content = message["content"]
            if message["parent_header"].get("msg_id") != request:
                continue
            if message["msg_type"] == "stream" and content["name"] == "stdout":
                return str(content["text"])
            if message["msg_type"] == "error":
                raise BenchmarkError(f"{self.name}: {content['ename']}: {content['evalue']}")

    def evaluate(self, expression: str) -> str:
        """Return the value of an expression as text, or its error. The request is not a cell of the notebook."""
        request = self.client.execute(f"print(repr({expression}))", silent=True, store_history=False, allow_stdin=False)
        exchange = self.finish(str(request))
        if exchange.reply["status"] != "ok":
            # Starts like no value does.
            return f"! {exchange.reply.get('ename')}: {exchange.reply.get('evalue')}"
        return "".join(exchange.text).strip()

    def memory(self) -> float:
        """Return the proportional set size of all processes of the kernel, in MB."""
        root = psutil.Process(getattr(self.manager.provisioner, "pid", None))
        total = 0
        for process in (root, *root.children(recursive=True)):
            try:
                total += process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue  # it has just ended and holds nothing
        return total / 1e6

    def _receive(self, get: Callable[..., dict[str, Any]], what: str) -> dict[str, Any]:
        try:
            return get(timeout=DEADLINE)
        except queue.Empty:
            raise LostOutput(f"{self.name}: no {what} within {DEADLINE:g} s") from None


def milliseconds(action: Callable[[], object]) -> float:
    """Return how long calling ``action`` takes."""
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1000
