"""The inputs of cells: a promise for each, which the client or another process answers."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from resonate.error import ApplicationError
from resonate.types import TaskData, Value

from capsule_durable import ids
from capsule_durable.errors import InputCancelled
from capsule_durable.execution.background import BackgroundTasks
from capsule_durable.messaging.capabilities import InputPrompt
from capsule_durable.telemetry import events

if TYPE_CHECKING:
    from capsule_durable.execution.engine_failover import FailoverEngine
    from capsule_durable.telemetry.bus import EventBus

#: The durable function that asks for an input; its name, since ``functions`` registers the function.
REQUEST_INPUT = "request_input"


@dataclass(slots=True)
class _Inputs:
    """The inputs of one execution.

    Args:
        key: names them; attempts at the same cell share it.
    """

    key: str
    count: int = 0
    #: The ids of those that wait.
    waiting: list[str] = field(default_factory=list)
    #: The promises that the client has answered.
    from_client: set[str] = field(default_factory=set)


class InputBroker:
    """Asks for the inputs of cells and takes the answers.

    A password stays in the memory of this process; its promise gets a token.

    Args:
        engine: stores the promises.
        prompt: shows a prompt at the client.
        bus: gets ``InputRequested``, ``InputAnswered`` and ``InputCancelled``.
        session_id: the session, for events.
        timeout: how long an input may stay unanswered.
    """

    def __init__(
        self,
        engine: FailoverEngine,
        prompt: Callable[[InputPrompt], None],
        bus: EventBus,
        session_id: str,
        timeout: timedelta = timedelta(days=30),
    ) -> None:
        self._engine = engine
        self._prompt = prompt
        self._bus = bus
        self._session_id = session_id
        self._timeout = timeout
        self._executions: dict[str, _Inputs] = {}
        self._secrets: dict[str, str] = {}
        self._tasks = BackgroundTasks()

    @property
    def pending(self) -> int:
        """How many inputs wait for an answer."""
        return sum(len(inputs.waiting) for inputs in self._executions.values())

    def open(self, execution_id: str, key: str) -> None:
        """Let an execution ask for inputs.

        Args:
            execution_id: the execution.
            key: names its inputs: another attempt with the same key gets the same answers.
        """
        self._executions[execution_id] = _Inputs(key)

    def close(self, execution_id: str, *, cancel: bool) -> None:
        """End the inputs of an execution.

        Args:
            execution_id: the execution.
            cancel: whether to cancel those that wait; if not, another attempt at the cell waits for the same answers.
        """
        inputs = self._executions.pop(execution_id, None)
        if inputs is not None and cancel:
            for input_id in inputs.waiting:
                self._tasks.start(self._engine.settle("cancel", input_id))

    async def ask(self, execution_id: str, prompt: str, password: bool) -> str:
        """Return the first answer to the next input of an execution.

        The input is the promise ``exec.{key}:input.{n}``. The client's prompt settles it, or another process does with
        ``{"value": TEXT}`` or a text.

        Args:
            execution_id: the execution.
            prompt: text to show.
            password: whether the answer must not be shown or stored.

        Raises:
            InputCancelled: the cell has ended, or the promise was cancelled or timed out.
        """
        inputs = self._executions.get(execution_id)
        if inputs is None:
            raise InputCancelled("input() was called by code whose cell has ended, so it cannot be answered")
        inputs.count += 1
        # A password is not stored, so each attempt asks for it again.
        input_id = ids.execution_input(execution_id if password else inputs.key, inputs.count)
        engine = self._engine.current
        await self._create(input_id, execution_id, prompt, password)
        inputs.waiting.append(input_id)
        self._publish(events.InputRequested, execution_id, input_id, password=password)
        try:
            answer = await engine.result_of(input_id)
        except ApplicationError as error:
            self._publish(events.InputCancelled, execution_id, input_id)
            raise InputCancelled(f"the input was not answered: {error}") from error
        finally:
            inputs.waiting.remove(input_id)
        source = "client" if any(_belongs_to(each, input_id) for each in inputs.from_client) else "external"
        self._publish(events.InputAnswered, execution_id, input_id, source=source)
        if isinstance(answer, dict) and "secret" in answer:
            return self._secrets.pop(str(answer["secret"]), "")
        return str(answer["value"] if isinstance(answer, dict) and "value" in answer else answer)

    async def _create(self, input_id: str, execution_id: str, prompt: str, password: bool) -> None:
        """Create the promise of an input, whose function shows the prompt; or show it for an existing promise."""
        engine, root = self._engine.current, ids.execution(execution_id)
        task = TaskData(func=REQUEST_INPUT, args=(execution_id, prompt, password), kwargs={}, version=1)
        promise = await engine.promises.create(
            input_id,
            int((time.time() + self._timeout.total_seconds()) * 1000),
            Value(data=task),
            {
                "resonate:origin": root,
                "resonate:branch": input_id,
                "resonate:parent": root,
                "resonate:scope": "global",
                "resonate:target": engine.target,
                "resonate:external": "true",
                ids.INPUT_TAG: "true",
            },
        )
        if promise.state == "pending" and promise.tags.get("resonate:target") != engine.target:
            # An earlier process created it; the function that would show its prompt belongs to that process.
            self.prompt(InputPrompt(execution_id, input_id, prompt, password))

    def prompt(self, question: InputPrompt) -> None:
        """Show a prompt at the client."""
        self._prompt(question)

    def answer(self, question: InputPrompt, value: str) -> None:
        """Take the client's answer to a prompt.

        Args:
            question: the prompt.
            value: the answer. For a password, only a token is stored.
        """
        inputs = self._executions.get(question.execution_id)
        if inputs is not None:
            inputs.from_client.add(question.answer_id)
        record = self._hidden(value) if question.password else {"value": value}
        self._tasks.start(self._engine.settle("resolve", question.answer_id, record))

    def answer_secret(self, input_id: str, value: str) -> bool:
        """Take the answer to a password prompt from another process; return whether the input waits here.

        Args:
            input_id: promise id of the input.
            value: the password; only a token is stored.
        """
        if not any(input_id in inputs.waiting for inputs in self._executions.values()):
            return False
        self._tasks.start(self._engine.settle("resolve", input_id, self._hidden(value)))
        return True

    async def wait(self) -> None:
        """Wait until the promises of answered and cancelled inputs are settled."""
        await self._tasks.wait()

    def _hidden(self, secret: str) -> dict[str, str]:
        """Return the record that stands for a secret in a promise."""
        token = uuid.uuid4().hex
        self._secrets[token] = secret
        return {"secret": token}

    def _publish(self, kind: Callable[..., events.Event], execution_id: str, input_id: str, **fields: object) -> None:
        self._bus.publish(kind(session_id=self._session_id, execution_id=execution_id, input_id=input_id, **fields))


def _belongs_to(promise_id: str, input_id: str) -> bool:
    """Return whether a promise is that of an input or of its function."""
    return promise_id == input_id or promise_id.startswith(f"{input_id}.")
