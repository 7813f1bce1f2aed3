"""Comms: two-way channels between objects of the notebook, such as widgets, and what shows them at the client.

See "Custom Messages" in the Jupyter messaging specification.

Messages from the client are taken in the main thread: at once where it is idle, or awaits, and else when its cell has
ended. What they make cells' objects print or show belongs to the message, not to a cell.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import pickle
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, ClassVar

import comm
from comm.base_comm import BaseComm, CommManager

from capsule_worker.output.jsonable import jsonable
from capsule_worker.process import execution_context
from capsule_worker.protocol.messages import CommMessage, CommOutput, ExecuteMessage

if TYPE_CHECKING:
    from capsule_worker.output.output_writer import OutputWriter

#: Requests whose headers are remembered.
_REMEMBERED = 1000
_UNKNOWN: dict[str, Any] = {"header": {}, "parent_header": {}, "metadata": {}, "content": {}, "buffers": []}
_KINDS = {"comm_open": "open", "comm_msg": "msg", "comm_close": "close"}


class Comm(BaseComm):
    """Sends what an object says behind what was shown before."""

    #: Where it leaves, and who is told.
    outlet: ClassVar[OutputWriter]
    comms: ClassVar[Comms]

    def __reduce__(self) -> Any:
        """Refuse: a copy would speak to nobody."""
        raise pickle.PicklingError("a comm, whose other end is at the client")

    def publish_msg(  # the signature is the base class's
        self,
        msg_type: str,
        data: Any = None,
        metadata: dict[str, Any] | None = None,
        buffers: Any = None,
        **keys: Any,
    ) -> None:
        """Send a message to the client."""
        Comm.comms.asked(data)
        Comm.outlet.publish(
            CommOutput(
                event=_KINDS[msg_type],  # type: ignore[arg-type]  # one of three
                comm_id=self.comm_id,
                target_name=keys.get("target_name"),
                target_module=keys.get("target_module"),
                data=jsonable({} if data is None else data),
                metadata=jsonable(metadata or {}),
                buffers=[memoryview(each).cast("B").tobytes() for each in buffers or ()],
            )
        )


def _adopt(kind: Any, /, **_: Any) -> None:
    """Have ipykernel's own comms, which some libraries ask for by name, speak as ours do: its kernel is not here."""
    if kind.__module__ == "ipykernel.comm.comm":
        kind.publish_msg = Comm.publish_msg


def _question(data: Any) -> str | None:
    """Return the id by which widgets match an answer with its question, in messages of their own making."""
    content = data.get("content") if isinstance(data, dict) else None
    question = content.get("id") if isinstance(content, dict) else None
    return question if isinstance(question, str) else None


class Comms:
    """The comms of this process. There is one such object.

    Args:
        outlet: where what objects say leaves.
    """

    def __init__(self, outlet: OutputWriter) -> None:
        self.manager = CommManager()
        self._requests: OrderedDict[str, dict[str, Any]] = OrderedDict()
        #: The subshells, or None for the main shell, whose code has asked something, by the ids of the questions.
        self._asking: OrderedDict[str, str | None] = OrderedDict()
        Comm.outlet, Comm.comms = outlet, self
        BaseComm.__init_subclass__ = classmethod(_adopt)  # type: ignore[assignment]
        comm.create_comm = Comm
        comm.get_comm_manager = lambda: self.manager

    def remember(
        self, execution_id: str, header: dict[str, Any], metadata: dict[str, Any], content: dict[str, Any]
    ) -> None:
        """Remember the request that an execution, or a message, came with."""
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
        if len(self._requests) > _REMEMBERED:
            self._requests.popitem(last=False)

    def remember_cell(self, message: ExecuteMessage) -> None:
        """Remember the request that an execution came with."""
        names = ("code", "silent", "store_history", "user_expressions", "allow_stdin")
        self.remember(message.id, message.header, message.metadata, {name: getattr(message, name) for name in names})

    def asked(self, data: Any) -> None:
        """Remember which shell asks, where what is sent is a question."""
        question = _question(data)
        if question is not None:
            self._asking[question] = self.parent()["header"].get("subshell_id")
            if len(self._asking) > _REMEMBERED:
                self._asking.popitem(last=False)

    def taker(self, message: CommMessage) -> str | None:
        """Return the subshell that takes a message: of an answer the one that has asked, which may wait for it."""
        question = _question(message.data)
        if question is None:
            return message.subshell
        return self._asking.pop(question, message.subshell)

    def parent(self) -> dict[str, Any]:
        """Return the request that the calling code belongs to, as far as it is known."""
        current = execution_context.current()
        with contextlib.suppress(KeyError):
            self._requests.move_to_end(current)
        return dict(self._requests.get(current, _UNKNOWN))

    def execution_of(self, parent: dict[str, Any]) -> str | None:
        """Return the execution that a request belongs to, if it is known."""
        message_id = parent.get("header", parent).get("msg_id")
        known = list(self._requests.items())
        return next((execution for execution, one in known if one["msg_id"] == message_id is not None), None)

    def take(self, message: CommMessage) -> None:
        """Hand a message of the client's to the object that it is for."""
        content: dict[str, Any] = {"comm_id": message.comm_id, "data": message.data}
        if message.event == "open":
            content |= {"target_name": message.target_name, "target_module": message.target_module}
        # Of what is said only the rest is remembered: it can be much.
        self.remember(message.id, message.header, message.metadata, {})
        told = self._requests[message.id] | {
            "content": content,
            "buffers": [memoryview(each) for each in message.buffers],
        }
        with execution_context.attributed_to(message.id):
            handle = getattr(self.manager, f"comm_{message.event}")
            handle(None, None, told)

    def targets(self) -> dict[str, str]:
        """Return the names of the targets of the comms that are open, by id."""
        return {comm_id: one.target_name for comm_id, one in list(self.manager.comms.items())}
