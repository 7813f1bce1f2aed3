"""The same kernel without durable execution: a cell goes to the worker and back, and no promise is created for it.

``engine.py`` starts this program in place of the kernel.
"""

from __future__ import annotations

from typing import Any, Literal

from capsule_durable.execution import runtime
from capsule_durable.execution.bridge import Execution, Outcome
from capsule_durable.execution.durable_cells import DEFAULT_TIMEOUT_SECONDS, DurableCells
from capsule_durable.execution.engine_failover import FailoverEngine
from capsule_kernel.__main__ import main
from capsule_worker.protocol.messages import ExecuteMessage

#: Stands for the id of an outcome's promise.
_NO_PROMISE = ""


class _DirectCells(DurableCells):
    """Dispatches cells without durable functions."""

    async def run(
        self, request: ExecuteMessage, timeout: float = DEFAULT_TIMEOUT_SECONDS, inputs_key: str | None = None
    ) -> Outcome:
        executions = self._bridge.executions
        execution = executions[request.id] = Execution(request, inputs_key or request.id)
        try:
            self._bridge.dispatch({"id": request.id}, _NO_PROMISE, timeout)
            return await execution.outcome
        finally:
            del executions[request.id]


class _PromiselessEngine(FailoverEngine):
    """Stores no outcomes. The bridge settles one for every cell."""

    async def settle(self, how: Literal["resolve", "reject", "cancel"], promise_id: str, record: Any = None) -> bool:
        return promise_id == _NO_PROMISE or await super().settle(how, promise_id, record)


runtime.DurableCells = _DirectCells  # type: ignore[attr-defined]
runtime.FailoverEngine = _PromiselessEngine  # type: ignore[attr-defined]

if __name__ == "__main__":
    raise SystemExit(main())
