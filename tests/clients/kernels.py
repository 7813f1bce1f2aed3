"""Start and end kernels as Jupyter's own kernel manager does it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from jupyter_client.manager import KernelManager

from .conversation import Conversation
from .waiting import DEADLINE

if TYPE_CHECKING:
    from jupyter_client.blocking.client import BlockingKernelClient

KERNEL = os.environ.get("CAPSULE_TEST_KERNEL", "capsule")
"""The kernel under test, by the name under which Jupyter lists it."""

INTERRUPT = {"async": "KernelInterrupt"}.get(KERNEL, "KeyboardInterrupt")
"""The error of a cell that was interrupted. That code may catch a `KeyboardInterrupt` has a test of its own."""

INTERRUPTS = KERNEL != "xpython"
"""Whether interrupts end cells. Where they do not, a test that is about something else ends the kernel."""

type Opened = tuple[KernelManager, Conversation]


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
