"""Between promises and messages: sends executions to the worker and settles their promises with its answers.

The bridge is an interceptor of the session: it sees results and errors before they are routed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from resonate.error import ServerError
from resonate.types import Value

from capsule_durable import ids
from capsule_durable.errors import (
    ExecutionFailed,
    InternalError,
    KernelDied,
    ProtocolError,
    SessionClosed,
    TransportClosed,
    WorkerDied,
    failure_from_message,
    from_rejection,
    rejection_text,
)
from capsule_durable.execution.background import BackgroundTasks
from capsule_durable.messaging.pending_requests import PendingRequests
from capsule_durable.workers.lifecycle import CELL
from capsule_worker.protocol import Message
from capsule_worker.protocol import messages as m

if TYPE_CHECKING:
    from capsule_durable.execution.engine_failover import FailoverEngine
    from capsule_durable.execution.inputs import InputBroker
    from capsule_durable.messaging.capabilities import Capabilities
    from capsule_durable.messaging.notices import Notices
    from capsule_durable.messaging.session import Session
    from capsule_durable.workers.process import WorkerDeath

logger = logging.getLogger(__name__)

#: Seconds that durable functions may take to end after their outcomes are known.
_END_TIMEOUT_SECONDS = 2.0
#: The largest outcome that is stored whole with its promise, in bytes of JSON.
MAX_OUTCOME = 4 * 1024 * 1024


class Worker(Protocol):
    """The part of ``AttachedWorker`` that the bridge uses."""

    #: Done when the worker has ended and all its messages were routed.
    died: asyncio.Future[WorkerDeath]

    def send_cell(self, message: m.ExecuteMessage) -> None:
        """Send a cell."""

    def release(self, execution_id: str) -> None:
        """Forget a cell that does not run any more."""


class Workers(Protocol):
    """The part of ``WorkerSupervisor`` that the bridge uses."""

    async def ready(self) -> Worker:
        """Wait until a worker can run cells, and return it."""


class Outcome(NamedTuple):
    """How an execution ended.

    Args:
        result: its result, or why there is none.
        recorded: whether the promise of the execution has it.
    """

    result: m.ResultMessage | ExecutionFailed
    recorded: bool


@dataclass(slots=True)
class Execution:
    """An execution that this process has begun, until its durable function has ended.

    Args:
        request: the cell.
        inputs_key: names its inputs; attempts at the same cell share it.
    """

    request: m.ExecuteMessage
    inputs_key: str
    outcome: asyncio.Future[Outcome] = field(default_factory=asyncio.Future)
    #: Runs its durable function.
    function: asyncio.Task[None] | None = None
    #: The worker that it was sent to.
    worker: Worker | None = None
    #: Runs it from its dispatch until its outcome is recorded.
    task: asyncio.Task[None] | None = None
    #: A state of ``lifecycle.CELL``.
    state: str = "created"

    def complete(self, outcome: Outcome) -> None:
        """Deliver an outcome, if there is none yet."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def fail(self, error: Exception) -> None:
        """Deliver why the execution could not be started, if there is no outcome yet."""
        if not self.outcome.done():
            self.outcome.set_exception(error)
            self.outcome.exception()  # its caller may have been cancelled


class Bridge:
    """Sends executions to the worker and settles their promises.

    Each execution has one task, which sends it to the worker, waits for the answer and settles the promise of its
    outcome. Whatever happens, the task ends, the promise is settled and nothing stays pending.

    Args:
        engine: stores the promises.
        workers: provide the worker that runs cells.
        inputs: takes the inputs of the executions.
        capabilities: show what a worker printed before it died.
        notices: tells the user about cells that ended with an earlier process.
    """

    def __init__(
        self,
        engine: FailoverEngine,
        workers: Workers,
        inputs: InputBroker,
        capabilities: Capabilities,
        notices: Notices,
    ) -> None:
        self._engine = engine
        self._workers = workers
        self._inputs = inputs
        self._capabilities = capabilities
        self._notices = notices
        self._session: Session | None = None
        #: Executions whose durable functions run in this process; ``DurableCells`` adds and removes them.
        self.executions: dict[str, Execution] = {}
        #: Executions that are dispatched and not answered.
        self._dispatched: dict[str, Execution] = {}
        #: Executions that wait for their results.
        self._pending = PendingRequests(asyncio.get_running_loop().call_later)
        self._tasks = BackgroundTasks()
        #: One task for each worker that got executions, which waits until it has died.
        self._watches: dict[Worker, asyncio.Task[None]] = {}
        #: Executions of earlier processes that were reported.
        self._reported: set[str] = set()
        self._closed = False

    @property
    def pending(self) -> int:
        """How many executions and inputs are unanswered; 0 between cells."""
        return len(self._pending) + self._inputs.pending

    @property
    def high_water_mark(self) -> int:
        """The most executions that ever waited at once."""
        return self._pending.high_water_mark

    def connect(self, session: Session) -> None:
        """Intercept the messages of a session from now on."""
        self._session = session
        session.add_message_interceptor(self.intercept, m.ResultMessage, m.ErrorMessage)

    # -- executions ------------------------------------------------------------------------------------------

    def cancel(self, execution_id: str) -> None:
        """Reject an execution whose caller does not wait any more.

        Args:
            execution_id: the execution.
        """
        self._pending.fail(execution_id, SessionClosed("the execution was cancelled", execution_id))

    def dispatch(self, request: dict[str, Any], outcome_id: str, timeout: float) -> None:
        """Start the task of an execution; its durable function waits for the promise of the outcome.

        A function that is replayed calls this again, which changes nothing. An execution that this process has not
        begun is an earlier process's: its outcome is rejected.

        Args:
            request: an ``ExecuteMessage`` as a dict.
            outcome_id: the promise of its outcome.
            timeout: seconds until it is rejected with ``ExecutionTimeout``.
        """
        execution = self.executions.get(request["id"])
        if execution is None:
            self._tasks.start(self._abandon(request, outcome_id))
        elif execution.state == "created":
            execution.state = CELL[execution.state, "dispatch"]
            carrying_out = self._carry_out(execution, outcome_id, timeout)
            # At once: the message is sent before the engine has done the rest of its work.
            execution.task = asyncio.Task(carrying_out, loop=asyncio.get_running_loop(), eager_start=True)

    async def _carry_out(self, execution: Execution, outcome_id: str, timeout: float) -> None:
        """Run an execution from its dispatch until its outcome is recorded."""
        execution_id = execution.request.id
        result: m.ResultMessage | ExecutionFailed = SessionClosed("the session was closed", execution_id)
        if not self._closed:
            self._dispatched[execution_id] = execution
            try:
                result = await self._answer(execution, timeout)
            finally:
                del self._dispatched[execution_id]
            if execution.worker is not None:
                execution.worker.release(execution_id)
        is_failure = isinstance(result, ExecutionFailed)
        execution.state = CELL[execution.state, "failure" if is_failure else "result"]
        # Another attempt at the same cell, in this process or a later one, gets the answers that are given meanwhile.
        self._inputs.close(execution_id, cancel=not is_failure or execution.inputs_key == execution_id)
        execution.complete(await self._record(outcome_id, result))

    async def _answer(self, execution: Execution, timeout: float) -> m.ResultMessage | ExecutionFailed:
        """Return the answer of a worker to an execution, or why there is none."""
        execution_id = execution.request.id
        answer: asyncio.Future[m.ResultMessage] = asyncio.get_running_loop().create_future()
        try:
            await self._send(execution, answer, timeout)
            return await answer
        except TransportClosed as error:
            return WorkerDied(str(error), execution_id)
        except ProtocolError as error:
            return InternalError(f"the cell cannot be sent: {error}", execution_id)
        except ExecutionFailed as error:
            # One error may tell many executions why there is no worker; each gets its own.
            return type(error)(error.message, execution_id, **error.fields)
        # Every execution is answered, whatever fails here.
        except Exception as error:
            logger.exception("execution %s could not be carried out", execution_id)
            return InternalError(f"{type(error).__name__}: {error}", execution_id)
        finally:
            if not answer.done():
                self._pending.discard(execution_id)

    async def _send(self, execution: Execution, answer: asyncio.Future[Any], timeout: float) -> None:
        """Send an execution to the worker, unless it times out or the bridge is closed before there is one.

        Raises:
            TransportClosed: two workers have ended before they got it.
            ExecutionFailed: there is no worker.
            ProtocolError: the message cannot be encoded.
        """
        request = execution.request
        self._inputs.open(request.id, execution.inputs_key)
        self._pending.register(request.id, answer, capability="execute", execution_id=request.id, timeout=timeout)
        for is_last in (False, True):
            ready = asyncio.Task(self._workers.ready(), loop=asyncio.get_running_loop(), eager_start=True)
            if not ready.done():
                await asyncio.wait((ready, answer), return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                ready.cancel()
                await asyncio.gather(ready, return_exceptions=True)
                return
            worker = ready.result()
            try:
                worker.send_cell(request)
            except TransportClosed:
                # The worker has ended and its end was not noticed yet. What it did not get is for the next one.
                if is_last:
                    raise
            else:
                execution.state = CELL[execution.state, "send"]
                execution.worker = worker
                if worker not in self._watches:
                    self._watches[worker] = asyncio.get_running_loop().create_task(self._watch(worker))
                return

    async def _watch(self, worker: Worker) -> None:
        """Reject the executions that a worker runs when it dies."""
        death = await worker.died
        del self._watches[worker]
        try:
            self._show_last_words(death)
        # Its executions are rejected, whatever happens at the client.
        except Exception:
            logger.exception("the last output of a worker could not be shown")
        for execution_id, execution in list(self._dispatched.items()):
            if execution.worker is worker:
                self._pending.fail(execution_id, death.error(execution_id))

    def _show_last_words(self, death: WorkerDeath) -> None:
        """Show the output that a worker had not sent below the cell that it ran, and where its code was."""
        if death.execution_id is not None:
            for name, text in death.exit.last_words:
                self._capabilities.stream(death.execution_id, m.StreamOutput(name=name, text=text))
            if death.exit.stack:
                self._capabilities.stream(death.execution_id, m.StreamOutput(name="stderr", text=death.exit.stack))

    def intercept(self, message: Message) -> None:
        """Take results and errors of executions. Those of an execution that was not sent are forged.

        Args:
            message: a ``ResultMessage`` or an ``ErrorMessage``; any other one is ignored.
        """
        match message:
            case m.ResultMessage(execution_id=execution_id):
                if not self._is_running(execution_id) or not self._pending.settle(execution_id, message):
                    logger.debug("late, repeated or unknown result of execution %s", execution_id)
            case m.ErrorMessage(execution_id=str() as execution_id):
                error = failure_from_message(message)
                if not self._is_running(execution_id) or not self._pending.fail(execution_id, error):
                    logger.debug("late, repeated or unknown error of execution %s", execution_id)

    def _is_running(self, execution_id: str) -> bool:
        execution = self._dispatched.get(execution_id)
        return execution is not None and execution.state == "running"

    async def _record(self, outcome_id: str, result: m.ResultMessage | ExecutionFailed) -> Outcome:
        """Settle the promise of an outcome; return the outcome, also where the engine does not store it."""
        if isinstance(result, ExecutionFailed):
            record = rejection_text(result.to_rejection())
            result = from_rejection(record["message"], result.execution_id)
            recorded = await self._engine.settle("reject", outcome_id, record)
        else:
            result = bounded(result)
            recorded = await self._engine.settle("resolve", outcome_id, result.model_dump(mode="json"))
        if not recorded and result.execution_id == self._notices.cell:
            self._notices.add("The result of this cell was not recorded: the store of promises could not be written.")
        return Outcome(result, recorded)

    # -- executions of earlier processes ---------------------------------------------------------------------

    async def settle_abandoned(self) -> None:
        """Settle the promises of an earlier process of this kernel; no other process does.

        Raises:
            ResonateError: the engine does not answer.
        """
        engine = self._engine.current
        async for promise in engine.search_all("pending", {"resonate:target": engine.target}):
            execution_id, _, step = promise.id.removeprefix(ids.EXECUTION).partition(":")
            if not promise.id.startswith(ids.EXECUTION) or execution_id in self.executions:
                continue
            # What is settled meanwhile, or was not created yet, its function settles.
            with contextlib.suppress(ServerError):
                if step:
                    await engine.promises.cancel(promise.id, Value())
                else:
                    task: Any = promise.param.data
                    await self._abandon(task["args"][0], ids.outcome(promise.id))

    async def _abandon(self, request: dict[str, Any], outcome_id: str) -> None:
        """Reject the outcome of an execution that ended with its process, if it has none, and tell the user once."""
        with contextlib.suppress(ServerError):  # it was not created yet
            if (await self._engine.current.promises.get(outcome_id)).state != "pending":
                return
        execution_id, number = request["id"], request.get("execution_count")
        text = (
            f"the kernel's process ended while {f'In [{number}]' if number else 'the cell'} ran;"
            " what it had done until then may have taken effect"
        )
        if execution_id not in self._reported:
            self._reported.add(execution_id)
            self._notices.add(text)
        await self._record(outcome_id, KernelDied(text, execution_id))

    async def close(self) -> None:
        """Reject the pending executions and wait until all promises are settled. Idempotent."""
        self._closed = True
        for watch in self._watches.values():
            watch.cancel()
        if self._session is not None:
            self._session.remove_message_interceptor(self.intercept)
        self._pending.fail_all(lambda execution_id: SessionClosed("the session was closed", execution_id))
        running = [each.task for each in self.executions.values() if each.task is not None]
        running += [each.task for each in self._dispatched.values() if each.task is not None]
        if running:
            await asyncio.wait(running)
        await self._tasks.wait()
        await self._inputs.wait()
        functions = [each.function for each in self.executions.values() if each.function is not None]
        if functions:
            await asyncio.wait(functions, timeout=_END_TIMEOUT_SECONDS)


def bounded(result: m.ResultMessage) -> m.ResultMessage:
    """Return a result as the promise of its execution stores it: without the parts that are too large.

    Args:
        result: the result of a cell; it is not changed.
    """
    if len(result.model_dump_json()) <= MAX_OUTCOME:
        return result
    note = f"left out: the cell's result exceeds {MAX_OUTCOME:,} bytes"
    return result.model_copy(
        update={
            "payload": [],
            "user_expressions": {
                name: {"status": "error", "ename": "OutcomeTooLarge", "evalue": note, "traceback": []}
                for name in result.user_expressions
            },
            "traceback": [line[:2000] for line in [*result.traceback[:50], note]],
            "evalue": result.evalue and result.evalue[:10_000],
        }
    )
