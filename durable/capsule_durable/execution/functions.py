"""The durable functions. Promise-first: each makes its promise before anything happens that should settle it.

They do no I/O of their own, know no socket and no event loop: what there is to do, the bridge does. Every function is
versioned; a changed body gets a new version, since the SDK replays what it finds without asking whether it still fits.
Annotations are not put off here, since the SDK would evaluate them anew for each call.
"""

from datetime import timedelta
from typing import Any

from resonate.context import Context
from resonate.error import ApplicationError, ConnectorError
from resonate.resonate import Resonate
from resonate.retry import Never

from capsule_durable import ids
from capsule_durable.errors import EngineUnavailable, Rejection, from_rejection
from capsule_durable.execution.bridge import REQUEST_INPUT, Bridge
from capsule_durable.messaging.capabilities import InputPrompt
from capsule_worker.protocol.messages import ExecuteMessage, ResultMessage

#: Seconds that an execution may take where its caller names no bound: thirty days.
DEFAULT_TIMEOUT = 30 * 24 * 3600.0
#: Seconds by which the promise outlives the bridge's own timer, so that the timer's richer rejection wins.
_GRACE = 60.0
#: A child's timeout is bounded by its parent's; without one the SDK takes a day.
_AS_LONG_AS_THE_PARENT = timedelta(days=3650)


async def execute_cell(ctx: Context, request: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Run one cell and return its outcome, a ``ResultMessage`` as a dict.

    Args:
        ctx: the SDK's context.
        request: an ``ExecuteMessage`` as a dict.
        timeout: seconds.

    Raises:
        Rejection: there is no outcome; ``run_cell`` makes the structured error of it.
    """
    outcome = ctx.promise(timeout=timedelta(seconds=timeout + _GRACE))
    outcome_id = await outcome.id()
    # Not a step, which would cost two requests: the bridge sends an execution once, however often this is run, and only
    # where the process that began it is this one.
    ctx.get_dependency(Bridge).go_on(request, outcome_id, timeout)
    try:
        record: dict[str, Any] = await outcome
    except ApplicationError as rejection:
        raise Rejection(str(rejection)) from None
    return record


async def request_input(ctx: Context, execution_id: str, prompt: str, password: bool) -> Any:
    """Ask the person at the client and return the answer's record.

    Runs under the input's own promise: who settles that from elsewhere answers first.
    """
    answer = ctx.promise(timeout=_AS_LONG_AS_THE_PARENT)
    answer_id = await answer.id()
    await ctx.run(show_prompt, InputPrompt(execution_id, answer_id, prompt, password))
    return await answer


def show_prompt(ctx: Context, question: InputPrompt) -> None:
    """Have the bridge show the question."""
    ctx.get_dependency(Bridge).prompt(question)


def register(resonate: Resonate) -> None:
    """Register the durable functions, once for each engine."""
    resonate.register(execute_cell, name="execute_cell", version=1, retry_policy=Never())
    resonate.register(request_input, name=REQUEST_INPUT, version=1, retry_policy=Never())


async def run_cell(
    resonate: Resonate,
    bridge: Bridge,
    request: ExecuteMessage,
    timeout: float = DEFAULT_TIMEOUT,
    inputs: str | None = None,
) -> ResultMessage:
    """Run one cell durably, under the promise ``exec.{execution_id}``, and return its result once its promise has it.

    The function ends a moment later, which nobody waits for.

    Args:
        resonate: an engine on which ``register`` was called, with the bridge as a dependency.
        bridge: that one.
        request: the cell; its id is the execution id.
        timeout: seconds.
        inputs: names its inputs, if another attempt at the same is to have their answers.

    Raises:
        ExecutionFailed: there is no result; its class says why, its notes carry execution id and rejection.
        EngineUnavailable: the engine cannot take it; nothing was begun.
    """
    return await bridge.run(request.id, _execute(resonate, bridge, request, timeout), inputs)


async def _execute(resonate: Resonate, bridge: Bridge, request: ExecuteMessage, timeout: float) -> ResultMessage:
    """Run the function to its end."""
    bound = timedelta(seconds=timeout + 2 * _GRACE)
    try:
        bridge.preallocate(request.id, timeout + _GRACE)
        handle = resonate.options(timeout=bound).run(
            ids.execution(request.id), execute_cell, request.model_dump(mode="json"), timeout
        )
        try:
            # Fails where the promise cannot be made; without it one would wait for the outcome of nothing.
            await handle.id()
        except ConnectorError as error:
            raise EngineUnavailable(str(error.error)) from error
        try:
            record = await handle.result()
        except ApplicationError as rejection:
            raise from_rejection(str(rejection), request.id) from None
        return ResultMessage.model_validate(record)
    finally:
        bridge.end(request.id)
