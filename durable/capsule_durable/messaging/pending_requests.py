"""Requests that wait for an answer: until when, and what gets it. The timer of the loop is a parameter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from capsule_durable.errors import ExecutionFailed, ExecutionTimeout, RequestTimeout


class Timer(Protocol):
    """The result of ``loop.call_later``."""

    def cancel(self) -> None:
        """Never fire."""


#: ``loop.call_later``: seconds, then the function to call.
CallLater = Callable[[float, Callable[[], None]], Timer]


@dataclass(frozen=True, slots=True)
class _Pending:
    capability: str
    execution_id: str
    timeout: float
    timer: Timer
    answer: asyncio.Future[Any]


class PendingRequests:
    """Pending requests by id. Every entry leaves exactly once: answered, failed, timed out or closed.

    On each of these paths the entry is popped first and its timer cancelled second. A late, repeated or unknown answer
    finds no entry and changes nothing.

    Args:
        call_later: schedules the timeouts.
    """

    def __init__(self, call_later: CallLater) -> None:
        self._call_later = call_later
        self._pending: dict[str, _Pending] = {}
        #: The most requests that were ever pending at once.
        self.high_water_mark = 0

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._pending

    def register(
        self, request_id: str, answer: asyncio.Future[Any], *, capability: str, execution_id: str, timeout: float
    ) -> None:
        """Add an entry for a request.

        Args:
            request_id: the id that the answer will carry.
            answer: gets the answer, or the reason why there is none.
            capability: what was requested (``execute``, ``complete``, ...), for errors.
            execution_id: the execution that it belongs to; may be empty.
            timeout: seconds until it is rejected; there always is one.

        Raises:
            ValueError: the id is pending already.
        """
        if request_id in self._pending:
            msg = f"request {request_id} is pending already"
            raise ValueError(msg)
        timer = self._call_later(timeout, lambda: self._time_out(request_id))
        self._pending[request_id] = _Pending(capability, execution_id, timeout, timer, answer)
        self.high_water_mark = max(self.high_water_mark, len(self._pending))

    def settle(self, request_id: str, answer: Any) -> bool:
        """Deliver an answer; return False if the request is not pending (any more).

        Args:
            request_id: id of the request.
            answer: the answer.
        """
        pending = self._pop(request_id)
        if pending is None:
            return False
        if not pending.answer.done():  # its asker may have been cancelled
            pending.answer.set_result(answer)
        return True

    def fail(self, request_id: str, error: ExecutionFailed) -> bool:
        """Deliver a failure; return False if the request is not pending (any more).

        Args:
            request_id: id of the request.
            error: why there is no answer.
        """
        pending = self._pop(request_id)
        if pending is None:
            return False
        if not pending.answer.done():
            pending.answer.set_exception(error)
        return True

    def discard(self, request_id: str) -> None:
        """Forget a request whose asker does not wait any more."""
        self._pop(request_id)

    def fail_all(self, error: Callable[[str], ExecutionFailed]) -> int:
        """Fail all requests and return how many there were.

        Args:
            error: makes the error of an execution id, which is empty for a request that belongs to none.
        """
        waiting = list(self._pending.items())
        return sum(self.fail(request_id, error(pending.execution_id)) for request_id, pending in waiting)

    def _time_out(self, request_id: str) -> None:
        pending = self._pending.get(request_id)
        if pending is None:
            return
        kind = ExecutionTimeout if pending.capability == "execute" else RequestTimeout
        self.fail(
            request_id,
            kind(
                f"no answer to {pending.capability} request {request_id} within {pending.timeout:g} s",
                pending.execution_id,
                capability=pending.capability,
                request_id=request_id,
                timeout=pending.timeout,
            ),
        )

    def _pop(self, request_id: str) -> _Pending | None:
        pending = self._pending.pop(request_id, None)
        if pending is not None:
            pending.timer.cancel()
        return pending
