"""Requests of a cell to the front: sends one, and waits for its answer."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

from capsule_worker.process import execution_context
from capsule_worker.process.channel import Channel
from capsule_worker.protocol.messages import (
    AnswerMessage,
    RequestFailure,
    RequestMessage,
    RestoreFinishedMessage,
)

if TYPE_CHECKING:
    from capsule_worker.protocol.messages import KernelRequest


class RequestRefused(Exception):
    """The front refuses a request. The message says why, and what to do.

    Args:
        failure: what the front answered.
    """

    def __init__(self, failure: RequestFailure) -> None:
        super().__init__(f"{failure.message}. {failure.suggestion}" if failure.suggestion else failure.message)
        self.failure = failure


class KernelRequests:
    """Sends requests to the front. One for the life of the worker.

    Args:
        channel: to the front.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._answers: dict[str, queue.SimpleQueue[AnswerMessage]] = {}
        self._count = 0
        self._forked = False

    def complete(self, answer: AnswerMessage) -> None:
        """Pass an answer to the code that waits for it. Runs in the thread that reads the channel.

        Args:
            answer: the answer, with the id of its request; without effect if no code waits for that.
        """
        waiting = self._answers.get(answer.request_id)
        if waiting is not None:
            waiting.put(answer)

    def after_fork_in_child(self) -> None:
        """Refuse requests from now on: no answer reaches a forked child."""
        self._forked = True

    def ask(self, request: KernelRequest) -> AnswerMessage:
        """Return the front's answer to a request, and how to display it.

        Args:
            request: the request.

        Raises:
            RequestRefused: the front refuses the request, or this is a process that a cell has forked.
        """
        if self._forked:
            text = "only the cell itself can request this, not a process that it forked"
            raise RequestRefused(RequestFailure(code="unavailable", message=text))
        self._count += 1
        request_id = str(self._count)
        answers: queue.SimpleQueue[AnswerMessage] = queue.SimpleQueue()
        self._answers[request_id] = answers
        try:
            self._channel.send(RequestMessage(id=request_id, execution_id=execution_context.current(), request=request))
            answer = answers.get()
        finally:
            del self._answers[request_id]
        if answer.error is not None:
            raise RequestRefused(answer.error)
        return answer

    def tell_restored(self, checkpoint_id: str, restored: list[str], failed: dict[str, str], *, whole: bool) -> None:
        """Report a restore that a cell requested. The front does not answer.

        Args:
            checkpoint_id: id of the checkpoint.
            restored: names of the variables that are restored, or will be when they are first needed.
            failed: why other variables are not restored, by name.
            whole: whether all variables were requested, so that the checkpoint is the session's current one.
        """
        self._channel.send(
            RestoreFinishedMessage(checkpoint_id=checkpoint_id, restored=restored, failed=failed, whole=whole)
        )
