"""One cell, from its message to its result; and what cells of the main shell and of subshells have in common."""

from __future__ import annotations

import contextvars
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from capsule_worker.checkpoints.checkpointer import Checkpointer
from capsule_worker.frontend.comms import Comms
from capsule_worker.frontend.stdin import Stdin
from capsule_worker.isolation import resource_limits
from capsule_worker.output.fd_capture import FdCapture
from capsule_worker.output.output_writer import OutputWriter
from capsule_worker.process import execution_context
from capsule_worker.process.channel import Channel
from capsule_worker.protocol import ProtocolError
from capsule_worker.protocol import messages as m
from capsule_worker.shell.cell_runner import CellRunner
from capsule_worker.shell.shell import ZMQInteractiveShell

#: How a cell ended: its result, or an error of Capsule's own.
Result = m.ResultMessage | m.ErrorMessage


@dataclass
class CellServices:
    """The parts of the worker that every cell and every comm message uses, whichever thread it runs in.

    Args:
        shell: the shell that runs the code.
        runner: runs a cell in the shell.
        channel: sends messages to the front.
        output: sends output in order.
        capture: reads what C code and child processes print.
        stdin: asks the front for input.
        comms: the comms of this process.
        context: the notebook's context variables. NumPy, decimal and others keep settings in them.
        drain_timeout: seconds that the output of a cell may take to leave.
    """

    shell: ZMQInteractiveShell
    runner: CellRunner
    channel: Channel
    output: OutputWriter
    capture: FdCapture
    stdin: Stdin
    comms: Comms
    context: contextvars.Context
    drain_timeout: float

    async def run(self, message: m.ExecuteMessage, code: Callable[[m.ExecuteMessage], Awaitable[Result]]) -> Result:
        """Run a cell with its limits and its input, and return how it ended.

        Args:
            message: the cell.
            code: runs it, in this thread.
        """
        self.comms.remember_cell(message)
        if message.allow_stdin:
            self.stdin.allowed.add(message.id)
        try:
            with resource_limits.enforced():
                return await code(message)
        except Exception as error:
            return internal_error(error, execution_id=message.id)
        finally:
            self.stdin.allowed.discard(message.id)

    def send_result(self, result: Result, before_send: Callable[[], None]) -> None:
        """Send a result after all output of its cell.

        Args:
            result: how the cell ended.
            before_send: called when the output has left, just before the result does.
        """
        try:
            self.output.finish(result, self.capture.drain, self.drain_timeout, before_send)
        except ProtocolError as error:
            before_send()
            self.channel.send(internal_error(error, execution_id=result.execution_id))

    def deliver(self, message: m.CommMessage) -> None:
        """Give a comm message to its comm, in this thread, and confirm it to the front.

        Args:
            message: what the client sent.
        """
        try:
            # A copy: a cell that awaits is in the context itself.
            self.context.copy().run(self.comms.handle, message)
        # The user's callbacks may raise anything. Most comms report errors themselves.
        except BaseException:
            with execution_context.attributed_to(message.id):
                self.shell.showtraceback()
        self.output.flush()
        self.channel.send(m.CommReplyMessage(request_id=message.id))


class CellTask:
    """A cell of the main shell.

    Args:
        message: the cell.
        services: what it runs with.
    """

    def __init__(self, message: m.ExecuteMessage, services: CellServices) -> None:
        self._message = message
        self._services = services
        self._result: Result | None = None
        self.execution_id = message.id
        #: Whether the cell has run, and its result waits until a checkpoint of it is on disk.
        self.awaits_checkpoint = False
        #: Whether the next cell may come: the result is about to leave, or has left.
        self.is_done = False

    async def run(self, checkpointer: Checkpointer) -> None:
        """Run the cell, and send its result unless that has to wait for a checkpoint.

        Args:
            checkpointer: learns that the cell has ended.
        """
        services = self._services
        services.capture.before_cell()
        self._result = await services.run(self._message, services.runner.run)
        checkpointer.after_cell(self._result.execution_time)
        self.awaits_checkpoint = checkpointer.is_synchronous
        if not self.awaits_checkpoint:
            self.send_result()

    def send_result(self) -> None:
        """Send the result after all output."""
        assert self._result is not None
        self.awaits_checkpoint = False
        self._services.send_result(self._result, self._set_done)

    @property
    def execution_count(self) -> int | None:
        """The number of the cell, once it has run."""
        return self._result.execution_count if isinstance(self._result, m.ResultMessage) else None

    def _set_done(self) -> None:
        self.is_done = True


def internal_error(
    error: Exception, *, execution_id: str | None = None, request_id: str | None = None
) -> m.ErrorMessage:
    """Return the message for an error that is not the user's.

    Args:
        error: what was raised.
        execution_id: the cell that failed, if it was a cell.
        request_id: the request that failed, if it was a request.
    """
    return m.ErrorMessage(
        execution_id=execution_id,
        request_id=request_id,
        error_type="InternalError",
        message=f"{type(error).__name__}: {error}",
        traceback=traceback.format_exception(type(error), error, error.__traceback__),
    )
