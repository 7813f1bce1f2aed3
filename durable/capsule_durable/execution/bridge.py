"""Between promises and messages: sends what durable functions ask for, settles promises with what the worker answers.

The bridge is an interceptor of the session: it sees results and errors before they are routed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from resonate.error import ApplicationError, ConnectorError, ResonateError, ServerError
from resonate.send import PromiseSearchResult
from resonate.types import PromiseRecord, TaskData, Value

from capsule_durable import ids
from capsule_durable.errors import (
    ExecutionFailed,
    InputCancelled,
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
from capsule_durable.messaging.capabilities import Capabilities, InputPrompt
from capsule_durable.messaging.pending_requests import PendingRequests
from capsule_durable.messaging.session import Session
from capsule_durable.sandbox.resource_monitor import RunningCell
from capsule_durable.workers.lifecycle import CellEvent, CellState, next_cell_state
from capsule_worker.protocol import Message
from capsule_worker.protocol import messages as m

logger = logging.getLogger(__name__)

#: The function that asks for an input; a name and not the function, which is registered elsewhere.
REQUEST_INPUT = "request_input"
#: Seconds between attempts to settle a promise: the first pause and the longest, each twice the one before.
_FIRST_PAUSE, _LAST_PAUSE = 0.05, 1.0
#: Seconds that functions may take to end whose outcomes are known.
_LAST_STEPS = 2.0
#: Promises that are asked for at a time.
_PAGE = 100
#: The largest outcome that is kept whole with its promise, in bytes of JSON.
MAX_OUTCOME = 4 * 1024 * 1024


class Promises(Protocol):
    """The part of ``resonate.promises.Promises`` that the bridge uses."""

    async def create(self, id: str, timeout_at: int, param: Value, tags: dict[str, str]) -> PromiseRecord: ...  # noqa: A002, D102
    async def resolve(self, id: str, value: Value) -> PromiseRecord: ...  # noqa: A002, D102
    async def reject(self, id: str, value: Value) -> PromiseRecord: ...  # noqa: A002, D102
    async def cancel(self, id: str, value: Value) -> PromiseRecord: ...  # noqa: A002, D102
    async def get(self, id: str) -> PromiseRecord: ...  # noqa: A002, D102
    async def search(  # noqa: D102
        self, state: str | None, tags: dict[str, str] | None, limit: int | None, cursor: str | None
    ) -> PromiseSearchResult: ...


class Engine(Protocol):
    """The part of an engine that the bridge uses."""

    #: The address at which it delivers this process's work: where the input function is to run.
    target: str

    @property
    def promises(self) -> Promises:
        """Its promises."""

    def preallocate(self, root_id: str, timeout_at: int) -> None:
        """Say that an execution's root is about to be made."""

    async def result_of(self, promise_id: str) -> Any:
        """Wait for a promise and return its value."""


@dataclass(slots=True)
class _Cell:
    """An execution in flight."""

    outcome_id: str
    state: CellState = "created"
    #: When it was sent, by ``time.monotonic()``.
    since: float = 0.0

    def advance(self, event: CellEvent) -> None:
        self.state = next_cell_state(self.state, event)
        if event == "send":
            self.since = time.monotonic()


@dataclass(slots=True)
class _Execution:
    """An execution that this process has begun, until its function has ended.

    Args:
        inputs: names its inputs.
    """

    inputs: str
    #: Its outcome, as soon as that is in the promise.
    outcome: asyncio.Future[m.ResultMessage] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    #: Whether it is there; if not, the engine could not keep it.
    kept: bool = True
    sent: bool = False
    function: asyncio.Task[m.ResultMessage] | None = None

    def know(self, outcome: m.ResultMessage | BaseException) -> None:
        """Tell whoever waits, if nobody has."""
        if self.outcome.done():
            return
        if isinstance(outcome, BaseException):
            self.outcome.set_exception(outcome)
            self.outcome.exception()  # nobody may be waiting, and that is all right
        else:
            self.outcome.set_result(outcome)


class Bridge:
    """Correlates executions with their results, and inputs with their answers.

    Args:
        engine: where the promises are.
        capabilities: how to reach the person at the client.
        worker_ready: waits until there is a worker to send to.
        input_timeout: how long an input may stay unanswered.
        unkept: told that the engine cannot keep what came of an execution.
        abandoned: told, in words, of a cell of an earlier process that no outcome will come of.
    """

    def __init__(
        self,
        engine: Engine,
        capabilities: Capabilities,
        worker_ready: Callable[[], Awaitable[None]],
        input_timeout: timedelta = timedelta(days=30),
        unkept: Callable[[str], None] = lambda _id: None,
        abandoned: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._engine = engine
        self._unkept = unkept
        self._abandoned = abandoned
        self._capabilities = capabilities
        self._worker_ready = worker_ready
        self._input_timeout = input_timeout
        self._session: Session | None = None
        self._cells: dict[str, _Cell] = {}
        self._inputs: defaultdict[str, list[str]] = defaultdict(list)
        self._input_counts: dict[str, int] = {}
        self._secrets: dict[str, str] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        #: Executions of this process that are not over.
        self._begun: dict[str, _Execution] = {}
        #: Waits for a worker, to send to it.
        self._sending: set[asyncio.Task[None]] = set()
        #: Executions of earlier processes that were told of.
        self._told: set[str] = set()
        self._closed = False
        #: Executions that wait for their results.
        self.executions = PendingRequests(asyncio.get_running_loop().call_later)

    @property
    def pending(self) -> int:
        """How many executions and inputs are unanswered; 0 between cells."""
        return len(self.executions) + sum(map(len, self._inputs.values()))

    @property
    def high_water_mark(self) -> int:
        """The most executions that ever waited at once."""
        return self.executions.high_water_mark

    def connect(self, session: Session) -> None:
        """Send through ``session`` and listen to it."""
        self._session = session
        session.add_message_interceptor(self.intercept)

    def use(self, engine: Engine) -> None:
        """Keep what comes from now on in another engine."""
        self._engine = engine

    # -- executions ------------------------------------------------------------------------------------------

    async def run(
        self, execution_id: str, function: Coroutine[Any, Any, m.ResultMessage], inputs: str | None = None
    ) -> m.ResultMessage:
        """Begin an execution; return its result once its promise has it, a moment before the function ends.

        Args:
            execution_id: the execution. One that this process has not begun is an earlier process's.
            function: runs the durable function to its end, and calls ``end`` then.
            inputs: names its inputs, if another attempt at the same is to have their answers.

        Raises:
            ExecutionFailed: there is no result.
        """
        if execution_id in self._begun:
            function.close()
            return await asyncio.shield(self._begun[execution_id].outcome)
        begun = self._begun[execution_id] = _Execution(inputs or execution_id)
        begun.function = asyncio.get_running_loop().create_task(function)
        # What ends the function before there is an outcome is one.
        begun.function.add_done_callback(lambda done: begun.know(_ended(done, execution_id)))
        try:
            return await begun.outcome
        finally:
            if not (begun.outcome.done() and begun.kept):
                begun.function.cancel()

    def preallocate(self, execution_id: str, timeout: float) -> None:
        """Say that an execution's promise is about to be made, whose outcome may take ``timeout`` seconds."""
        self._engine.preallocate(ids.execution(execution_id), int((time.time() + timeout) * 1000))

    def end(self, execution_id: str) -> None:
        """Say that an execution's function has ended."""
        self._begun.pop(execution_id, None)

    def go_on(self, request: dict[str, Any], outcome_id: str, timeout: float) -> None:
        """See to an execution whose function runs, or runs again: send it, once, or say that no outcome will come.

        Args:
            request: an ``ExecuteMessage`` as a dict.
            outcome_id: the promise of its outcome.
            timeout: seconds, as for ``dispatch``.
        """
        begun = self._begun.get(request["id"])
        if begun is None:
            self._start(self._abandon(request, outcome_id))
        elif not begun.sent:
            begun.sent = True
            sending = self.dispatch(m.ExecuteMessage.model_validate(request), outcome_id, timeout)
            # At once, where there is a worker: what the engine does beside it can come later.
            task = asyncio.Task(sending, loop=asyncio.get_running_loop(), eager_start=True)
            if not task.done():
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)

    async def settle_abandoned(self) -> None:
        """Settle what an earlier process of this kernel was doing when it ended; nobody else will.

        Raises:
            ResonateError: the engine does not answer.
        """
        promises, cursor = self._engine.promises, None
        while True:
            page = await promises.search("pending", {"resonate:target": self._engine.target}, _PAGE, cursor)
            for promise in page.promises:
                execution_id, _, step = promise.id.removeprefix(ids.EXECUTION).partition(":")
                if not promise.id.startswith(ids.EXECUTION) or execution_id in self._begun:
                    continue
                # What is settled meanwhile, or was not made yet, is seen to by its function.
                with contextlib.suppress(ServerError):
                    if step:
                        await promises.cancel(promise.id, Value())
                    else:
                        task: Any = promise.param.data
                        await self._abandon(task["args"][0], ids.outcome(promise.id))
            cursor = page.cursor
            if cursor is None:
                return

    async def _abandon(self, request: dict[str, Any], outcome_id: str) -> None:
        """Reject the outcome of an execution that ended with its process, and tell of it, once; if it has none."""
        with contextlib.suppress(ServerError):  # it was not made yet
            if (await self._engine.promises.get(outcome_id)).state != "pending":
                return
        execution_id, number = request["id"], request.get("execution_count")
        text = (
            f"the kernel's process ended while {f'In [{number}]' if number else 'the cell'} ran;"
            " what it had done until then may have taken effect"
        )
        if execution_id not in self._told:
            self._told.add(execution_id)
            self._abandoned(text)
        await self._keep(outcome_id, KernelDied(text, execution_id))

    async def dispatch(self, message: m.ExecuteMessage, outcome_id: str, timeout: float) -> None:
        """Send one execution to the worker; its result will settle the promise ``outcome_id``.

        Where that cannot be done the promise is rejected with the reason: nothing is raised, nothing stays pending.

        Args:
            message: the execution.
            outcome_id: the promise of its outcome.
            timeout: seconds until it is rejected with ``ExecutionTimeout``.
        """
        if self._closed:
            self._start(self._keep(outcome_id, SessionClosed("the session was closed", message.id)))
            return
        cell = _Cell(outcome_id)
        cell.advance("dispatch")
        self._cells[message.id] = cell
        self.executions.register(
            message.id,
            capability="execute",
            execution_id=message.id,
            timeout=timeout,
            settle=lambda result: self._finish(message.id, result),
            fail=lambda error: self._finish(message.id, error),
        )
        try:
            try:
                await self._send(message, cell)
            except TransportClosed:
                # The worker has ended, and nobody has noticed yet. What it did not get is for the next one.
                await self._send(message, cell)
        except TransportClosed as error:
            self.executions.fail(message.id, WorkerDied(str(error), message.id))
        except ExecutionFailed as error:
            # One error may tell many executions why there is no worker; each gets its own.
            self.executions.fail(message.id, type(error)(error.message, message.id, **error.fields))
        except ProtocolError as error:
            self.executions.fail(message.id, InternalError(f"the cell cannot be sent: {error}", message.id))

    async def _send(self, message: m.ExecuteMessage, cell: _Cell) -> None:
        await self._worker_ready()
        if message.id in self.executions:
            assert self._session is not None
            self._session.send(message)
            cell.advance("send")

    def intercept(self, message: Message) -> None:
        """Take results and errors of executions; everything else is the session's."""
        match message:
            case m.ResultMessage(execution_id=execution_id):
                if not self.is_running(execution_id) or not self.executions.settle(execution_id, message):
                    logger.debug("late, repeated or unknown result of execution %s", execution_id)
            case m.ErrorMessage(execution_id=str() as execution_id):
                error = failure_from_message(message)
                if not self.executions.fail(execution_id, error):
                    logger.debug("late, repeated or unknown error of execution %s", execution_id)

    @property
    def cell(self) -> RunningCell | None:
        """The execution that runs in the worker, if one does."""
        return next(
            (RunningCell(name, cell.since) for name, cell in self._cells.items() if cell.state == "running"), None
        )

    def is_running(self, execution_id: str) -> bool:
        """Whether the execution was sent, and is not settled; a result that comes earlier is forged."""
        cell = self._cells.get(execution_id)
        return cell is not None and cell.state == "running"

    def worker_died(self, error: Callable[[str], ExecutionFailed]) -> int:
        """Reject every execution that was sent to the worker; return how many there were. The rest waits on."""
        sent = [execution_id for execution_id in self._cells if self.is_running(execution_id)]
        return sum(self.executions.fail(execution_id, error(execution_id)) for execution_id in sent)

    def _finish(self, execution_id: str, result: m.ResultMessage | ExecutionFailed) -> None:
        cell = self._cells.pop(execution_id)
        begun = self._begun.get(execution_id)
        again = begun is not None and begun.inputs != execution_id
        # Who executes the same again, in this process or in the next, gets the answers that are given meanwhile.
        self._cancel_inputs(execution_id, settle=isinstance(result, m.ResultMessage) or not again)
        cell.advance("failure" if isinstance(result, ExecutionFailed) else "result")
        self._start(self._keep(cell.outcome_id, result))

    # -- inputs ----------------------------------------------------------------------------------------------

    async def ask(self, execution_id: str, prompt: str, password: bool) -> str:
        """Return the answer to the next input of an execution, from whoever gives it first.

        The input is the promise ``exec.{execution_id}:input.{n}``. It is settled by the client's prompt, or from
        elsewhere with ``{"value": TEXT}`` or a text. An answer to a password prompt never becomes its value.

        Raises:
            InputCancelled: the cell has ended, or the promise was cancelled or timed out.
        """
        if execution_id not in self.executions:
            msg = "input() was called by code whose cell has ended; nobody can answer"
            raise InputCancelled(msg)
        n = self._input_counts[execution_id] = self._input_counts.get(execution_id, 0) + 1
        # A secret is not kept, and so is asked for again.
        begun = self._begun.get(execution_id)
        named = execution_id if password or begun is None else begun.inputs
        input_id = ids.execution_input(named, n)
        root = ids.execution(execution_id)
        task = TaskData(func=REQUEST_INPUT, args=(execution_id, prompt, password), kwargs={}, version=1)
        promise = await self._engine.promises.create(
            input_id,
            int((time.time() + self._input_timeout.total_seconds()) * 1000),
            Value(data=task),
            {
                "resonate:origin": root,
                "resonate:branch": input_id,
                "resonate:parent": root,
                "resonate:scope": "global",
                "resonate:target": self._engine.target,
                "resonate:external": "true",
                ids.INPUT_TAG: "true",
            },
        )
        self._inputs[execution_id].append(input_id)
        if promise.state == "pending" and promise.tags.get("resonate:target") != self._engine.target:
            # It was asked for by an earlier process, whose function would show it.
            self._capabilities.prompt(InputPrompt(execution_id, input_id, prompt, password))
        try:
            answer = await self._engine.result_of(input_id)
        except ApplicationError as error:
            msg = f"the input was not answered: {error}"
            raise InputCancelled(msg) from error
        finally:
            self._forget_input(execution_id, input_id)
        if isinstance(answer, dict) and "secret" in answer:
            return self._secrets.pop(str(answer["secret"]), "")
        return str(answer["value"] if isinstance(answer, dict) and "value" in answer else answer)

    def prompt(self, question: InputPrompt) -> None:
        """Show a question at the client; called by the durable input function."""
        self._capabilities.prompt(question)

    def answer(self, question: InputPrompt, value: str) -> None:
        """Take the client's answer. A password stays in this process's memory; its promise gets a token."""
        record: dict[str, str] = {"value": value}
        if question.password:
            token = uuid.uuid4().hex
            self._secrets[token] = value
            record = {"secret": token}
        self._start(self._settle(self._engine.promises.resolve, question.answer_id, record))

    def answer_secret(self, input_id: str, value: str) -> bool:
        """Take the answer to a password prompt from elsewhere; return whether it waits here."""
        if not any(input_id in waiting for waiting in self._inputs.values()):
            return False
        token = uuid.uuid4().hex
        self._secrets[token] = value
        self._start(self._settle(self._engine.promises.resolve, input_id, {"secret": token}))
        return True

    def _cancel_inputs(self, execution_id: str, *, settle: bool) -> None:
        self._input_counts.pop(execution_id, None)
        for input_id in self._inputs.pop(execution_id, []) if settle else ():
            self._start(self._settle(self._engine.promises.cancel, input_id, None))

    def _forget_input(self, execution_id: str, input_id: str) -> None:
        pending = self._inputs.get(execution_id)
        if pending is not None and input_id in pending:
            pending.remove(input_id)
            if not pending:
                del self._inputs[execution_id]

    # -- the end ---------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Reject what is pending and let the promises be settled. Idempotent."""
        self._closed = True
        for task in list(self._sending):
            task.cancel()
        if self._session is not None:
            self._session.remove_message_interceptor(self.intercept)
        self.executions.fail_all(lambda execution_id: SessionClosed("the session was closed", execution_id))
        while self._tasks:
            # Not ``gather``, which lets nobody else go first where all are done: they would stay in the set for ever.
            await asyncio.wait(self._tasks)
        functions = [begun.function for begun in self._begun.values() if begun.function is not None]
        if functions:
            await asyncio.wait(functions, timeout=_LAST_STEPS)

    def _start(self, coro: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(coro)
        if not task.done():  # it may have begun, and ended, at once
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _keep(self, outcome_id: str, outcome: m.ResultMessage | ExecutionFailed) -> None:
        """Settle the promise of an outcome, and then give that to whoever waits for it, who gets it in any case."""
        promises, execution_id = self._engine.promises, outcome.execution_id
        record: Any
        if isinstance(outcome, ExecutionFailed):
            settle, record = promises.reject, rejection_text(outcome.to_rejection())
            outcome = from_rejection(record["message"], execution_id)
        else:
            outcome = bounded(outcome)
            settle, record = promises.resolve, outcome.model_dump(mode="json")
        kept = await self._settle(settle, outcome_id, record)
        begun = self._begun.get(execution_id)
        if begun is None:
            return
        if not kept:
            begun.kept = False
            self._unkept(execution_id)
        begun.know(outcome)

    async def _settle(self, settle: Callable[..., Awaitable[Any]], promise_id: str, record: Any) -> bool:
        """Settle a promise, if need be after some attempts; return whether it is."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await settle(promise_id, Value(data=record))
            except ResonateError as error:
                if pause <= _LAST_PAUSE and _is_retryable(error):
                    await asyncio.sleep(pause)
                    pause *= 2
                    continue
                logger.error("promise %s could not be settled: %s", promise_id, error)  # noqa: TRY400  # no fault of ours
                return False
            return True


def _ended(function: asyncio.Task[m.ResultMessage], execution_id: str) -> m.ResultMessage | BaseException:
    """Return what came of a function."""
    if function.cancelled():
        return SessionClosed("the execution was cancelled", execution_id)
    return function.exception() or function.result()


def _is_retryable(error: ResonateError) -> bool:
    """Whether the same may succeed soon."""
    return isinstance(error, ConnectorError) and getattr(error.error, "retryable", False)


def bounded(result: m.ResultMessage) -> m.ResultMessage:
    """Return a result as the promise of its execution keeps it: without what is too large."""
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
