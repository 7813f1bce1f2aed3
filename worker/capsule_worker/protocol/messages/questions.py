"""Questions to the worker about code, names, history and comms, and requests of a debugger; with their replies."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from capsule_worker.protocol.messages.base import Json, MessageModel, ReplyModel
from capsule_worker.protocol.messages.outputs import CommModel


class CompleteMessage(MessageModel):
    """Ask for completions of ``code`` at ``cursor_pos`` (in unicode code points)."""

    type: Literal["complete"] = "complete"
    id: str
    code: str
    cursor_pos: int


class CompleteReplyMessage(ReplyModel):
    """The content of a Jupyter ``complete_reply``."""

    type: Literal["complete_reply"] = "complete_reply"
    content: Json


class InspectMessage(MessageModel):
    """Ask what the name at ``cursor_pos`` is."""

    type: Literal["inspect"] = "inspect"
    id: str
    code: str
    cursor_pos: int
    detail_level: Literal[0, 1] = 0
    omit_sections: list[str] = Field(default_factory=list)


class InspectReplyMessage(ReplyModel):
    """The content of a Jupyter ``inspect_reply``."""

    type: Literal["inspect_reply"] = "inspect_reply"
    content: Json


class HistoryMessage(MessageModel):
    """Ask for earlier cells; the fields are those of Jupyter's ``history_request``."""

    type: Literal["history"] = "history"
    id: str
    access: Literal["range", "tail", "search"]
    output: bool = False
    raw: bool = True
    session: int = 0
    start: int = 0
    stop: int | None = None
    n: int | None = None
    pattern: str | None = None
    unique: bool = False


class HistoryReplyMessage(ReplyModel):
    """``history`` holds (session, line number, input) or (session, line number, (input, output))."""

    type: Literal["history_reply"] = "history_reply"
    history: list[tuple[int, int, Any]]


class IsCompleteMessage(MessageModel):
    """Ask whether ``code`` can be run as it stands, or wants another line."""

    type: Literal["is_complete"] = "is_complete"
    id: str
    code: str


class IsCompleteReplyMessage(ReplyModel):
    """``indent`` is what the next line starts with, where ``status`` is ``incomplete``."""

    type: Literal["is_complete_reply"] = "is_complete_reply"
    status: Literal["complete", "incomplete", "invalid", "unknown"]
    indent: str = ""


class CommMessage(CommModel):
    """A message of the client for an object of the notebook. Answered when the object has received it."""

    type: Literal["comm"] = "comm"
    id: str
    #: The header of the client's message.
    header: Json = Field(default_factory=dict)
    #: The subshell that receives it, whatever the main thread does; None for the main thread.
    subshell: str | None = None


class CommReplyMessage(ReplyModel):
    """The object has received the message."""

    type: Literal["comm_reply"] = "comm_reply"


class CommInfoMessage(MessageModel):
    """Ask which comms are open."""

    type: Literal["comm_info"] = "comm_info"
    id: str


class CommInfoReplyMessage(ReplyModel):
    """The names of their targets, by the ids of the comms."""

    type: Literal["comm_info_reply"] = "comm_info_reply"
    targets: dict[str, str]


class DebugMessage(MessageModel):
    """A request of the Debug Adapter Protocol, or one that Jupyter adds to it (``debug_request``)."""

    type: Literal["debug"] = "debug"
    id: str
    request: Json


class DebugReplyMessage(ReplyModel):
    """The debugger's response."""

    type: Literal["debug_reply"] = "debug_reply"
    reply: Json
