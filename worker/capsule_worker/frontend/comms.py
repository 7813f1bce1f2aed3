"""Comms: two-way channels between objects of the notebook, such as widgets, and the client that shows them.

See "Custom Messages" in the Jupyter messaging specification.

The main thread handles messages from the client: at once if it is idle, or awaits, and otherwise after its cell. The
output of their callbacks belongs to the message, not to a cell.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import comm
from comm.base_comm import BaseComm, CommManager

from capsule_worker.output.jsonable import jsonable
from capsule_worker.process import execution_context
from capsule_worker.protocol.messages import CommMessage, CommOutput, ExecuteMessage

if TYPE_CHECKING:
    from capsule_worker.output.output_writer import OutputWriter

#: How many requests are remembered.
_MAX_REQUESTS = 1000
_UNKNOWN: dict[str, Any] = {"header": {}, "parent_header": {}, "metadata": {}, "content": {}, "buffers": []}
_EVENTS = {"comm_open": "open", "comm_msg": "msg", "comm_close": "close"}


class Comm(BaseComm):
    """One end of a comm; its messages leave after the output that was written before."""

    output: ClassVar[OutputWriter]
    comms: ClassVar[Comms]

    def __reduce__(self) -> Any:
        """Refuse: a copy would have no other end."""
        raise pickle.PicklingError("a comm, whose other end is at the client")

    def publish_msg(  # the signature is the base class's
        self,
        msg_type: str,
        data: Any = None,
        metadata: dict[str, Any] | None = None,
        buffers: Any = None,
        **keys: Any,
    ) -> None:
        """Send a message to the client.

        Args:
            msg_type: ``comm_open``, ``comm_msg`` or ``comm_close``.
            data: the content; anything that becomes JSON.
            metadata: of the message.
            buffers: binary data, as bytes-like objects.
            keys: the target's name and module, of ``comm_open``.
        """
        Comm.comms.remember_question(data)
        Comm.output.publish(
            CommOutput(
                event=_EVENTS[msg_type],  # type: ignore[arg-type]  # one of three
                comm_id=self.comm_id,
                target_name=keys.get("target_name"),
                target_module=keys.get("target_module"),
                data=jsonable({} if data is None else data),
                metadata=jsonable(metadata or {}),
                buffers=[memoryview(each).cast("B").tobytes() for each in buffers or ()],
            )
        )


def _replace_publish(kind: Any, /, **_: Any) -> None:
    """Let ipykernel's own comms, which some libraries import by name, send as ours do: its kernel is not here."""
    if kind.__module__ == "ipykernel.comm.comm":
        kind.publish_msg = Comm.publish_msg


def _question_id(data: Any) -> str | None:
    """Return the id by which widgets match an answer with its question, in messages of their own format."""
    content = data.get("content") if isinstance(data, dict) else None
    question = content.get("id") if isinstance(content, dict) else None
    return question if isinstance(question, str) else None


class Comms:
    """The comms of this process. A worker has one such object.

    Args:
        output: sends what comms send.
    """

    def __init__(self, output: OutputWriter) -> None:
        self.manager = CommManager()
        self._handlers: dict[str, Callable[..., None]] = {
            "open": self.manager.comm_open,
            "msg": self.manager.comm_msg,
            "close": self.manager.comm_close,
        }
        self._requests: OrderedDict[str, dict[str, Any]] = OrderedDict()
        #: The subshell, or None for the main shell, whose code asked a question, by the id of the question.
        self._asked_in: OrderedDict[str, str | None] = OrderedDict()
        Comm.output, Comm.comms = output, self
        BaseComm.__init_subclass__ = classmethod(_replace_publish)  # type: ignore[assignment]
        comm.create_comm = Comm
        comm.get_comm_manager = lambda: self.manager

    def remember(
        self, execution_id: str, header: dict[str, Any], metadata: dict[str, Any], content: dict[str, Any]
    ) -> None:
        """Remember the request of an execution, or of a comm message.

        Args:
            execution_id: its id.
            header: the header of the request.
            metadata: its metadata.
            content: its content.
        """
        with contextlib.suppress(KeyError, TypeError, ValueError):
            header = {**header, "date": dt.datetime.fromisoformat(header["date"])}
        self._requests[execution_id] = {
            "header": header,
            "msg_id": header.get("msg_id"),
            "msg_type": header.get("msg_type"),
            "parent_header": {},
            "metadata": metadata,
            "content": content,
            "buffers": [],
        }
        if len(self._requests) > _MAX_REQUESTS:
            self._requests.popitem(last=False)

    def remember_cell(self, message: ExecuteMessage) -> None:
        """Remember the request of an execution.

        Args:
            message: the execution.
        """
        names = ("code", "silent", "store_history", "user_expressions", "allow_stdin")
        self.remember(message.id, message.header, message.metadata, {name: getattr(message, name) for name in names})

    def remember_question(self, data: Any) -> None:
        """Remember which shell asks, if a message to the client is a question.

        Args:
            data: the content of the message.
        """
        question = _question_id(data)
        if question is not None:
            self._asked_in[question] = self.parent()["header"].get("subshell_id")
            if len(self._asked_in) > _MAX_REQUESTS:
                self._asked_in.popitem(last=False)

    def subshell_for(self, message: CommMessage) -> str | None:
        """Return the subshell that handles a message; None for the main shell.

        Args:
            message: from the client. An answer goes to the shell that asked, which may wait for it.
        """
        question = _question_id(message.data)
        if question is None:
            return message.subshell
        return self._asked_in.pop(question, message.subshell)

    def parent(self) -> dict[str, Any]:
        """Return the request that the calling code belongs to; an empty one if it is not known."""
        current = execution_context.current()
        with contextlib.suppress(KeyError):
            self._requests.move_to_end(current)
        return dict(self._requests.get(current, _UNKNOWN))

    def execution_of(self, parent: dict[str, Any]) -> str | None:
        """Return the execution of a request, if it is known.

        Args:
            parent: the request, or its header.
        """
        message_id = parent.get("header", parent).get("msg_id")
        known = list(self._requests.items())
        return next((execution for execution, one in known if one["msg_id"] == message_id is not None), None)

    def handle(self, message: CommMessage) -> None:
        """Pass a message from the client to its comm.

        Args:
            message: the message.
        """
        content: dict[str, Any] = {"comm_id": message.comm_id, "data": message.data}
        if message.event == "open":
            content |= {"target_name": message.target_name, "target_module": message.target_module}
        # Without the content, which can be large.
        self.remember(message.id, message.header, message.metadata, {})
        request = self._requests[message.id] | {
            "content": content,
            "buffers": [memoryview(each) for each in message.buffers],
        }
        with execution_context.attributed_to(message.id):
            # The stream and the identity are for ipykernel's own comms.
            self._handlers[message.event](None, None, request)

    def targets(self) -> dict[str, str]:
        """Return the target names of the open comms by comm id."""
        return {comm_id: one.target_name for comm_id, one in list(self.manager.comms.items())}
