"""The kernel, but its front kills itself at a step of its path: ``DYING_AT`` says at which, 0 for never.

A step is a request to the engine, a message to or from the worker, something that is done with the record or with the
list of checkpoints; each counts twice, before and after. Counting begins with the first cell; ``DYING_LOG`` is the file
that gets a byte for each step.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sys
from typing import Any

from capsule_durable.checkpoints.service import CheckpointService
from capsule_durable.engines.embedded.network import EmbeddedNetwork
from capsule_durable.execution.executor import CellExecutor
from capsule_durable.history.recorder import Recorder
from capsule_durable.messaging.transport import SocketTransport
from capsule_kernel.__main__ import main

AT = int(os.environ["DYING_AT"])
LOG = os.open(os.environ["DYING_LOG"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
_count = 0
_counting = False


def step() -> None:
    """Count a step; this may be the last one."""
    global _count  # noqa: PLW0603  # there is one count
    if not _counting:
        return
    _count += 1
    os.write(LOG, b".")
    if _count == AT:
        os.kill(os.getpid(), signal.SIGKILL)


def watch(owner: type, name: str) -> None:
    """Count the calls of a method, before and after."""
    method = getattr(owner, name)

    async def awaited(*args: Any, **kwargs: Any) -> Any:
        step()
        result = await method(*args, **kwargs)
        step()
        return result

    def called(*args: Any, **kwargs: Any) -> Any:
        step()
        result = method(*args, **kwargs)
        if isinstance(result, asyncio.Future):
            result.add_done_callback(lambda _: step())
        else:
            step()
        return result

    setattr(owner, name, awaited if inspect.iscoroutinefunction(method) else called)


def begin(owner: type, name: str) -> None:
    """Begin to count when a method is called first."""
    method = getattr(owner, name)

    async def begun(*args: Any, **kwargs: Any) -> Any:
        global _counting  # noqa: PLW0603  # there is one count
        _counting = True
        return await method(*args, **kwargs)

    setattr(owner, name, begun)


for _owner, _name in (
    (EmbeddedNetwork, "send"),
    (SocketTransport, "send"),
    (SocketTransport, "receive"),
    (Recorder, "act"),
    (CheckpointService, "record_saved"),
    (CheckpointService, "_in_thread"),
):
    watch(_owner, _name)
begin(CellExecutor, "execute")

if __name__ == "__main__":
    sys.exit(main())
