"""Answers the requests that the code of cells sends: finds the handler by the type of the request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from capsule_durable.errors import CapsuleError, TransportClosed
from capsule_worker.protocol import Message
from capsule_worker.protocol import messages as m

logger = logging.getLogger(__name__)

#: Requests of a worker that may be open at once; beyond that a request is refused.
MAX_OPEN = 64

Request = TypeVar("Request", bound="m.KernelRequest")
#: The answers are named by a string: their models are imported with the first request.
Handler = Callable[[Request], Awaitable["m.Answer"]]


class RequestError(CapsuleError):
    """A request is refused.

    Args:
        code: the kind of failure, for programs.
        message: what is wrong, for people.
        suggestion: what to do instead; empty if there is nothing to suggest.
    """

    def __init__(self, code: m.FailureCode, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.failure = m.RequestFailure(code=code, message=message, suggestion=suggestion)


class RequestDispatcher:
    """Gives each request to the handler of its type, and sends the answer. An interceptor of the session calls it.

    Args:
        send: sends a message to the worker; it may raise TransportClosed.
        render: returns how an answer is displayed, as a MIME bundle.
        load: registers handlers when the first request comes; None if they are registered before.
    """

    def __init__(
        self,
        send: Callable[[Message], None],
        render: Callable[[m.Answer], m.MimeBundle],
        load: Callable[[RequestDispatcher], None] | None = None,
    ) -> None:
        self._send, self._render, self._load = send, render, load
        self._handlers: dict[type, Handler[Any]] = {}
        #: The ids of the requests that are open, and the tasks that answer them.
        self._open: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def register(self, kind: type[Request], handler: Handler[Request]) -> None:
        """Have a handler answer all requests of a type.

        Args:
            kind: the type.
            handler: returns the answer. It may raise RequestError; any other exception is reported as an internal
                error.
        """
        self._handlers[kind] = handler

    def dispatch(self, message: m.RequestMessage) -> None:
        """Answer a request. The answer is sent later, by a task.

        Args:
            message: the request.
        """
        if len(self._open) >= MAX_OPEN:
            failure = m.RequestFailure(code="too_many", message=f"more than {MAX_OPEN} requests are open")
            self._reply(m.AnswerMessage(request_id=message.id, error=failure))
            return
        # Before the task is created: an eager one may have answered when it is.
        self._open.add(message.id)
        task = asyncio.get_running_loop().create_task(self._answer(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up the requests that are open. Idempotent."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, message: m.RequestMessage) -> None:
        try:
            load, self._load = self._load, None
            if load is not None:
                load(self)
            answer = await self._handlers[type(message.request)](message.request)
            self._reply(m.AnswerMessage(request_id=message.id, answer=answer, display=self._render(answer)))
        except RequestError as error:
            self._reply(m.AnswerMessage(request_id=message.id, error=error.failure))
        # A cell waits for the answer, whatever happens here.
        except Exception as error:
            logger.exception("the request %s failed", message.request.kind)
            failure = m.RequestFailure(
                code="internal",
                message=f"Internal error ({type(error).__name__}: {error})",
                suggestion="Please report it with the output of capsule doctor --json.",
            )
            self._reply(m.AnswerMessage(request_id=message.id, error=failure))

    def _reply(self, reply: m.AnswerMessage) -> None:
        # The worker may send its next request as soon as it has the answer to this one.
        self._open.discard(reply.request_id)
        with contextlib.suppress(TransportClosed):
            self._send(reply)
