"""The durable functions. Each creates its promise before anything happens that should settle it.

They do no I/O, and use no socket and no event loop: the bridge and the input broker act for them. Every function has a
version. A changed body gets a new version, since the SDK replays recorded steps without checking that they still fit.
Annotations are not postponed here, since the SDK would evaluate them anew for each call.
"""

from datetime import timedelta
from typing import Any

from resonate.context import Context
from resonate.error import ApplicationError
from resonate.resonate import Resonate
from resonate.retry import Never

from capsule_durable.errors import Rejection
from capsule_durable.execution.bridge import Bridge
from capsule_durable.execution.inputs import REQUEST_INPUT, InputBroker
from capsule_durable.messaging.capabilities import InputPrompt

#: Seconds by which the promise outlives the bridge's own timer, so that the timer's richer rejection wins.
GRACE_SECONDS = 60.0
#: A child's timeout is bounded by its parent's; without one the SDK takes a day.
_TIMEOUT_OF_PARENT = timedelta(days=3650)


async def execute_cell(ctx: Context, request: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Run one cell and return its outcome, a ``ResultMessage`` as a dict.

    Args:
        ctx: the SDK's context.
        request: an ``ExecuteMessage`` as a dict.
        timeout: seconds.

    Raises:
        Rejection: there is no outcome; its text is the rejection of the promise.
    """
    outcome = ctx.promise(timeout=timedelta(seconds=timeout + GRACE_SECONDS))
    outcome_id = await outcome.id()
    # Not a step, which would cost two requests: the bridge sends an execution once, however often this is run, and only
    # where the process that began it is this one.
    ctx.get_dependency(Bridge).dispatch(request, outcome_id, timeout)
    try:
        record: dict[str, Any] = await outcome
    except ApplicationError as rejection:
        raise Rejection(str(rejection)) from None
    return record


async def request_input(ctx: Context, execution_id: str, prompt: str, password: bool) -> Any:
    """Ask the person at the client and return the answer's record.

    Runs under the promise of the input: an answer from another process settles that first.

    Args:
        ctx: the SDK's context.
        execution_id: the execution that waits for the input.
        prompt: text to show.
        password: whether the answer must not be shown or stored.
    """
    answer = ctx.promise(timeout=_TIMEOUT_OF_PARENT)
    answer_id = await answer.id()
    await ctx.run(show_prompt, InputPrompt(execution_id, answer_id, prompt, password))
    return await answer


def show_prompt(ctx: Context, question: InputPrompt) -> None:
    """Show a prompt at the client.

    Args:
        ctx: the SDK's context.
        question: the prompt.
    """
    ctx.get_dependency(InputBroker).prompt(question)


def register(resonate: Resonate) -> None:
    """Register the durable functions, once for each engine."""
    resonate.register(execute_cell, name="execute_cell", version=1, retry_policy=Never())
    resonate.register(request_input, name=REQUEST_INPUT, version=1, retry_policy=Never())
