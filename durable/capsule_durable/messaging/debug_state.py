"""What a debugger's client has asked for, so that a worker that takes a dead one's place is debugged, too. Pure."""

from __future__ import annotations

from typing import Any

Request = dict[str, Any]

#: What is said to a debugger once, in this order; of each the last word counts.
_ONCE = ("initialize", "attach", "setExceptionBreakpoints", "setFunctionBreakpoints")


class DebugState:
    """The state of a client's debugger, as far as it outlives the process that is debugged."""

    def __init__(self) -> None:
        self._said: dict[str, Request] = {}
        #: Requests by the path that they set breakpoints in.
        self._breakpoints: dict[str, Request] = {}
        #: Whether code has stopped.
        self.stopped = False

    def asked(self, request: Request, reply: Request) -> None:
        """Take notice of a request and its response."""
        command = request.get("command")
        if command in ("disconnect", "terminate"):
            self.__init__()  # type: ignore[misc]  # as if nothing had been
        elif not reply.get("success"):
            return
        elif command == "setBreakpoints":
            self._breakpoints[request["arguments"]["source"]["path"]] = request
        elif command in _ONCE:
            self._said[command] = request

    def happened(self, event: Request) -> None:
        """Take notice of an event."""
        if event.get("event") in ("stopped", "continued"):
            self.stopped = event["event"] == "stopped"

    def requests(self) -> list[Request]:
        """Return what another debugger is to be asked, to be as the last one was."""
        said = [self._said[command] for command in _ONCE if command in self._said]
        return [*said, *self._breakpoints.values()] if "initialize" in self._said else []

    def left(self) -> list[Request]:
        """Return the events that tell a client that nothing is stopped any more; none where nothing was."""
        stopped, self.stopped = self.stopped, False
        body = {"threadId": 0, "allThreadsContinued": True}
        return [{"type": "event", "seq": 0, "event": "continued", "body": body}] if stopped else []
