"""The open comms, as the client knows them, and the messages that it sends to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from capsule_worker.protocol import Output
from capsule_worker.protocol import messages as m

if TYPE_CHECKING:
    from capsule_durable.messaging.session import Session

#: Seconds; the worker handles a message to a comm between two cells, however long the first of them takes.
NO_TIMEOUT = 30 * 86400.0


class CommRegistry:
    """Records which comms are open and delivers the client's messages to them.

    Args:
        display: shows rich output; see ``Capabilities``.
    """

    def __init__(self, display: Callable[[str, Output], None]) -> None:
        self._display = display
        self._session: Session | None = None
        #: The target names of the open comms, by comm id.
        self.targets: dict[str, str] = {}
        #: How many messages of the client the worker has not handled yet.
        self.pending = 0

    def connect(self, session: Session) -> None:
        """Send through a session from now on."""
        self._session = session

    def display(self, execution_id: str, output: Output) -> None:
        """Show an output, and record the comms that the worker opens and closes; a capability of the session.

        Args:
            execution_id: the execution that made the output.
            output: the output.
        """
        if isinstance(output, m.CommOutput):
            if output.event == "open":
                self.targets[output.comm_id] = output.target_name or ""
            elif output.event == "close":
                self.targets.pop(output.comm_id, None)
        self._display(execution_id, output)

    async def send(self, message: m.CommMessage) -> None:
        """Send a message of the client to a comm in the worker and wait until it was handled.

        That may take as long as a cell: a worker that runs a cell handles the message after it.

        Args:
            message: the message; its id is from ``Session.next_request_id``.

        Raises:
            ExecutionFailed: the worker cannot take it.
        """
        assert self._session is not None
        if message.event == "close":
            self.targets.pop(message.comm_id, None)
        elif message.event == "open":
            self.targets[message.comm_id] = message.target_name or ""
        self.pending += 1
        try:
            await self._session.ask(message, NO_TIMEOUT)
        finally:
            self.pending -= 1

    async def close_lost(self, timeout: float) -> int:
        """Tell the client which comms the current worker does not have; return how many.

        Args:
            timeout: seconds that the worker may take to answer.

        Raises:
            ExecutionFailed: the worker does not answer.
        """
        if not self.targets:
            return 0
        assert self._session is not None
        known = await self._session.ask(m.CommInfoMessage(id=self._session.next_request_id()), timeout)
        lost = [comm_id for comm_id in self.targets if comm_id not in known.targets]
        for comm_id in lost:
            self.display("", m.CommOutput(event="close", comm_id=comm_id))
        return len(lost)
