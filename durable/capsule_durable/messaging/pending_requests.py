"""Requests and their answers: what is pending, until when, and who is told. The loop's timer is a parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from capsule_durable.errors import ExecutionFailed, ExecutionTimeout, RequestTimeout


class Timer(Protocol):
    """What ``loop.call_later`` returns."""

    def cancel(self) -> None:
        """Do not fire any more."""


#: ``loop.call_later``: seconds, then the function to call.
CallLater = Callable[[float, Callable[[], None]], Timer]


@dataclass(frozen=True, slots=True)
class _Pending:
    capability: str
    execution_id: str
    timeout: float
    timer: Timer
    settle: Callable[[Any], None]
    fail: Callable[[ExecutionFailed], None]


class PendingRequests:
    """Pending requests by id. Every entry leaves exactly once: answered, failed, timed out or closed.

    On each of these ways the entry is popped first and its timer cancelled second, so that whatever comes after
    (late, twice, unknown) finds nothing and changes nothing.

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
        self,
        request_id: str,
        *,
        capability: str,
        execution_id: str,
        timeout: float,
        settle: Callable[[Any], None],
        fail: Callable[[ExecutionFailed], None],
    ) -> None:
        """Wait for the answer to ``request_id``.

        Args:
            request_id: what the answer will be correlated on.
            capability: what was asked for (``execute``, ``complete``, ...), for errors.
            execution_id: the execution that it belongs to; may be empty.
            timeout: seconds until it is rejected; there always is one.
            settle: called with the answer.
            fail: called with the reason why there is none.

        Raises:
            ValueError: the id is pending already.
        """
        if request_id in self._pending:
            msg = f"request {request_id} is pending already"
            raise ValueError(msg)
        timer = self._call_later(timeout, lambda: self._time_out(request_id))
        self._pending[request_id] = _Pending(capability, execution_id, timeout, timer, settle, fail)
        self.high_water_mark = max(self.high_water_mark, len(self._pending))

    def settle(self, request_id: str, answer: Any) -> bool:
        """Deliver ``answer``; return False if nobody waits for it (any more)."""
        pending = self._pop(request_id)
        if pending is None:
            return False
        pending.settle(answer)
        return True

    def fail(self, request_id: str, error: ExecutionFailed) -> bool:
        """Deliver a failure; return False if nobody waits (any more)."""
        pending = self._pop(request_id)
        if pending is None:
            return False
        pending.fail(error)
        return True

    def discard(self, request_id: str) -> None:
        """Forget a request whose asker has gone away."""
        self._pop(request_id)

    def fail_all(self, error: Callable[[str], ExecutionFailed]) -> int:
        """Fail everything with the error that ``error`` makes of an execution id; return how many there were."""
        waiting = list(self._pending)
        for request_id in waiting:
            pending = self._pop(request_id)
            if pending is not None:
                pending.fail(error(pending.execution_id))
        return len(waiting)

    def _time_out(self, request_id: str) -> None:
        pending = self._pop(request_id)
        if pending is None:
            return
        kind = ExecutionTimeout if pending.capability == "execute" else RequestTimeout
        pending.fail(
            kind(
                f"no answer to {pending.capability} request {request_id} within {pending.timeout:g} s",
                pending.execution_id,
                capability=pending.capability,
                request_id=request_id,
                timeout=pending.timeout,
            )
        )

    def _pop(self, request_id: str) -> _Pending | None:
        pending = self._pending.pop(request_id, None)
        if pending is not None:
            pending.timer.cancel()
        return pending
