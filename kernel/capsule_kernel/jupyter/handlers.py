"""Handlers of requests other than cells: each object handles the requests of one kind.

``CapsuleKernel`` enters them in ``shell_handlers`` and ``control_handlers`` of ipykernel's ``Kernel``. A handler gets
the stream for the reply, the identities of the client and the request.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from ipykernel.jsonutil import json_clean
from ipykernel.subshell_manager import UnknownSubshellError
from jupyter_client.session import Session

from capsule_durable.errors import CapsuleError
from capsule_durable.execution.inputs import InputBroker
from capsule_durable.execution.runtime import Runtime
from capsule_durable.messaging.capabilities import InputPrompt
from capsule_kernel.jupyter import contents
from capsule_kernel.jupyter.outputs import OutputPublisher
from capsule_kernel.jupyter.resource_usage import Usage
from capsule_kernel.jupyter.shell_queues import Request, ShellQueues
from capsule_kernel.jupyter.sockets import Router
from capsule_worker.protocol import messages as m

logger = logging.getLogger(__name__)

#: Handles a request: stream, identities of the client, request.
Handler = Callable[[Any, Any, Any], Awaitable[None]]


class CodeHandlers:
    """Answers requests about code and names: completion, inspection, history.

    Args:
        runtime: asks the worker.
        session: sends the replies.
    """

    def __init__(self, runtime: Runtime, session: Session) -> None:
        self._runtime = runtime
        self._session = session
        self.handlers: dict[str, Handler] = {
            "complete_request": self.complete,
            "inspect_request": self.inspect,
            "history_request": self.history,
            "is_complete_request": self.is_complete,
        }

    async def complete(self, stream: Any, ident: Any, parent: Any) -> None:
        """Reply with completions; none where the worker does not answer in time.

        Args:
            stream: the socket for the reply.
            ident: the identities of the client.
            parent: the request, with the code and the position of the cursor.
        """
        code, cursor_pos = contents.code_and_cursor(parent)
        try:
            answer = await self._runtime.ask(
                lambda request_id: m.CompleteMessage(id=request_id, code=code, cursor_pos=cursor_pos)
            )
            reply = dict(answer.content)
        except CapsuleError as error:
            reply = contents.no_answer(error, matches=[], cursor_start=cursor_pos, cursor_end=cursor_pos, metadata={})
        self._session.send(stream, "complete_reply", json_clean(reply), parent, ident)

    async def inspect(self, stream: Any, ident: Any, parent: Any) -> None:
        """Reply with the documentation of a name; nothing where the worker does not answer in time.

        Args:
            stream: the socket for the reply.
            ident: the identities of the client.
            parent: the request, with the code and the position of the cursor.
        """
        code, cursor_pos = contents.code_and_cursor(parent)
        detail_level: Literal[0, 1] = 1 if parent["content"].get("detail_level", 0) else 0
        omit_sections = list(set(parent["content"].get("omit_sections", [])))
        try:
            answer = await self._runtime.ask(
                lambda request_id: m.InspectMessage(
                    id=request_id,
                    code=code,
                    cursor_pos=cursor_pos,
                    detail_level=detail_level,
                    omit_sections=omit_sections,
                )
            )
            reply = dict(answer.content)
        except CapsuleError as error:
            reply = contents.no_answer(error, found=False, data={}, metadata={})
        self._session.send(stream, "inspect_reply", json_clean(reply), parent, ident)

    async def history(self, stream: Any, ident: Any, parent: Any) -> None:
        """Reply with earlier cells.

        Args:
            stream: the socket for the reply.
            ident: the identities of the client.
            parent: the request.
        """
        reply = await self._find_history(**parent["content"])
        self._session.send(stream, "history_reply", json_clean(reply), parent, ident)

    async def _find_history(self, hist_access_type: str, output: bool, raw: bool, **rest: Any) -> dict[str, Any]:
        try:
            answer = await self._runtime.ask(
                lambda request_id: contents.history_message(request_id, hist_access_type, output, raw, rest)
            )
        except (CapsuleError, ValueError) as error:
            return contents.no_answer(error, history=[])
        return {"status": "ok", "history": answer.history}

    async def is_complete(self, stream: Any, ident: Any, parent: Any) -> None:
        """Reply whether code is complete.

        Args:
            stream: the socket for the reply.
            ident: the identities of the client.
            parent: the request, with the code.
        """
        code = parent["content"]["code"]
        try:
            answer = await self._runtime.ask(lambda request_id: m.IsCompleteMessage(id=request_id, code=code))
        except CapsuleError:
            reply = {"status": "unknown"}
        else:
            reply = {"status": answer.status}
            if answer.status == "incomplete":
                reply["indent"] = answer.indent
        self._session.send(stream, "is_complete_reply", json_clean(reply), parent, ident)


class CommHandlers:
    """Delivers the client's messages to comms (Jupyter messaging, "Custom Messages").

    Args:
        runtime: has the comms.
        session: sends the replies.
        outputs: attributes outputs to the messages that caused them.
    """

    def __init__(self, runtime: Runtime, session: Session, outputs: OutputPublisher) -> None:
        self._runtime = runtime
        self._session = session
        self._outputs = outputs
        self.handlers: dict[str, Handler] = {
            "comm_open": self.deliver,
            "comm_msg": self.deliver,
            "comm_close": self.deliver,
            "comm_info_request": self.info,
        }

    async def deliver(self, _stream: Any, _ident: Any, parent: Any) -> None:
        """Deliver a message to the comm that it is for.

        Args:
            _stream: unused: there is no reply.
            _ident: unused.
            parent: the Jupyter message.
        """
        runtime = self._runtime
        try:
            await runtime.workers.ready()
            message = contents.comm_message(runtime.session.next_request_id(), parent)
            # Before it is sent: its outputs are attributed to it.
            self._outputs.remember(message.id, parent)
            await runtime.comms.send(message)
        except (CapsuleError, ValueError, KeyError) as error:
            logger.warning("a comm message was not delivered: %s", error)

    async def info(self, stream: Any, ident: Any, parent: Any) -> None:
        """Reply with the open comms.

        Args:
            stream: the socket for the reply.
            ident: the identities of the client.
            parent: the request, with the target name of the wanted comms; without one, all are wanted.
        """
        wanted = parent["content"].get("target_name")
        targets = self._runtime.comms.targets.items()
        comms = {comm_id: {"target_name": name} for comm_id, name in targets if wanted in (None, name)}
        self._session.send(stream, "comm_info_reply", {"status": "ok", "comms": comms}, parent, ident=ident)


class DebugHandlers:
    """Relays requests to the debugger, which runs in the worker.

    Args:
        runtime: has the debugger.
        session: sends the replies.
    """

    def __init__(self, runtime: Runtime, session: Session) -> None:
        self._runtime = runtime
        self._session = session
        self.handlers: dict[str, Handler] = {"debug_request": self.debug}

    async def debug(self, stream: Any, ident: Any, parent: Any) -> None:
        """Reply with the debugger's response (Jupyter messaging, "Debug request").

        Args:
            stream: the socket for the reply.
            ident: the identities of the client.
            parent: the request, with a request of the Debug Adapter Protocol as its content.
        """
        request = parent["content"]
        try:
            await self._runtime.workers.ready()
            reply = await self._runtime.debug.request(request)
        except CapsuleError as error:
            reply = contents.debug_failure(request, error)
        self._session.send(stream, "debug_reply", reply, parent, ident=ident)


class SubshellHandlers:
    """Opens, closes and lists subshells (JEP 91).

    Args:
        queues: the queues of the shells.
        session: sends the replies.
        abort: replies ``aborted`` to cells that cannot run any more.
    """

    def __init__(self, queues: ShellQueues, session: Session, abort: Callable[[list[Request]], None]) -> None:
        self._queues = queues
        self._session = session
        self._abort = abort
        self.handlers: dict[str, Handler] = {
            "create_subshell_request": self.create,
            "delete_subshell_request": self.delete,
            "list_subshell_request": self.list,
        }

    async def create(self, stream: Any, ident: Any, parent: Any) -> None:
        """Open a shell whose cells run at the same time as those of the main shell.

        Args:
            stream: the socket for the reply.
            ident: the identities of the client.
            parent: the request.
        """
        subshell = uuid.uuid4().hex
        self._queues.open(subshell)
        reply = {"status": "ok", "subshell_id": subshell}
        self._session.send(stream, "create_subshell_reply", reply, parent, ident=ident)

    async def delete(self, stream: Any, ident: Any, parent: Any) -> None:
        """Close a subshell; a cell that runs there runs to its end.

        Args:
            stream: the socket for the reply.
            ident: the identities of the client.
            parent: the request, with the id of the subshell.
        """
        subshell = parent["content"].get("subshell_id")
        if subshell is None or self._queues.get(subshell) is None:
            reply = contents.no_answer(UnknownSubshellError(subshell))
        else:
            reply = {"status": "ok"}
            self._abort(self._queues.close(subshell))
        self._session.send(stream, "delete_subshell_reply", reply, parent, ident=ident)

    async def list(self, stream: Any, ident: Any, parent: Any) -> None:
        """Reply with the open subshells.

        Args:
            stream: the socket for the reply.
            ident: the identities of the client.
            parent: the request.
        """
        reply = {"status": "ok", "subshell_id": self._queues.subshells}
        self._session.send(stream, "list_subshell_reply", reply, parent, ident=ident)


class UsageHandlers:
    """Reports the CPU and memory that the kernel's processes use.

    Args:
        session: sends the replies.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._usage = Usage()
        self.handlers: dict[str, Handler] = {"usage_request": self.usage}

    async def usage(self, stream: Any, ident: Any, parent: Any) -> None:
        """Reply with CPU and memory.

        Args:
            stream: the socket for the reply.
            ident: the identities of the client.
            parent: the request.
        """
        reply = await asyncio.to_thread(self._usage.look)
        self._session.send(stream, "usage_reply", reply, parent, ident=ident)


class InputHandlers:
    """Asks clients for the inputs of their cells.

    Args:
        stdin: the socket for prompts.
        session: sends the prompts and replies.
        outputs: knows the requests of executions.
    """

    def __init__(self, stdin: Router, session: Session, outputs: OutputPublisher) -> None:
        self._stdin = stdin
        self._session = session
        self._outputs = outputs
        self._broker: InputBroker | None = None
        #: The clients of the executions that run; the kernel adds and removes them.
        self.clients: dict[str, Any] = {}
        #: The prompts that are shown, each with its client.
        self._prompts: list[tuple[InputPrompt, Any]] = []
        self.handlers: dict[str, Handler] = {"capsule_answer_request": self.answer_secret}

    def connect(self, broker: InputBroker) -> None:
        """Give the answers to a broker from now on."""
        self._broker = broker

    def prompt(self, question: InputPrompt) -> None:
        """Send an ``input_request`` to the client that sent the cell; a capability."""
        ident, request = self.clients.get(question.execution_id), self._outputs.request_of(question.execution_id)
        if ident is None:
            return
        asking = request["content"]
        if not asking["allow_stdin"]:
            self._outputs.publish(question.execution_id, contents.awaited_input(question, asking["execution_count"]))
            return
        self._prompts.append((question, ident))
        self._session.send(
            self._stdin,  # type: ignore[arg-type]  # what it needs of a socket
            "input_request",
            {"prompt": question.prompt, "password": question.password},
            request,
            ident=ident,
        )

    def on_reply(self, idents: Any, message: Any) -> None:
        """Take the answer to the oldest prompt of a client.

        Args:
            idents: the identities of the client.
            message: the ``input_reply``.
        """
        self._prompts = [each for each in self._prompts if each[0].execution_id in self.clients]
        own = [each for each in self._prompts if each[1] == idents] or self._prompts
        if own and self._broker is not None:
            self._prompts.remove(own[0])
            self._broker.answer(own[0][0], str(message["content"].get("value", "")))

    async def answer_secret(self, stream: Any, ident: Any, parent: Any) -> None:
        """Take the answer to a password prompt from another terminal; it is never written to a disk.

        Args:
            stream: the socket for the reply.
            ident: the identities of the client.
            parent: the request, with the id of the input and the password.
        """
        body = parent["content"]
        is_taken = self._broker is not None and self._broker.answer_secret(
            str(body.get("id", "")), str(body.get("value", ""))
        )
        reply = {"status": "ok", "taken": is_taken}
        self._session.send(stream, "capsule_answer_reply", reply, parent, ident=ident)
