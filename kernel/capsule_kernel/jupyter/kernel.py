"""The kernel as Jupyter sees it: requests in, replies and outputs out. It never runs user code."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from ipykernel.kernelbase import Kernel
from ipykernel.subshell_manager import UnknownSubshellError

import capsule_kernel
from capsule_durable import ids
from capsule_durable.errors import CapsuleError, ExecutionFailed
from capsule_durable.execution.runtime import Runtime
from capsule_durable.messaging.capabilities import Capabilities, InputPrompt
from capsule_kernel.jupyter import contents
from capsule_kernel.jupyter.channels import Channels
from capsule_kernel.jupyter.resource_usage import Usage
from capsule_worker.protocol import Output
from capsule_worker.protocol import messages as m

logger = logging.getLogger(__name__)

#: Requests by execution that late output can still be attributed to.
REMEMBERED = 10_000


def _render(answer: m.Answer) -> m.MimeBundle:
    """Return how an answer is displayed. The renderer is imported when it is needed first."""
    from capsule_kernel.console.render import render

    return render(answer)


class ShellQueue:
    """The cells of one shell, the main one or a subshell, which run one after the other."""

    def __init__(self) -> None:
        #: Each with the channel that it came by.
        self.waiting: deque[tuple[Any, Any, str]] = deque()
        #: The request of the cell that runs.
        self.executing: Any = None
        #: Whether cells are taken.
        self.moving = False

    def take_all(self) -> list[tuple[Any, Any, str]]:
        """Return the cells that wait, which do not any more."""
        waiting = list(self.waiting)
        self.waiting.clear()
        return waiting


class CapsuleKernel(Kernel):
    """Serves one kernel's clients.

    Cells run one after the other; every other request is answered while a cell runs. (ipykernel's ``Kernel`` answers
    them in order, since its own thread runs the cells.)
    """

    implementation = "capsule"
    implementation_version = capsule_kernel.__version__
    msg_types = [*Kernel.msg_types, "comm_open", "comm_msg", "comm_close"]  # noqa: RUF012  # as in the base class
    control_msg_types = [*Kernel.control_msg_types, "capsule_answer_request"]  # noqa: RUF012  # as in the base class
    # Output and replies leave from one thread, so there is no race that a pause would win.
    _execute_sleep = 0.0

    def setup(self, channels: Channels, runtime_factory: Callable[[Capabilities], Runtime]) -> None:
        """Connect the kernel with its sockets and its runtime; the base class wants a constructor of its own."""
        self._channels = channels
        show = self._publish_output
        self.runtime = runtime_factory(Capabilities(show, show, self._prompt, self._leave, self._subshells, _render))
        self.next_count = self._running_count = 1
        self.stopped = asyncio.Event()
        self._leaving = False
        self._parents: OrderedDict[str, Any] = OrderedDict()
        #: The main shell (None), and subshells by their ids.
        self._lanes: dict[str | None, ShellQueue] = {}
        self._questions: list[tuple[InputPrompt, Any]] = []
        self._usage = Usage()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idents: dict[str, Any] = {}

    # -- receiving -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to serve."""
        self._control_lock = asyncio.Lock()
        self._open_lane(None)
        self._channels.shell.on_recv(self._on_shell)
        self._channels.control.on_recv(self._on_control)
        self._channels.stdin.on_recv(self._on_stdin)
        self.record_ports(self._channels.ports())
        self._publish_status("starting", "shell", parent={})

    def _on_shell(self, frames: Any) -> None:
        self._take(frames, "shell")

    def _on_control(self, frames: Any) -> None:
        self._take(frames, "control")

    def _take(self, frames: Any, channel: str) -> None:
        """Serve a request at once, but for cells, which wait for each other whichever way they come."""
        idents, message = self._decode(frames)
        if message is None:
            return
        lane = self._lane(message["header"].get("subshell_id"))
        if lane is None:
            self._refuse(idents, message, channel)
        elif message["header"]["msg_type"] == "execute_request":
            lane.waiting.append((idents, message, channel))
            if not lane.moving:
                self._spawn(self._run_cells(lane))
        else:
            self._spawn(self._serve(idents, message, channel))

    def _on_stdin(self, frames: Any) -> None:
        idents, message = self._decode(frames)
        if message is None or message["header"]["msg_type"] != "input_reply":
            return
        # The client's oldest, where it was asked for several.
        mine = [asked for asked in self._questions if asked[1] == idents] or self._questions
        if mine:
            self._questions.remove(mine[0])
            self.runtime.answer(mine[0][0], str(message["content"].get("value", "")))

    def _decode(self, frames: Any) -> tuple[Any, Any]:
        try:
            idents, rest = self._channels.session.feed_identities(frames, copy=False)
            return idents, self._channels.session.deserialize(rest, content=True, copy=False)
        # Whatever a stranger sends to a local port must not stop the kernel.
        except Exception:
            logger.exception("a message could not be read")
            return None, None

    def _spawn(self, coro: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- serving ---------------------------------------------------------------------------------------------

    def _lane(self, subshell: Any) -> ShellQueue | None:
        """Return the main shell's (None) or a subshell's; None where there is none, whatever a client calls it."""
        return self._lanes.get(subshell) if subshell is None or isinstance(subshell, str) else None

    def _open_lane(self, subshell: str | None) -> None:
        self._lanes[subshell] = ShellQueue()

    async def _run_cells(self, lane: ShellQueue) -> None:
        """Take one cell after the other, until none waits."""
        lane.moving = True
        try:
            while lane.waiting and not self.stopped.is_set():
                idents, lane.executing, channel = lane.waiting.popleft()
                await self._serve(idents, lane.executing, channel)
                lane.executing = None
                if self._leaving:
                    self.stopped.set()
        finally:
            lane.executing, lane.moving = None, False

    def _leave(self) -> None:
        """End the kernel where a cell wants that (``get_ipython().kernel.do_shutdown``), when it has ended."""
        self._leaving = True
        if self._lanes[None].executing is None:
            self.stopped.set()

    async def _serve(self, idents: Any, message: Any, channel: str) -> None:
        """Handle one request between its ``busy`` and its ``idle``."""
        handlers = self.shell_handlers if channel == "shell" else self.control_handlers
        stream = self._stream(channel)
        self.set_parent(idents, message, channel)
        msg_type = message["header"]["msg_type"]
        handler = handlers.get(msg_type)
        if msg_type == "execute_request":
            # Let the cell be on its way before anybody is told: that takes as long as a small cell runs.
            self._channels.iopub.cork()
        self._publish_status("busy", channel, parent=message)
        try:
            if handler is None:
                logger.warning("unknown message type %r on %s", msg_type, channel)
            else:
                await handler(stream, idents, message)
        # A fault in one request must not stop the others; its client waits for an answer all the same.
        except Exception as error:
            logger.exception("handling %s failed", msg_type)
            self._fail(idents, message, channel, error)
        self._publish_status("idle", channel, parent=message)
        executing = self._lanes[None].executing
        beside = message["header"].get("subshell_id") is not None
        if executing is not None and executing is not message and not beside:
            # Clients show the last status that they saw, whoever it was for: the cell is still running.
            self._publish_status("busy", "shell", parent=executing)

    def _fail(self, idents: Any, message: Any, channel: str, error: Exception) -> None:
        """Answer a request with an error. What is no request (a comm's message) has no answer."""
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
        """Run a cell (Jupyter messaging, "Execute")."""
        self.next_count = max(self.next_count, self.runtime.next_count)
        request = contents.execute_message(ids.new_execution_id(), parent, self._number(parent))
        count = request.execution_count or 0
        if self.runtime.settings.on_input == "wait":
            request = request.model_copy(update={"allow_stdin": True})
        self._remember(request.id, parent, count)
        self._idents[request.id] = ident
        if not request.silent:
            self._channels.iopub.send(
                "execute_input",
                {"code": parent["content"]["code"], "execution_count": count},
                parent,
                topic=self._topic("execute_input"),
            )
        metadata = self.init_metadata(parent)
        try:
            result = await self.runtime.execute(request, parent.get("metadata", {}).get("capsule"))
            self._count_on(request, result.next_execution_count)
            reply = contents.execute_reply(result)
        except ExecutionFailed as failure:
            error = contents.failure_output(failure)
            if not request.silent:
                self._publish_output(request.id, error)
            reply = contents.failure_reply(error, count)
            self._count_on(request, count + int(request.store_history and not request.silent))
        finally:
            del self._idents[request.id]
            self._questions = [asked for asked in self._questions if asked[0].execution_id != request.id]
        metadata["status"] = reply["status"]
        if self.runtime.recorded:
            metadata["capsule"] = {"recorded": True}
        stop_on_error = parent["content"].get("stop_on_error", True)
        failed = reply["status"] == "error" and not request.silent and stop_on_error
        behind = self._take_queued(request.subshell) if failed else []
        self._channels.session.send(stream, "execute_reply", reply, parent, metadata=metadata, ident=ident)
        self._abort(behind)

    def _number(self, parent: Any) -> int:
        """Return the number of a cell. The main shell's is taken when it has run; a subshell's at once."""
        if parent["header"].get("subshell_id") is None:
            self._running_count = self.next_count
            return self.next_count
        count = self.next_count
        if self._lanes[None].executing is not None:
            count = max(count, self._running_count + 1)
        if not parent["content"].get("silent", False):
            self.next_count = count + 1
        return count

    def _count_on(self, request: m.ExecuteMessage, following: int) -> None:
        """Number the next cell of the main shell, with regard to those that subshells have numbered meanwhile."""
        if request.subshell is None:
            passed = self.next_count > (request.execution_count or 0)
            self.next_count = max(following, self.next_count) if passed else following

    def _take_queued(self, subshell: str | None) -> list[Any]:
        """Return the cells that were sent before this moment: a cell that answers a reply is not among them."""
        # What has arrived at the socket but was not read yet is queued, too.
        self._channels.shell.look()
        lane = self._lanes.get(subshell)
        return lane.take_all() if lane is not None else []

    def _abort(self, cells: list[Any]) -> None:
        """Reply ``aborted`` to cells that were queued behind one that failed."""
        for idents, message, channel in cells:
            self._publish_status("busy", channel, parent=message)
            self._send_abort_reply(self._stream(channel), message, idents)
            self._publish_status("idle", channel, parent=message)

    def _publish_output(self, execution_id: str, output: Output) -> None:
        msg_type, body = contents.output_message(output)
        if execution_id in self._parents:
            self._parents.move_to_end(execution_id)
        metadata: dict[str, Any] = {}
        buffers: list[bytes] = []
        if isinstance(output, m.CommOutput):
            metadata, buffers = output.metadata, output.buffers
        self._channels.iopub.send(
            msg_type,
            body,
            self._parents.get(execution_id, {}),
            metadata=metadata,
            topic=self._topic(msg_type),
            buffers=buffers,
        )

    def _remember(self, execution_id: str, parent: Any, count: int | None = None) -> None:
        asks = bool(parent["content"].get("allow_stdin", False))
        content = {"allow_stdin": asks, "execution_count": count}
        self._parents[execution_id] = {"header": parent["header"], "content": content}
        if len(self._parents) > REMEMBERED:
            self._parents.popitem(last=False)

    # -- input -----------------------------------------------------------------------------------------------

    def _prompt(self, question: InputPrompt) -> None:
        """Send an ``input_request`` to the client that sent the cell."""
        ident = self._idents.get(question.execution_id)
        if ident is None:
            return
        asking = self._parents[question.execution_id]["content"]
        if not asking["allow_stdin"]:
            self._publish_output(question.execution_id, contents.awaited_input(question, asking["execution_count"]))
            return
        self._questions.append((question, ident))
        self._channels.session.send(
            self._channels.stdin,  # type: ignore[arg-type]  # what it needs of a socket
            "input_request",
            {"prompt": question.prompt, "password": question.password},
            self._parents.get(question.execution_id),
            ident=ident,
        )

    async def capsule_answer_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Take the answer to a password prompt from another terminal: it is to be on no disk."""
        body = parent["content"]
        taken = self.runtime.answer_secret(str(body.get("id", "")), str(body.get("value", "")))
        self._channels.session.send(
            stream, "capsule_answer_reply", {"status": "ok", "taken": taken}, parent, ident=ident
        )

    # -- comms -----------------------------------------------------------------------------------------------

    async def comm_open(self, _stream: Any, _ident: Any, parent: Any) -> None:
        """Hand what the client says to the object that it is for (Jupyter messaging, "Custom Messages")."""

        def make(request_id: str) -> m.CommMessage:
            message = contents.comm_message(request_id, parent)
            # Before it is sent: what it brings about is shown as its doing.
            self._remember(request_id, parent)
            return message

        try:
            await self.runtime.workers.ready()
            await self.runtime.tell(make)
        except (CapsuleError, ValueError, KeyError) as error:
            logger.warning("a comm message was not delivered: %s", error)

    comm_msg = comm_close = comm_open

    async def comm_info_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Say which comms are open."""
        wanted = parent["content"].get("target_name")
        targets = self.runtime.comms.items()
        comms = {comm_id: {"target_name": name} for comm_id, name in targets if wanted in (None, name)}
        self._channels.session.send(stream, "comm_info_reply", {"status": "ok", "comms": comms}, parent, ident=ident)

    # -- subshells -------------------------------------------------------------------------------------------

    async def create_subshell_request(self, socket: Any, ident: Any, parent: Any) -> None:
        """Open a shell whose cells run beside those of the main one (JEP 91)."""
        subshell = uuid.uuid4().hex
        self._open_lane(subshell)
        reply = {"status": "ok", "subshell_id": subshell}
        self._channels.session.send(socket, "create_subshell_reply", reply, parent, ident=ident)

    async def delete_subshell_request(self, socket: Any, ident: Any, parent: Any) -> None:
        """Close a subshell; a cell that runs there runs to its end."""
        subshell = parent["content"].get("subshell_id")
        lane = self._lane(subshell) if subshell is not None else None
        if lane is None:
            reply = contents.no_answer(UnknownSubshellError(subshell))
        else:
            reply = {"status": "ok"}
            del self._lanes[subshell]
            self._abort(lane.take_all())
        self._channels.session.send(socket, "delete_subshell_reply", reply, parent, ident=ident)

    def _subshells(self) -> list[str]:
        return [each for each in self._lanes if each is not None]

    async def list_subshell_request(self, socket: Any, ident: Any, parent: Any) -> None:
        """Say which subshells there are."""
        reply = {"status": "ok", "subshell_id": self._subshells()}
        self._channels.session.send(socket, "list_subshell_reply", reply, parent, ident=ident)

    def _refuse(self, idents: Any, message: Any, channel: str) -> None:
        """Answer a request for a subshell that is not there; clients know by the status that it is over."""
        error = UnknownSubshellError(message["header"]["subshell_id"])
        self._publish_status("busy", "shell", parent=message)
        self._fail(idents, message, channel, error)
        self._publish_status("idle", "shell", parent=message)

    # -- debugging -------------------------------------------------------------------------------------------

    async def debug_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Hand a request to the debugger, which is where cells run (Jupyter messaging, "Debug request")."""
        request = parent["content"]
        try:
            await self.runtime.workers.ready()
            reply = await self.runtime.debug(request)
        except CapsuleError as error:
            reply = contents.debug_failure(request, error)
        self._channels.session.send(stream, "debug_reply", reply, parent, ident=ident)

    # -- questions about code and names ----------------------------------------------------------------------

    async def complete_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Complete at the end of the code where the client does not say where."""
        await super().complete_request(stream, ident, contents.with_cursor(parent))

    async def inspect_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Inspect what is at the end of the code where the client does not say where."""
        await super().inspect_request(stream, ident, contents.with_cursor(parent))

    async def do_complete(self, code: str, cursor_pos: int) -> dict[str, Any]:
        """Return completions; none where the worker does not answer in time."""
        try:
            reply = await self.runtime.ask(
                lambda request_id: m.CompleteMessage(id=request_id, code=code, cursor_pos=cursor_pos)
            )
        except CapsuleError as error:
            return contents.no_answer(error, matches=[], cursor_start=cursor_pos, cursor_end=cursor_pos, metadata={})
        return dict(reply.content)

    async def do_inspect(
        self, code: str, cursor_pos: int, detail_level: int = 0, omit_sections: Any = ()
    ) -> dict[str, Any]:
        """Return what a name is; nothing where the worker does not answer in time."""
        try:
            reply = await self.runtime.ask(
                lambda request_id: m.InspectMessage(
                    id=request_id,
                    code=code,
                    cursor_pos=cursor_pos,
                    detail_level=1 if detail_level else 0,
                    omit_sections=list(omit_sections),
                )
            )
        except CapsuleError as error:
            return contents.no_answer(error, found=False, data={}, metadata={})
        return dict(reply.content)

    async def do_history(  # type: ignore[override]  # what is optional goes on as it came
        self, hist_access_type: str, output: bool, raw: bool, **rest: Any
    ) -> dict[str, Any]:
        """Return earlier cells."""
        try:
            reply = await self.runtime.ask(
                lambda request_id: contents.history_message(request_id, hist_access_type, output, raw, rest)
            )
        except (CapsuleError, ValueError) as error:
            return contents.no_answer(error, history=[])
        return {"status": "ok", "history": reply.history}

    async def do_is_complete(self, code: str) -> dict[str, Any]:
        """Return whether code can run as it stands."""
        try:
            reply = await self.runtime.ask(lambda request_id: m.IsCompleteMessage(id=request_id, code=code))
        except CapsuleError:
            return {"status": "unknown"}
        return {"status": reply.status} | ({"indent": reply.indent} if reply.status == "incomplete" else {})

    async def usage_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Say what the kernel's processes use."""
        reply = await asyncio.to_thread(self._usage.look)
        self._channels.session.send(stream, "usage_reply", reply, parent, ident=ident)

    # -- the kernel ------------------------------------------------------------------------------------------

    async def kernel_info_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Say what this kernel is; a worker that is still starting is waited for."""
        try:
            await self.runtime.workers.ready()
        except CapsuleError as error:
            logger.debug("%s", error)
        await super().kernel_info_request(stream, ident, parent)

    @property
    def kernel_info(self) -> dict[str, Any]:
        """The content of ``kernel_info_reply``, honest about what is supported."""
        return contents.kernel_info(self.runtime.ready, self.runtime.isolation)

    def interrupt(self) -> None:
        """Interrupt the running cell; for the signal that some managers send instead of a request."""
        self._spawn(self.runtime.interrupt())

    async def interrupt_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Interrupt the running cell."""
        await self.runtime.interrupt()
        self._channels.session.send(stream, "interrupt_reply", {"status": "ok"}, parent, ident=ident)

    async def shutdown_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """End the worker and everything it started, reply, and leave."""
        await self.runtime.close()
        reply = {"status": "ok", "restart": bool(parent["content"].get("restart", False))}
        self._channels.session.send(stream, "shutdown_reply", reply, parent, ident=ident)
        self._channels.iopub.send("shutdown_reply", reply, parent, topic=self._topic("shutdown"))
        asyncio.get_running_loop().call_soon(self.stopped.set)
