"""The kernel as Jupyter sees it: requests in, replies and outputs out. It never runs user code."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from ipykernel.kernelbase import Kernel
from ipykernel.subshell_manager import UnknownSubshellError

import capsule_kernel
from capsule_durable import ids
from capsule_durable.errors import CapsuleError, ExecutionFailed
from capsule_durable.execution.background import BackgroundTasks
from capsule_durable.execution.runtime import Runtime
from capsule_durable.messaging.capabilities import Capabilities
from capsule_kernel.jupyter import contents, handlers
from capsule_kernel.jupyter.channels import Channels
from capsule_kernel.jupyter.outputs import OutputPublisher
from capsule_kernel.jupyter.shell_queues import Request, ShellQueue, ShellQueues
from capsule_worker.protocol import messages as m

logger = logging.getLogger(__name__)


def _render(answer: m.Answer) -> m.MimeBundle:
    """Return how an answer is displayed. The renderer is imported with the first answer."""
    from capsule_kernel.console.render import render

    return render(answer)


class CapsuleKernel(Kernel):
    """Serves one kernel's clients.

    Cells of one shell run one after the other; every other request is answered while a cell runs. (ipykernel's
    ``Kernel`` answers requests in order, since its own thread runs the cells.)
    """

    implementation = "capsule"
    implementation_version = capsule_kernel.__version__
    # Output and replies leave from one thread, so there is no race that a pause would win.
    _execute_sleep = 0.0

    def setup(self, channels: Channels, runtime_factory: Callable[[Capabilities], Runtime]) -> None:
        """Connect the kernel with its sockets and its runtime; the base class has a constructor of its own.

        Args:
            channels: the sockets.
            runtime_factory: makes the runtime, given what reaches the clients.
        """
        self._channels = channels
        self._outputs = OutputPublisher(channels.iopub, self._topic)
        self._inputs = handlers.InputHandlers(channels.stdin, channels.session, self._outputs)
        self._queues = ShellQueues()
        publish, prompt = self._outputs.publish, self._inputs.prompt
        self.runtime = runtime_factory(
            Capabilities(publish, publish, prompt, self._leave, lambda: self._queues.subshells, _render)
        )
        self._inputs.connect(self.runtime.inputs)
        self.stopped = asyncio.Event()
        self._leaving = False
        self._tasks = BackgroundTasks()
        session = channels.session
        code = handlers.CodeHandlers(self.runtime, session)
        comms = handlers.CommHandlers(self.runtime, session, self._outputs)
        self.shell_handlers |= code.handlers | comms.handlers
        self.control_handlers |= code.handlers | {"comm_info_request": comms.info}
        self.control_handlers |= handlers.DebugHandlers(self.runtime, session).handlers
        self.control_handlers |= handlers.SubshellHandlers(self._queues, session, self._abort).handlers
        self.control_handlers |= handlers.UsageHandlers(session).handlers
        self.control_handlers |= self._inputs.handlers

    # -- receiving -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start serving."""
        self._control_lock = asyncio.Lock()
        self._channels.shell.on_recv(partial(self._take, "shell"))
        self._channels.control.on_recv(partial(self._take, "control"))
        self._channels.stdin.on_recv(self._on_stdin)
        self.record_ports(self._channels.ports())
        self._publish_status("starting", "shell", parent={})

    def _take(self, channel: str, frames: Any) -> None:
        """Serve a request at once, except a cell, which waits for the cells before it whichever channel they use."""
        idents, message = self._decode(frames)
        if message is None:
            return
        queue = self._queues.get(message["header"].get("subshell_id"))
        if queue is None:
            self._refuse(idents, message, channel)
        elif message["header"]["msg_type"] == "execute_request":
            queue.waiting.append((idents, message, channel))
            if not queue.is_active:
                self._tasks.start(self._run_cells(queue))
        else:
            self._tasks.start(self._serve(idents, message, channel))

    def _on_stdin(self, frames: Any) -> None:
        idents, message = self._decode(frames)
        if message is not None and message["header"]["msg_type"] == "input_reply":
            self._inputs.on_reply(idents, message)

    def _decode(self, frames: Any) -> tuple[Any, Any]:
        try:
            idents, rest = self._channels.session.feed_identities(frames, copy=False)
            return idents, self._channels.session.deserialize(rest, content=True, copy=False)
        # Whatever another program sends to a local port must not stop the kernel.
        except Exception:
            logger.exception("a message could not be read")
            return None, None

    # -- serving ---------------------------------------------------------------------------------------------

    async def _run_cells(self, queue: ShellQueue) -> None:
        """Run the cells of a queue until none waits."""
        queue.is_active = True
        try:
            while queue.waiting and not self.stopped.is_set():
                idents, queue.executing, channel = queue.waiting.popleft()
                await self._serve(idents, queue.executing, channel)
                queue.executing = None
                if self._leaving:
                    self.stopped.set()
        finally:
            queue.executing, queue.is_active = None, False

    def _leave(self) -> None:
        """Stop the kernel after the running cell; a capability (``get_ipython().kernel.do_shutdown``)."""
        self._leaving = True
        if self._queues.main.executing is None:
            self.stopped.set()

    async def _serve(self, idents: Any, message: Any, channel: str) -> None:
        """Handle one request between its ``busy`` and its ``idle``."""
        served = self.shell_handlers if channel == "shell" else self.control_handlers
        self.set_parent(idents, message, channel)
        msg_type = message["header"]["msg_type"]
        handler = served.get(msg_type)
        if msg_type == "execute_request":
            # The cell is sent to the worker before clients hear of it: that takes as long as a small cell runs.
            self._channels.iopub.cork()
        self._publish_status("busy", channel, parent=message)
        try:
            if handler is None:
                logger.warning("unknown message type %r on %s", msg_type, channel)
            else:
                await handler(self._stream(channel), idents, message)
        # An error in one request must not stop the others; its client waits for an answer all the same.
        except Exception as error:
            logger.exception("handling %s failed", msg_type)
            self._fail(idents, message, channel, error)
        self._publish_status("idle", channel, parent=message)
        executing = self._queues.main.executing
        is_subshell = message["header"].get("subshell_id") is not None
        if executing is not None and executing is not message and not is_subshell:
            # Clients show the last status that they saw, whichever request it was for: the cell is still running.
            self._publish_status("busy", "shell", parent=executing)

    def _refuse(self, idents: Any, message: Any, channel: str) -> None:
        """Answer a request for an unknown subshell; clients know by the status that it has ended."""
        error = UnknownSubshellError(message["header"]["subshell_id"])
        self._publish_status("busy", "shell", parent=message)
        self._fail(idents, message, channel, error)
        self._publish_status("idle", "shell", parent=message)

    def _fail(self, idents: Any, message: Any, channel: str, error: Exception) -> None:
        """Answer a request with an error. A message that is not a request (a comm's) gets no answer."""
        kind, is_request, _ = str(message["header"]["msg_type"]).rpartition("_request")
        if is_request:
            reply = contents.no_answer(error)
            self._channels.session.send(self._stream(channel), f"{kind}_reply", reply, message, ident=idents)

    def _stream(self, channel: str) -> Any:
        return self._channels.shell if channel == "shell" else self._channels.control

    def _publish_status(self, status: str, channel: str, parent: Any = None) -> None:
        parent = self.get_parent(channel) if parent is None else parent
        self._channels.iopub.send("status", {"execution_state": status}, parent, topic=self._topic("status"))

    # -- cells -----------------------------------------------------------------------------------------------

    async def execute_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Run a cell (Jupyter messaging, "Execute").

        Args:
            stream: the socket for the reply.
            ident: the identities of the client.
            parent: the request, with the code.
        """
        cells, queues = self.runtime.cells, self._queues
        queues.next_count = max(queues.next_count, cells.next_count)
        request = contents.execute_message(ids.new_execution_id(), parent, queues.number(parent))
        count = request.execution_count or 0
        if self.runtime.settings.on_input == "wait":
            request = request.model_copy(update={"allow_stdin": True})
        self._outputs.remember(request.id, parent, count)
        self._inputs.clients[request.id] = ident
        if not request.silent:
            body = {"code": parent["content"]["code"], "execution_count": count}
            self._channels.iopub.send("execute_input", body, parent, topic=self._topic("execute_input"))
        metadata = self.init_metadata(parent)
        try:
            result = await cells.execute(request, parent.get("metadata", {}).get("capsule"))
            following, reply = result.next_execution_count, contents.execute_reply(result)
        except ExecutionFailed as failure:
            error = contents.failure_output(failure)
            if not request.silent:
                self._outputs.publish(request.id, error)
            following = count + int(request.store_history and not request.silent)
            reply = contents.failure_reply(error, count)
        finally:
            del self._inputs.clients[request.id]
        if request.subshell is None:
            queues.advance(count, following)
        metadata["status"] = reply["status"]
        if cells.replayed:
            metadata["capsule"] = {"recorded": True}
        stop_on_error = parent["content"].get("stop_on_error", True)
        has_failed = reply["status"] == "error" and not request.silent and stop_on_error
        queued = self._take_queued(request.subshell) if has_failed else []
        self._channels.session.send(stream, "execute_reply", reply, parent, metadata=metadata, ident=ident)
        self._abort(queued)

    def _take_queued(self, subshell: str | None) -> list[Request]:
        """Return the cells that were sent before this moment: a cell that answers a reply is not among them."""
        # A cell that has arrived at the socket but was not read yet is queued, too.
        self._channels.shell.look()
        queue = self._queues.get(subshell)
        return queue.take_all() if queue is not None else []

    def _abort(self, cells: list[Request]) -> None:
        """Reply ``aborted`` to cells that were queued behind one that failed."""
        for idents, message, channel in cells:
            self._publish_status("busy", channel, parent=message)
            self._send_abort_reply(self._stream(channel), message, idents)
            self._publish_status("idle", channel, parent=message)

    # -- the kernel ------------------------------------------------------------------------------------------

    async def kernel_info_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Reply with a description of this kernel; waits for a worker that is still starting.

        Args:
            stream: the socket for the reply.
            ident: the identities of the client.
            parent: the request.
        """
        try:
            await self.runtime.workers.ready()
        except CapsuleError as error:
            logger.debug("%s", error)
        await super().kernel_info_request(stream, ident, parent)

    @property
    def kernel_info(self) -> dict[str, Any]:
        """The content of ``kernel_info_reply``: only features that the worker supports."""
        return contents.kernel_info(self.runtime.worker_info, self.runtime.isolation)

    def interrupt(self) -> None:
        """Interrupt the running cell; for the signal that some managers send instead of a request."""
        self._tasks.start(self.runtime.interrupt())

    async def interrupt_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Interrupt the running cell.

        Args:
            stream: the socket for the reply.
            ident: the identities of the client.
            parent: the request.
        """
        await self.runtime.interrupt()
        self._channels.session.send(stream, "interrupt_reply", {"status": "ok"}, parent, ident=ident)

    async def shutdown_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """End the worker and the processes that it started, reply, and stop the kernel.

        Args:
            stream: the socket for the reply.
            ident: the identities of the client.
            parent: the request, which says whether the client will restart the kernel.
        """
        try:
            await self.runtime.close()
        finally:
            asyncio.get_running_loop().call_soon(self.stopped.set)
        reply = {"status": "ok", "restart": bool(parent["content"].get("restart", False))}
        self._channels.session.send(stream, "shutdown_reply", reply, parent, ident=ident)
        self._channels.iopub.send("shutdown_reply", reply, parent, topic=self._topic("shutdown"))
