"""A session: the only reader of a worker's messages, which routes each of them.

Each message is shown to the interceptors first, then routed: output and input to the capabilities, an answer to the
coroutine that asked. The session outlives its workers: ``attach`` gives it the next one.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, get_args

from capsule_durable.errors import (
    CapsuleError,
    InternalError,
    ProtocolError,
    SessionClosed,
    TransportClosed,
    WorkerDied,
)
from capsule_durable.messaging.capabilities import AskInput, Capabilities
from capsule_durable.messaging.pending_requests import PendingRequests
from capsule_durable.messaging.transport import Transport
from capsule_worker.protocol import Message
from capsule_worker.protocol import messages as m

logger = logging.getLogger(__name__)

#: Called with every message, on the session's loop. Must not block, cannot consume.
Interceptor = Callable[[Message], None]

#: An interceptor that takes longer than this, in seconds, is reported.
SLOW_INTERCEPTOR = 0.05
#: How many route tasks may run at once; beyond that a message is refused.
MAX_ROUTES = 256


class Session:
    """Routes the messages of one worker after the other.

    Args:
        session_id: names the session in logs.
        capabilities: where output goes.
        ask_input: answers the inputs of cells.
        clock: returns seconds; for telling slow interceptors.
    """

    def __init__(
        self,
        session_id: str,
        capabilities: Capabilities,
        ask_input: AskInput,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.id = session_id
        self._capabilities = capabilities
        self._ask_input = ask_input
        self._clock = clock
        self._interceptors: dict[type[Message], list[Interceptor]] = {}
        #: The connection to the worker; None while there is no worker to send to.
        self.transport: Transport | None = None
        self._reader: asyncio.Task[None] | None = None
        self._routes: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._log = logging.LoggerAdapter(logger, {"session": session_id, "worker": None, "loop": None})
        #: Requests to the worker that wait for their replies.
        self.questions = PendingRequests(asyncio.get_running_loop().call_later)

    # -- interceptors ----------------------------------------------------------------------------------------

    def add_message_interceptor(self, interceptor: Interceptor, *types: type[Message]) -> None:
        """Show messages to an interceptor from now on, before they are routed.

        Args:
            interceptor: called with each of them.
            types: the types of messages; without any, all types.
        """
        for kind in types or get_args(Message):
            self._interceptors.setdefault(kind, []).append(interceptor)

    def remove_message_interceptor(self, interceptor: Interceptor) -> None:
        """Show an interceptor no more messages. Removing an unknown one does nothing.

        Args:
            interceptor: the function that ``add_message_interceptor`` got.
        """
        for interceptors in self._interceptors.values():
            if interceptor in interceptors:
                interceptors.remove(interceptor)

    # -- the worker ------------------------------------------------------------------------------------------

    def attach(self, transport: Transport, worker_pid: int | None = None) -> asyncio.Task[None]:
        """Read from a transport until it ends; return the task that reads.

        The task ends normally when the worker has ended, and raises ProtocolError if the worker broke the protocol.

        Args:
            transport: connected to the worker.
            worker_pid: the worker's process id, for the log.

        Raises:
            RuntimeError: another worker is attached.
        """
        if self.transport is not None:
            msg = "a worker is attached already"
            raise RuntimeError(msg)
        loop = asyncio.get_running_loop()
        self._log = logging.LoggerAdapter(logger, {"session": self.id, "worker": worker_pid, "loop": id(loop)})
        self.transport = transport
        self._reader = loop.create_task(self._read(transport), name=f"session-{self.id}-reader")
        return self._reader

    def send(self, message: Message) -> None:
        """Send a message to the worker.

        Args:
            message: the message.

        Raises:
            TransportClosed: there is no worker.
            ProtocolError: the message cannot be encoded.
        """
        if self.transport is None:
            msg = f"cannot send a {message.type} message: no worker is attached"
            raise TransportClosed(msg)
        try:
            self.transport.send(message)
        except TransportClosed:
            # The worker has ended; what it sent before is still read to its end.
            self.transport = None
            raise

    async def ask(self, message: Any, timeout: float) -> Any:  # the reply's type depends on the request
        """Send a request and return its reply.

        Args:
            message: a message with an ``id``, which the reply carries as ``request_id``.
            timeout: seconds to wait.

        Raises:
            RequestTimeout: no reply came in time.
            ExecutionFailed: the worker could not answer, died, or the session was closed.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.questions.register(
            message.id,
            future,
            capability=message.type,
            execution_id="",
            timeout=timeout,
        )
        try:
            self.send(message)
            return await future
        except TransportClosed as error:
            raise WorkerDied(str(error)) from error
        finally:
            self.questions.discard(message.id)

    def next_request_id(self) -> str:
        """Return an id for a request, unique within this session."""
        return f"q{next(self._numbers)}"

    async def close(self) -> None:
        """Stop reading, cancel routes, fail what is pending. Idempotent."""
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.close()
        tasks = [*self._routes]
        if self._reader is not None:
            tasks.append(self._reader)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.questions.fail_all(lambda execution_id: SessionClosed("the session was closed", execution_id))

    # -- reading and routing ---------------------------------------------------------------------------------

    async def _read(self, transport: Transport) -> None:
        try:
            while True:
                message = await transport.receive()
                if type(message) in self._interceptors:
                    self._intercept(message)
                self._route(message)
        except TransportClosed:
            pass
        finally:
            if self.transport is transport:
                self.transport = None
            transport.close()
            self.questions.fail_all(lambda execution_id: WorkerDied("the worker has ended", execution_id))

    def _intercept(self, message: Message) -> None:
        for interceptor in tuple(self._interceptors[type(message)]):
            started = self._clock()
            try:
                interceptor(message)
            except Exception:
                self._log.exception("interceptor %r raised on a %s message", interceptor, message.type)
            elapsed = self._clock() - started
            if elapsed > SLOW_INTERCEPTOR:
                self._log.warning(
                    "interceptor %r took %.0f ms on a %s message", interceptor, elapsed * 1000, message.type
                )

    def _route(self, message: Message) -> None:
        match message:
            case m.OutputMessage():
                try:
                    if isinstance(message.output, m.StreamOutput):
                        self._capabilities.stream(message.execution_id, message.output)
                    else:
                        self._capabilities.display(message.execution_id, message.output)
                except Exception:
                    self._log.exception("output of execution %s was not published", message.execution_id)
            case m.InputMessage():
                self._start_route(self._answer_input(message))
            case m.ErrorMessage(request_id=str() as request_id):
                self.questions.fail(request_id, InternalError(message.message))
            case (
                m.ReadyMessage()
                | m.ResultMessage()
                | m.ErrorMessage()
                | m.CheckpointSavedMessage()
                | m.CheckpointFailedMessage()
                | m.RestoreFinishedMessage()
                | m.RequestMessage()
            ):
                pass  # for the interceptors
            case _ if hasattr(message, "request_id"):
                if not self.questions.settle(message.request_id, message):
                    self._log.debug("no request waits for %s %s", message.type, message.request_id)
            case _:
                msg = f"a front takes no {message.type} message"
                raise ProtocolError(msg)

    def _start_route(self, coro: Coroutine[Any, Any, None]) -> None:
        if len(self._routes) >= MAX_ROUTES:
            coro.close()
            msg = f"more than {MAX_ROUTES} inputs wait at once"
            raise ProtocolError(msg)
        task = asyncio.get_running_loop().create_task(coro)
        self._routes.add(task)
        task.add_done_callback(self._route_done)

    def _route_done(self, task: asyncio.Task[None]) -> None:
        self._routes.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._log.error("a route task failed", exc_info=task.exception())

    async def _answer_input(self, message: m.InputMessage) -> None:
        value: str | None = None
        error: str | None = None
        try:
            value = await self._ask_input(message.execution_id, message.prompt, message.password)
        except CapsuleError as failure:
            error = str(failure)
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
        try:
            self.send(m.InputResponseMessage(input_id=message.id, value=value, error=error))
        except TransportClosed:
            self._log.debug("an input was answered after its worker had gone")
