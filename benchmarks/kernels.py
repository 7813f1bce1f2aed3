"""A kernel under measurement, driven by the same client whichever it is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Self

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

#: Seconds after which a kernel that does not answer is given up.
DEADLINE = 120.0


@dataclass
class Exchange:
    """What came back for one cell."""

    reply: dict[str, Any] = field(default_factory=dict)
    #: Text of stdout in order.
    text: list[str] = field(default_factory=list)
    displays: list[dict[str, Any]] = field(default_factory=list)


class Kernel:
    """A running kernel. Use it as a context manager: it ends with the block."""

    def __init__(self, name: str) -> None:
        self.manager = KernelManager(kernel_name=name)
        self.manager.start_kernel()
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()

    def __enter__(self) -> Self:
        self.client.wait_for_ready(timeout=DEADLINE)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def send(self, code: str, *, stop_on_error: bool = True) -> str:
        """Send a cell and return its message id."""
        return str(self.client.execute(code, stop_on_error=stop_on_error, allow_stdin=False))

    def finish(self, request: str) -> Exchange:
        """Wait for the reply and for idle, and return what came."""
        exchange = Exchange()
        while True:
            message = self.client.get_iopub_msg(timeout=DEADLINE)
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream" and content["name"] == "stdout":
                exchange.text.append(content["text"])
            elif kind == "display_data":
                exchange.displays.append(content["data"])
            elif kind == "status" and content["execution_state"] == "idle":
                break
        exchange.reply = self.reply(request)
        return exchange

    def reply(self, request: str) -> dict[str, Any]:
        """Wait for the reply to a cell."""
        while True:
            message = self.client.get_shell_msg(timeout=DEADLINE)
            if message["parent_header"].get("msg_id") == request:
                content: dict[str, Any] = message["content"]
                return content

    def run(self, code: str) -> Exchange:
        """Run a cell."""
        return self.finish(self.send(code))

    def wait_for_text(self) -> None:
        """Wait until the running cell has printed something."""
        while self.client.get_iopub_msg(timeout=DEADLINE)["msg_type"] != "stream":
            pass

    def memory(self) -> float:
        """Return the proportional set size of all processes of the kernel, in MB."""
        root = psutil.Process(self.manager.provisioner.pid)
        return sum(process.memory_full_info().pss for process in (root, *root.children(recursive=True))) / 1e6


def seconds_of(action: Any) -> float:
    """Return how long calling ``action`` takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
