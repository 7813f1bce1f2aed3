"""Runs cells durably: each is the durable function ``execute_cell`` under the promise ``exec.{execution_id}``."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from resonate.error import ApplicationError, ConnectorError

from capsule_durable import ids
from capsule_durable.errors import EngineUnavailable, SessionClosed, from_rejection
from capsule_durable.execution.bridge import Bridge, Execution, Outcome
from capsule_durable.execution.engine_failover import FailoverEngine
from capsule_durable.execution.functions import GRACE_SECONDS, execute_cell
from capsule_worker.protocol.messages import ExecuteMessage, ResultMessage

#: Seconds that an execution may take where its caller sets no limit: thirty days.
DEFAULT_TIMEOUT_SECONDS = 30 * 24 * 3600.0


class DurableCells:
    """Starts durable executions and awaits their outcomes.

    Args:
        engine: runs the durable function.
        bridge: completes the executions.
    """

    def __init__(self, engine: FailoverEngine, bridge: Bridge) -> None:
        self._engine = engine
        self._bridge = bridge

    async def run(
        self, request: ExecuteMessage, timeout: float = DEFAULT_TIMEOUT_SECONDS, inputs_key: str | None = None
    ) -> Outcome:
        """Run a cell and return its outcome, as soon as its promise has it. The function ends a moment later.

        An execution that runs already is not started again: both callers get its outcome. If the engine cannot take
        the cell, another engine takes it, which stores the outcome in memory only.

        Args:
            request: the cell; its id is the execution id.
            timeout: seconds until it is rejected with ``ExecutionTimeout``.
            inputs_key: names its inputs, if another attempt at the cell is to get their answers; by default the
                execution id.
        """
        if self._engine.retry_at is not None:
            await self._engine.retry_if_due()
        executions = self._bridge.executions
        if request.id in executions:
            return await asyncio.shield(executions[request.id].outcome)
        has_failed_over = False
        while True:
            execution = executions[request.id] = Execution(request, inputs_key or request.id)
            function = execution.function = asyncio.get_running_loop().create_task(self._call(execution, timeout))
            outcome = None
            try:
                outcome = await execution.outcome
            except EngineUnavailable as error:
                # Nothing was dispatched.
                has_failed_over = True
                await self._engine.fall_back(error)
                continue
            finally:
                if outcome is None:
                    self._bridge.cancel(request.id)
                if outcome is None or not outcome.recorded:
                    function.cancel()
            return outcome._replace(recorded=False) if has_failed_over else outcome

    async def _call(self, execution: Execution, timeout: float) -> None:
        """Call the durable function of an execution, whose end is its outcome if there is none before."""
        request, engine = execution.request, self._engine.current
        root = ids.execution(request.id)
        try:
            engine.preallocate(root, int((time.time() + timeout + GRACE_SECONDS) * 1000))
            bound = timedelta(seconds=timeout + 2 * GRACE_SECONDS)
            handle = engine.resonate.options(timeout=bound).run(
                root, execute_cell, request.model_dump(mode="json"), timeout
            )
            try:
                # Fails where the promise cannot be created. Without it there would be no outcome to wait for.
                await handle.id()
            except ConnectorError as error:
                raise EngineUnavailable(str(error.error)) from error
            result = ResultMessage.model_validate(await handle.result())
            execution.complete(Outcome(result, recorded=True))
        except ApplicationError as rejection:
            execution.complete(Outcome(from_rejection(str(rejection), request.id), recorded=True))
        except asyncio.CancelledError:
            execution.complete(Outcome(SessionClosed("the execution was cancelled", request.id), recorded=False))
            raise
        # The caller of run gets it.
        except Exception as error:
            execution.fail(error)
        finally:
            self._bridge.executions.pop(request.id, None)
            engine.forget(root)
