"""The same kernel without the durable path: a cell goes to the worker and back, and no promise is made for it.

For ``engine.py``, which starts it in place of the kernel.
"""

from __future__ import annotations

import asyncio
from typing import Any

from capsule_durable.errors import SessionClosed
from capsule_durable.execution import functions
from capsule_durable.execution.bridge import Bridge
from capsule_kernel.__main__ import main
from capsule_worker.protocol.messages import ExecuteMessage, ResultMessage


class _Outcome:
    """Stands where promises are: is told that one execution is over."""

    target = ""

    def __init__(self) -> None:
        self.promises = self
        self.settled = asyncio.Event()

    async def resolve(self, _id: str, _value: Any) -> None:
        self.settled.set()

    reject = resolve

    async def cancel(self, _id: str, _value: Any) -> None:
        pass


async def _execute(bridge: Bridge, request: ExecuteMessage, timeout: float) -> ResultMessage:
    outcome: Any = _Outcome()
    bridge.use(outcome)
    try:
        await bridge.dispatch(request, "outcome", timeout)
        await outcome.settled.wait()
        raise SessionClosed("the bridge has given the outcome out", request.id)
    finally:
        bridge.end(request.id)


async def _run_cell(
    _resonate: Any, bridge: Bridge, request: ExecuteMessage, timeout: float = 1e6, inputs: str | None = None
) -> ResultMessage:
    return await bridge.run(request.id, _execute(bridge, request, timeout), inputs)


functions.run_cell = _run_cell

if __name__ == "__main__":
    raise SystemExit(main())
