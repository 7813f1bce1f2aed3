"""Messages about cells: run one, its result, and the inputs that it asks for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from capsule_worker.protocol.messages.base import Json, MessageModel


class ExecuteMessage(MessageModel):
    """Run one cell. Answered by exactly one ``ResultMessage`` or ``ErrorMessage`` with this ``id``."""

    type: Literal["execute"] = "execute"
    id: str
    code: str
    silent: bool = False
    store_history: bool = True
    user_expressions: dict[str, str] = Field(default_factory=dict)
    allow_stdin: bool = False
    cell_id: str | None = None
    #: The prompt number of this cell; the front counts, so that a new worker continues the numbers.
    execution_count: int | None = None
    #: The header of the client's request: what is shown belongs to its id.
    header: Json = Field(default_factory=dict)
    #: The client's metadata of the cell, unless it is too large; code can read it.
    metadata: Json = Field(default_factory=dict)
    #: The subshell that it runs in; None for the main thread.
    subshell: str | None = None


class ResultMessage(MessageModel):
    """A cell has ended: ``ok``, or ``error`` if the user's code raised. Sent after all its output."""

    type: Literal["result"] = "result"
    execution_id: str
    status: Literal["ok", "error"]
    #: The number of this cell, as in ``In [n]``.
    execution_count: int
    #: The number that the next cell gets.
    next_execution_count: int
    execution_time: float
    ename: str | None = None
    evalue: str | None = None
    traceback: list[str] = Field(default_factory=list)
    user_expressions: Json = Field(default_factory=dict)
    payload: list[Json] = Field(default_factory=list)


class ErrorMessage(MessageModel):
    """The worker could not do what was asked; no code of the user raised. It says why.

    ``error_type`` is one of ``Busy``, ``OutputDrainTimeout``, ``InternalError``, ``Unsupported``.
    """

    type: Literal["error"] = "error"
    execution_id: str | None = None
    request_id: str | None = None
    error_type: str
    message: str
    traceback: list[str] = Field(default_factory=list)
    execution_time: float = 0.0


class InputMessage(MessageModel):
    """The running cell asks for a line of text. ``id`` is unique within the worker."""

    type: Literal["input"] = "input"
    id: str
    execution_id: str
    prompt: str
    password: bool = False


class InputResponseMessage(MessageModel):
    """The answer to an input: its text, or (``value`` is None) why there is none."""

    type: Literal["input_response"] = "input_response"
    input_id: str
    value: str | None = None
    error: str | None = None
