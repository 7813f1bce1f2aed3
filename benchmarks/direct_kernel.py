"""The same kernel without the durable path: a cell goes to the worker and back, and no promise is made for it.

For ``engine.py``, which starts it in place of the kernel.
"""

from __future__ import annotations

import asyncio
from typing import Any

from capsule_durable import functions
from capsule_durable.bridge import Bridge
from capsule_durable.errors import from_rejection
from capsule_kernel.__main__ import main
from capsule_worker.protocol.messages import ExecuteMessage, ResultMessage


class _Outcome:
    """Stands where promises are: has the outcome of one execution."""

    target = ""

    def __init__(self) -> None:
        self.promises = self
        self.settled: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def resolve(self, _id: str, value: Any) -> None:
        self.settled.set_result(value.data)

    async def reject(self, _id: str, value: Any) -> None:
        self.settled.set_exception(RuntimeError(value.data["message"]))

    async def cancel(self, _id: str, _value: Any) -> None:
        pass


async def _run_cell(
    _resonate: Any, bridge: Bridge, request: ExecuteMessage, timeout: float = 1e6, inputs: str | None = None
) -> ResultMessage:
    outcome: Any = _Outcome()
    bridge.use(outcome)
    bridge.begin(request.id, inputs)
    try:
        await bridge.dispatch(request, "outcome", timeout)
        return ResultMessage.model_validate(await outcome.settled)
    except RuntimeError as error:
        raise from_rejection(str(error), request.id) from None
    finally:
        bridge.end(request.id)


functions.run_cell = _run_cell

if __name__ == "__main__":
    raise SystemExit(main())
