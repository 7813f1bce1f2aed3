"""The output of cells."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from capsule_worker.protocol.messages.base import Json, MessageModel, MimeBundle


class StreamOutput(MessageModel):
    """Text written to ``stdout`` or ``stderr``."""

    kind: Literal["stream"] = "stream"
    name: Literal["stdout", "stderr"]
    text: str


class DisplayOutput(MessageModel):
    """A rich object shown by ``display``; ``transient`` may hold its ``display_id``."""

    kind: Literal["display"] = "display"
    data: MimeBundle
    metadata: Json = Field(default_factory=dict)
    transient: Json = Field(default_factory=dict)


class UpdateOutput(MessageModel):
    """New content for every display with the same ``display_id``."""

    kind: Literal["update"] = "update"
    data: MimeBundle
    metadata: Json = Field(default_factory=dict)
    transient: Json = Field(default_factory=dict)


class ExecuteResultOutput(MessageModel):
    """The value of a cell's last expression, ``Out[n]``."""

    kind: Literal["execute_result"] = "execute_result"
    execution_count: int
    data: MimeBundle
    metadata: Json = Field(default_factory=dict)
    transient: Json = Field(default_factory=dict)


class ClearOutput(MessageModel):
    """Clear the cell's output, at once or (``wait``) when the next output comes."""

    kind: Literal["clear"] = "clear"
    wait: bool = False


class ErrorOutput(MessageModel):
    """The traceback of an exception, as it is shown below the cell."""

    kind: Literal["error"] = "error"
    ename: str
    evalue: str
    traceback: list[str]


class CommModel(MessageModel):
    """What both directions of a comm have in common."""

    event: Literal["open", "msg", "close"]
    comm_id: str
    target_name: str | None = None
    target_module: str | None = None
    #: An object by the specification; some libraries send text.
    data: Any = Field(default_factory=dict)
    metadata: Json = Field(default_factory=dict)
    buffers: list[bytes] = Field(default_factory=list)


class CommOutput(CommModel):
    """A message of an object to its counterpart at the client (``comm_open``, ``comm_msg``, ``comm_close``)."""

    kind: Literal["comm"] = "comm"


class DebugOutput(MessageModel):
    """An event of the Debug Adapter Protocol, for the client that debugs (``debug_event``)."""

    kind: Literal["debug"] = "debug"
    event: Json


Output = Annotated[
    StreamOutput
    | DisplayOutput
    | UpdateOutput
    | ExecuteResultOutput
    | ClearOutput
    | ErrorOutput
    | CommOutput
    | DebugOutput,
    Field(discriminator="kind"),
]


class OutputMessage(MessageModel):
    """One piece of output, of the cell that caused it (which may have ended long ago)."""

    type: Literal["output"] = "output"
    execution_id: str
    output: Output
