"""What the client has asked its debugger for, so that the debugger of the next worker can continue."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from capsule_worker.protocol import Output
from capsule_worker.protocol import messages as m

if TYPE_CHECKING:
    from capsule_durable.messaging.session import Session

#: A request, response or event of the Debug Adapter Protocol.
Request = dict[str, Any]

#: Seconds; a debugger's response may take until the running cell stops.
NO_TIMEOUT = 30 * 86400.0
#: Requests that a debugger gets once, in this order; the last request of each counts.
_ONCE = ("initialize", "attach", "setExceptionBreakpoints", "setFunctionBreakpoints")


class DebugState:
    """The part of a client's debugger that outlives the debugged process. Pure."""

    def __init__(self) -> None:
        self._sent: dict[str, Request] = {}
        #: Requests by the path that they set breakpoints in.
        self._breakpoints: dict[str, Request] = {}
        #: Whether code has stopped.
        self.stopped = False

    def record_request(self, request: Request, response: Request) -> None:
        """Record a request and its response.

        Args:
            request: a request of the Debug Adapter Protocol.
            response: the debugger's response. A request that failed is not recorded.
        """
        command = request.get("command")
        if command in ("disconnect", "terminate"):
            self.__init__()  # type: ignore[misc]  # the initial state
        elif not response.get("success"):
            return
        elif command == "setBreakpoints":
            self._breakpoints[request["arguments"]["source"]["path"]] = request
        elif command in _ONCE:
            self._sent[command] = request

    def record_event(self, event: Request) -> None:
        """Record an event of the debugger."""
        if event.get("event") in ("stopped", "continued"):
            self.stopped = event["event"] == "stopped"

    def requests(self) -> list[Request]:
        """Return the requests that bring another debugger to this state."""
        sent = [self._sent[command] for command in _ONCE if command in self._sent]
        return [*sent, *self._breakpoints.values()] if "initialize" in self._sent else []

    def clear_stopped(self) -> list[Request]:
        """Return the events that tell a client that no code is stopped any more; none where no code was stopped."""
        stopped, self.stopped = self.stopped, False
        body = {"threadId": 0, "allThreadsContinued": True}
        return [{"type": "event", "seq": 0, "event": "continued", "body": body}] if stopped else []


class DebugRelay:
    """Relays a client's debugger to the worker, and to the next worker if that one dies.

    Args:
        display: shows rich output; see ``Capabilities``.
    """

    def __init__(self, display: Callable[[str, Output], None]) -> None:
        self._display = display
        self._session: Session | None = None
        self._state = DebugState()

    def connect(self, session: Session) -> None:
        """Send through a session from now on."""
        self._session = session

    def display(self, execution_id: str, output: Output) -> None:
        """Show an output, and record the debugger's events; a capability of the session.

        Args:
            execution_id: the execution that made the output.
            output: the output.
        """
        if isinstance(output, m.DebugOutput):
            self._state.record_event(output.event)
        self._display(execution_id, output)

    async def request(self, request: Request) -> Request:
        """Return the debugger's response to a request; that may take until the running cell stops.

        Args:
            request: a request of the Debug Adapter Protocol.

        Raises:
            ExecutionFailed: the worker cannot take it.
        """
        response = await self._ask(request, NO_TIMEOUT)
        self._state.record_request(request, response)
        return response

    async def resume(self, timeout: float) -> None:
        """Continue a cell that has stopped, if one has.

        Args:
            timeout: seconds that the worker may take to answer.

        Raises:
            ExecutionFailed: the worker does not answer.
        """
        if self._state.stopped:
            await self._ask({"type": "request", "command": "continue", "arguments": {"threadId": 0}}, timeout)

    async def restore(self, timeout: float) -> None:
        """Continue debugging in a new worker, with the breakpoints of the one before.

        Args:
            timeout: seconds that the worker may take to answer each request.

        Raises:
            ExecutionFailed: the worker does not answer.
        """
        for event in self._state.clear_stopped():
            self._display("", m.DebugOutput(event=event))
        for request in self._state.requests():
            await self._ask(request, timeout)

    async def _ask(self, request: Request, timeout: float) -> Request:
        assert self._session is not None
        message = m.DebugMessage(id=self._session.next_request_id(), request=request)
        response: Request = (await self._session.ask(message, timeout)).reply
        return response
