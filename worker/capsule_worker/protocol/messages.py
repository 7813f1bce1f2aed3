"""The messages between front and worker: frozen pydantic models in one discriminated union.

``type`` says what a message is; dispatch on the class with ``match``. A request carries ``id``; its reply carries
the same value in ``request_id`` (or, for an execution, ``execution_id``; for an input, ``input_id``). Times are in
seconds, sizes in bytes.

The contents mirror the Jupyter messaging specification (version 5.4), so that the front passes them on unchanged.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

from pydantic import ConfigDict, Field

from capsule_worker.protocol.model import Model

#: Raised when a field or a message changes its meaning. Front and worker must agree on it exactly.
PROTOCOL_VERSION = 2

MimeBundle = dict[str, Any]
Json = dict[str, Any]


class _Model(Model):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")


# -- executing cells -----------------------------------------------------------------------------------------


class ExecuteMessage(_Model):
    """Run one cell. Answered by exactly one ``ResultMessage`` or ``ErrorMessage`` with this ``id``."""

    type: Literal["execute"] = "execute"
    id: str
    code: str
    silent: bool = False
    store_history: bool = True
    user_expressions: dict[str, str] = Field(default_factory=dict)
    allow_stdin: bool = False
    cell_id: str | None = None
    #: The prompt number of this cell; the front counts, so that the numbers go on in a new worker.
    execution_count: int | None = None
    #: The header of the client's request: what is shown belongs to its id.
    header: Json = Field(default_factory=dict)
    #: What the client says of the cell, where that is not too much; code can ask for it.
    metadata: Json = Field(default_factory=dict)
    #: Where it runs beside the cells of the main thread; None for there.
    subshell: str | None = None


class ResultMessage(_Model):
    """A cell has run to its end: ``ok``, or ``error`` if the user's code raised. Sent after all its output."""

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


class ErrorMessage(_Model):
    """A request could not be carried out: nobody's code raised, the worker says why.

    ``error_type`` is one of ``Busy``, ``OutputDrainTimeout``, ``InternalError``, ``Unsupported``.
    """

    type: Literal["error"] = "error"
    execution_id: str | None = None
    request_id: str | None = None
    error_type: str
    message: str
    traceback: list[str] = Field(default_factory=list)
    execution_time: float = 0.0


# -- output --------------------------------------------------------------------------------------------------


class StreamOutput(_Model):
    """Text written to ``stdout`` or ``stderr``."""

    kind: Literal["stream"] = "stream"
    name: Literal["stdout", "stderr"]
    text: str


class DisplayOutput(_Model):
    """A rich object shown by ``display``; ``transient`` may hold its ``display_id``."""

    kind: Literal["display"] = "display"
    data: MimeBundle
    metadata: Json = Field(default_factory=dict)
    transient: Json = Field(default_factory=dict)


class UpdateOutput(_Model):
    """New content for every display with the same ``display_id``."""

    kind: Literal["update"] = "update"
    data: MimeBundle
    metadata: Json = Field(default_factory=dict)
    transient: Json = Field(default_factory=dict)


class ExecuteResultOutput(_Model):
    """The value of a cell's last expression, ``Out[n]``."""

    kind: Literal["execute_result"] = "execute_result"
    execution_count: int
    data: MimeBundle
    metadata: Json = Field(default_factory=dict)
    transient: Json = Field(default_factory=dict)


class ClearOutput(_Model):
    """Clear the cell's output, at once or (``wait``) when the next output comes."""

    kind: Literal["clear"] = "clear"
    wait: bool = False


class ErrorOutput(_Model):
    """The traceback of an exception, as it is shown below the cell."""

    kind: Literal["error"] = "error"
    ename: str
    evalue: str
    traceback: list[str]


class _Comm(_Model):
    event: Literal["open", "msg", "close"]
    comm_id: str
    target_name: str | None = None
    target_module: str | None = None
    #: An object by the specification; some libraries say a text.
    data: Any = Field(default_factory=dict)
    metadata: Json = Field(default_factory=dict)
    buffers: list[bytes] = Field(default_factory=list)


class CommOutput(_Comm):
    """What an object says to its counterpart at the client (``comm_open``, ``comm_msg``, ``comm_close``)."""

    kind: Literal["comm"] = "comm"


class DebugOutput(_Model):
    """An event of the Debug Adapter Protocol, for whoever debugs (``debug_event``)."""

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


class OutputMessage(_Model):
    """One piece of output, of the cell that caused it (which may have ended long ago)."""

    type: Literal["output"] = "output"
    execution_id: str
    output: Output


# -- input ---------------------------------------------------------------------------------------------------


class InputMessage(_Model):
    """The running cell asks for a line of text. ``id`` is unique within the worker."""

    type: Literal["input"] = "input"
    id: str
    execution_id: str
    prompt: str
    password: bool = False


class InputResponseMessage(_Model):
    """The answer to an input: its text, or (``value`` is None) why there is none."""

    type: Literal["input_response"] = "input_response"
    input_id: str
    value: str | None = None
    error: str | None = None


# -- comms ---------------------------------------------------------------------------------------------------


class CommMessage(_Comm):
    """What the client says to an object of the notebook's. Answered when the object has taken it."""

    type: Literal["comm"] = "comm"
    id: str
    #: The header of the client's message.
    header: Json = Field(default_factory=dict)
    #: Where it is taken, whatever the main thread does; None for there.
    subshell: str | None = None


class CommReplyMessage(_Model):
    """The object has taken it."""

    type: Literal["comm_reply"] = "comm_reply"
    request_id: str


class CommInfoMessage(_Model):
    """Ask which comms are open."""

    type: Literal["comm_info"] = "comm_info"
    id: str


class CommInfoReplyMessage(_Model):
    """The names of their targets, by the ids of the comms."""

    type: Literal["comm_info_reply"] = "comm_info_reply"
    request_id: str
    targets: dict[str, str]


# -- debugging -----------------------------------------------------------------------------------------------


class DebugMessage(_Model):
    """A request of the Debug Adapter Protocol, or one that Jupyter adds to it (``debug_request``)."""

    type: Literal["debug"] = "debug"
    id: str
    request: Json


class DebugReplyMessage(_Model):
    """The response to it."""

    type: Literal["debug_reply"] = "debug_reply"
    request_id: str
    reply: Json


# -- introspection -------------------------------------------------------------------------------------------


class CompleteMessage(_Model):
    """Ask for completions of ``code`` at ``cursor_pos`` (in unicode code points)."""

    type: Literal["complete"] = "complete"
    id: str
    code: str
    cursor_pos: int


class CompleteReplyMessage(_Model):
    """The content of a Jupyter ``complete_reply``."""

    type: Literal["complete_reply"] = "complete_reply"
    request_id: str
    content: Json


class InspectMessage(_Model):
    """Ask what the name at ``cursor_pos`` is."""

    type: Literal["inspect"] = "inspect"
    id: str
    code: str
    cursor_pos: int
    detail_level: Literal[0, 1] = 0
    omit_sections: list[str] = Field(default_factory=list)


class InspectReplyMessage(_Model):
    """The content of a Jupyter ``inspect_reply``."""

    type: Literal["inspect_reply"] = "inspect_reply"
    request_id: str
    content: Json


class HistoryMessage(_Model):
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


class HistoryReplyMessage(_Model):
    """``history`` holds (session, line number, input) or (session, line number, (input, output))."""

    type: Literal["history_reply"] = "history_reply"
    request_id: str
    history: list[tuple[int, int, Any]]


class IsCompleteMessage(_Model):
    """Ask whether ``code`` can be run as it stands, or wants another line."""

    type: Literal["is_complete"] = "is_complete"
    id: str
    code: str


class IsCompleteReplyMessage(_Model):
    """``indent`` is what the next line starts with, where ``status`` is ``incomplete``."""

    type: Literal["is_complete_reply"] = "is_complete_reply"
    request_id: str
    status: Literal["complete", "incomplete", "invalid", "unknown"]
    indent: str = ""


# -- the namespace -------------------------------------------------------------------------------------------


class ConfigureCheckpointsMessage(_Model):
    """Keep checkpoints from now on. Sent once, before the first cell; not answered."""

    type: Literal["keep"] = "keep"
    #: The session's directory, with ``packs`` and ``incoming`` in it.
    directory: str
    session: str
    #: ``sync``: a cell's result is sent only when its checkpoint is on disk.
    mode: Literal["background", "sync"] = "background"
    #: The number of the next checkpoint.
    number: int = 1


class CheckpointMessage(_Model):
    """Save the namespace now."""

    type: Literal["checkpoint"] = "checkpoint"
    id: str
    name: str | None = None
    description: str = ""
    tags: list[str] = Field(default_factory=list)


class CheckpointReplyMessage(_Model):
    """``saved`` names what is on disk, ``skipped`` maps a name to the reason why it is not."""

    type: Literal["checkpoint_reply"] = "checkpoint_reply"
    request_id: str
    checkpoint_id: str
    saved: list[str] = Field(default_factory=list)
    skipped: dict[str, str] = Field(default_factory=dict)


class CheckpointSavedMessage(_Model):
    """A checkpoint is on disk; its manifest is in the session's ``incoming`` directory."""

    type: Literal["saved"] = "saved"
    checkpoint_id: str
    number: int
    #: Size of the data that was written for it, in bytes.
    bytes_written: int = 0
    #: Seconds that it took.
    duration: float = 0.0


class CheckpointFailedMessage(_Model):
    """A checkpoint could not be saved. Not sent again before one was saved."""

    type: Literal["save_failed"] = "save_failed"
    reason: str


class RestoreMessage(_Model):
    """Merge a checkpoint into the namespace (``clear_existing``: after emptying it)."""

    type: Literal["restore"] = "restore"
    id: str
    #: The checkpoint's manifest; its packs are in the directory of the ``KeepMessage``.
    manifest: bytes
    variables: list[str] | None = None
    clear_existing: bool = False


class RestoreReplyMessage(_Model):
    """``restored`` names what came or will come back, ``failed`` maps a name to the reason why it does not."""

    type: Literal["restore_reply"] = "restore_reply"
    request_id: str
    restored: list[str] = Field(default_factory=list)
    failed: dict[str, str] = Field(default_factory=dict)
    #: What else did not come back, in words.
    notes: list[str] = Field(default_factory=list)


class CommandMessage(_Model):
    """A person's command to the kernel, given in a cell (``%capsule ...``)."""

    type: Literal["command"] = "command"
    id: str
    execution_id: str
    command: str
    arguments: Json = Field(default_factory=dict)


class CommandReplyMessage(_Model):
    """What to show, or (``error``) why the command cannot be carried out, and the manifest where one was asked for."""

    type: Literal["command_reply"] = "command_reply"
    command_id: str
    data: MimeBundle = Field(default_factory=dict)
    error: str | None = None
    manifest: bytes | None = None


# -- the worker's life ---------------------------------------------------------------------------------------


class ReadyMessage(_Model):
    """The first message of a worker: it can run cells now."""

    type: Literal["ready"] = "ready"
    protocol_version: int
    worker_version: str
    python_version: str
    ipython_version: str
    executable: str
    pid: int
    banner: str
    startup_time: float
    #: Whether a debugger is installed.
    debugger: bool = False


class HeartbeatMessage(_Model):
    """Are you there?"""

    type: Literal["heartbeat"] = "heartbeat"
    id: str


class HeartbeatReplyMessage(_Model):
    """Yes; and what runs, if anything."""

    type: Literal["heartbeat_reply"] = "heartbeat_reply"
    request_id: str
    execution_id: str | None = None


class InterruptMessage(_Model):
    """Interrupt the running cell, but only if it is ``execution_id`` (None: whatever runs)."""

    type: Literal["interrupt"] = "interrupt"
    id: str
    execution_id: str | None = None


class LimitExceededMessage(_Model):
    """The running cell is beyond a limit: raise ``error`` in it, with this text."""

    type: Literal["limit"] = "limit"
    error: Literal["MemoryError", "TimeoutError", "OSError"]
    text: str


class InterruptReplyMessage(_Model):
    """Whether there was anything to interrupt."""

    type: Literal["interrupt_reply"] = "interrupt_reply"
    request_id: str
    interrupted: bool


class ShutdownMessage(_Model):
    """Leave: run ``atexit`` functions, end child processes, exit with status 0."""

    type: Literal["shutdown"] = "shutdown"
    id: str


class ShutdownReplyMessage(_Model):
    """The last message of a worker that was asked to leave."""

    type: Literal["shutdown_reply"] = "shutdown_reply"
    request_id: str


Reply = Union[
    CompleteReplyMessage,
    InspectReplyMessage,
    HistoryReplyMessage,
    IsCompleteReplyMessage,
    CheckpointReplyMessage,
    RestoreReplyMessage,
    HeartbeatReplyMessage,
    InterruptReplyMessage,
    ShutdownReplyMessage,
    CommReplyMessage,
    CommInfoReplyMessage,
    DebugReplyMessage,
]

ToWorker = Union[
    ExecuteMessage,
    InputResponseMessage,
    CompleteMessage,
    InspectMessage,
    HistoryMessage,
    IsCompleteMessage,
    ConfigureCheckpointsMessage,
    CheckpointMessage,
    RestoreMessage,
    CommandReplyMessage,
    HeartbeatMessage,
    InterruptMessage,
    CommMessage,
    CommReplyMessage,
    CommInfoMessage,
    CommInfoReplyMessage,
    DebugMessage,
    LimitExceededMessage,
    ShutdownMessage,
]

FromWorker = Union[
    ReadyMessage,
    OutputMessage,
    ResultMessage,
    ErrorMessage,
    InputMessage,
    CheckpointSavedMessage,
    CheckpointFailedMessage,
    CommandMessage,
    Reply,
]

Message = Union[ToWorker, FromWorker]
