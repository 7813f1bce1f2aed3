"""An object in place of the kernel's Jupyter session, through which libraries in a cell send messages."""

from __future__ import annotations

import datetime as dt
import os
import uuid
from typing import TYPE_CHECKING, Any, get_args

from capsule_worker.output.jsonable import jsonable
from capsule_worker.process import execution_context
from capsule_worker.protocol import messages as m
from capsule_worker.protocol.output_buffer import StreamName

if TYPE_CHECKING:
    from capsule_worker.frontend.comms import Comms
    from capsule_worker.output.output_writer import OutputWriter


class SessionProxy:
    """Shows messages as output of cells, for example those of a client of another kernel (``execute_interactive``).

    Args:
        output: sends the output.
        comms: know the execution of each request.
    """

    def __init__(self, output: OutputWriter, comms: Comms) -> None:
        self._output, self._comms = output, comms
        #: The id of the session.
        self.session = str(uuid.uuid4())

    @property
    def username(self) -> str:
        """The user that runs the kernel."""
        return os.environ.get("USER", "username")

    def msg(
        self, msg_type: str, content: Any = None, parent: Any = None, header: Any = None, metadata: Any = None
    ) -> dict[str, Any]:
        """Return a message for ``send``.

        Args:
            msg_type: its type.
            content: its content.
            parent: the request that it belongs to, or the header of that.
            header: its header; None for a new one.
            metadata: its metadata.
        """
        made = header or {
            "msg_id": str(uuid.uuid4()),
            "msg_type": msg_type,
            "username": self.username,
            "session": self.session,
            "date": dt.datetime.now(dt.timezone.utc),
            "version": "5.4",
        }
        return {
            "header": made,
            "msg_id": made["msg_id"],
            "msg_type": made["msg_type"],
            "parent_header": parent.get("header", parent) if parent else {},
            "content": {} if content is None else content,
            "metadata": metadata or {},
        }

    def send(  # jupyter_client's signature
        self,
        stream: Any,  # noqa: ARG002  # as above
        msg_or_type: Any,
        content: Any = None,
        parent: Any = None,
        ident: Any = None,  # noqa: ARG002  # as above
        buffers: Any = None,
        track: bool = False,  # noqa: ARG002  # as above
        header: Any = None,
        metadata: Any = None,
    ) -> dict[str, Any]:
        """Show a message below the cell of its request; return the message. The arguments are jupyter_client's.

        Args:
            stream: ignored.
            msg_or_type: the message, or its type.
            content: the content, with a type.
            parent: the request, with a type; None for that of the calling code.
            ident: ignored.
            buffers: binary data of a comm message.
            track: ignored.
            header: with a type.
            metadata: with a type.

        Raises:
            ValueError: cells cannot send messages of this type.
        """
        if isinstance(msg_or_type, str):
            message = self.msg(msg_or_type, content, parent, header, metadata)
        else:
            message = msg_or_type
        execution = self._comms.execution_of(message.get("parent_header") or {}) or execution_context.current()
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "stream":
            self._write(execution, content)
        else:
            self._output.publish(_output(kind, content, message, buffers or message.get("buffers")), execution)
        return dict(message)

    def _write(self, execution: str, content: dict[str, Any]) -> None:
        name: Any = content.get("name")
        if name not in get_args(StreamName):
            raise ValueError(f"unknown stream {name!r} (choose from {', '.join(get_args(StreamName))})")
        with execution_context.attributed_to(execution):
            self._output.write(name, content.get("text", ""))


def _output(kind: str, content: dict[str, Any], message: dict[str, Any], buffers: Any) -> m.Output:
    """Return the output that a message is. Raises ValueError if cells cannot send messages of this type."""
    if kind == "clear_output":
        return m.ClearOutput(wait=bool(content.get("wait")))
    if kind == "error":
        lines = [str(line) for line in content.get("traceback", [])]
        return m.ErrorOutput(
            ename=str(content.get("ename", "")), evalue=str(content.get("evalue", "")), traceback=lines
        )
    if kind in ("comm_open", "comm_msg", "comm_close"):
        return m.CommOutput(
            event=kind.removeprefix("comm_"),  # type: ignore[arg-type]  # one of three
            comm_id=content["comm_id"],
            target_name=content.get("target_name"),
            target_module=content.get("target_module"),
            data=jsonable(content.get("data", {})),
            metadata=jsonable(message.get("metadata") or {}),
            buffers=[memoryview(each).cast("B").tobytes() for each in buffers or ()],
        )
    bundle = {name: jsonable(content.get(name) or {}) for name in ("data", "metadata", "transient")}
    if kind == "display_data":
        return m.DisplayOutput(**bundle)
    if kind == "update_display_data":
        return m.UpdateOutput(**bundle)
    if kind == "execute_result":
        return m.ExecuteResultOutput(execution_count=int(content.get("execution_count") or 0), **bundle)
    raise ValueError(
        f"a cell cannot send a message of the type {kind!r}. The kernel, which is another process, passes on outputs"
        " (stream, display_data, update_display_data, execute_result, clear_output, error) and comm messages, which"
        " carry anything else"
    )
