"""What the front answers to requests: data, one model each, in one discriminated union.

The same models are what programs read: their names and fields are those of every interface of the kernel. Times are in
seconds since the epoch, sizes in bytes.
"""

from __future__ import annotations

from typing import Literal, Union

from pydantic import Field

from capsule_worker.protocol.messages.base import MessageModel

#: Raised only when a field of an answer changes its meaning. Fields may be added at any time.
API = 1

RestoreSource = Literal["standby", "checkpoint"]
#: ``elsewhere``: it may run in another container or on another machine; ``killed``: it did not end in order.
SessionState = Literal["running", "elsewhere", "killed", "ended"]


class CellRef(MessageModel):
    """A cell: its number, as in ``In [number]``, and its first line."""

    number: int
    line: str = ""
    #: Id of its session.
    session: str = ""


class CheckpointRef(MessageModel):
    """A checkpoint, in short."""

    id: str
    #: Counts the session's checkpoints.
    number: int
    name: str | None = None
    session: str
    #: The number of the cell after which it was taken.
    execution_count: int
    time: float
    #: Bytes of its content.
    size: int
    #: Bytes that were written for it.
    bytes_written: int


class Checkpoint(MessageModel):
    """A checkpoint, in a list."""

    id: str
    session: str
    number: int
    parent: str | None
    time: float
    execution_count: int
    code: str
    name: str | None
    description: str
    tags: list[str]
    size: int
    bytes_written: int
    #: Seconds until all of it was on disk.
    duration: float
    #: Whether it is a session's current one.
    head: bool
    #: How many variables it has, including those that could not be saved.
    variables: int
    unsaved: int
    notebook: str | None
    #: Whether it has a name.
    starred: bool


class Variable(MessageModel):
    """A variable in a checkpoint."""

    name: str
    type: str
    size: int
    #: The cell that assigned it last.
    cell: CellRef | None = None
    saved: bool
    #: Why it could not be saved.
    reason: str | None = None


class Change(MessageModel):
    """A variable that differs between two checkpoints. Its type and size are None where it does not exist."""

    name: str
    kind: Literal["added", "removed", "changed"]
    type_before: str | None = None
    type_after: str | None = None
    size_before: int | None = None
    size_after: int | None = None


class Saving(MessageModel):
    """Whether the variables are saved."""

    state: Literal["saved", "not_saving", "off"]
    #: Why they are not.
    reason: str | None = None


class StandbyStatus(MessageModel):
    """Whether a paused copy of the worker is ready to take over."""

    state: Literal["ready", "none", "off"]
    #: Why there is none.
    reason: str | None = None


class SandboxLayer(MessageModel):
    """A part of the sandbox."""

    layer: str
    active: bool
    #: Why it is not active.
    reason: str | None = None


class RecoveryStatus(MessageModel):
    """How variables were restored after a crash or an undo."""

    source: RestoreSource
    time: float
    #: The number of the cell after which the restored state was taken.
    execution_count: int


class Sizes(MessageModel):
    """What is on disk."""

    #: Bytes of the session's directory.
    session: int
    #: Bytes that were written for its checkpoints.
    written: int


class Status(MessageModel):
    """State of a session: what is saved, and what would be restored."""

    kind: Literal["status"] = "status"
    version: str
    session: str | None = None
    kernel: str
    kernel_pid: int | None = None
    notebook: str | None = None
    #: State of the kernel process.
    state: SessionState
    #: When the session ended.
    ended: float | None = None
    profile: str | None = None
    mode: Literal["background", "sync", "off"] | None = None
    saving: Saving
    #: The newest checkpoint.
    last: Checkpoint | None = None
    #: The current checkpoint: a crash restores this one.
    head: CheckpointRef | None = None
    #: How many variables the current checkpoint has, and how many could not be saved.
    head_variables: int = 0
    head_unsaved: int = 0
    checkpoints: int = 0
    #: Why variables could not be saved, by name.
    not_saved: dict[str, str] = Field(default_factory=dict)
    standby: StandbyStatus | None = None
    recovery: RecoveryStatus | None = None
    sandbox: list[SandboxLayer] = Field(default_factory=list)
    #: Limits in force, by setting.
    limits: dict[str, float] = Field(default_factory=dict)
    hidden_environment: list[str] = Field(default_factory=list)
    sizes: Sizes | None = None
    directory: str | None = None


class CheckpointList(MessageModel):
    """Checkpoints, newest first."""

    kind: Literal["checkpoint_list"] = "checkpoint_list"
    query: str = ""
    #: Id of the session whose checkpoints are listed; None: of all.
    session: str | None = None
    checkpoints: list[Checkpoint]
    #: How many match; not all of them may be listed.
    total: int


class CheckpointContents(MessageModel):
    """The variables in a checkpoint."""

    kind: Literal["checkpoint_contents"] = "checkpoint_contents"
    checkpoint: CheckpointRef
    variables: list[Variable]


class CheckpointDiff(MessageModel):
    """The variables that differ between two checkpoints."""

    kind: Literal["checkpoint_diff"] = "checkpoint_diff"
    before: CheckpointRef
    after: CheckpointRef
    changes: list[Change]


class Deleted(MessageModel):
    """The checkpoints that were deleted, and the bytes that became free."""

    kind: Literal["deleted"] = "deleted"
    checkpoints: list[Checkpoint]
    freed: int


class Restored(MessageModel):
    """What a restore brings."""

    #: Id of the session that restores it.
    session: str
    checkpoint: CheckpointRef
    source: RestoreSource
    restored: list[str]
    #: Why others are not, by name.
    not_restored: dict[str, str] = Field(default_factory=dict)
    #: The cells that assigned those, by name.
    cells: dict[str, CellRef] = Field(default_factory=dict)
    #: Names of variables that differ from the state before.
    changed: list[str] = Field(default_factory=list)
    #: The cells that were undone.
    undone: list[CellRef] = Field(default_factory=list)
    #: The checkpoint that has the state before.
    redo: CheckpointRef | None = None


class RestorePlan(MessageModel):
    """The checkpoint that the worker is to restore, and what to tell the user."""

    kind: Literal["restore_plan"] = "restore_plan"
    #: The checkpoint's manifest; its packs are in the session's directory.
    manifest: bytes
    report: Restored


class StandbyTakeover(MessageModel):
    """A paused copy of the worker takes over when the cell has ended."""

    kind: Literal["standby_takeover"] = "standby_takeover"
    report: Restored


class Done(MessageModel):
    """The request was carried out."""

    kind: Literal["done"] = "done"


class SubshellList(MessageModel):
    """Ids of the subshells."""

    kind: Literal["subshell_list"] = "subshell_list"
    ids: list[str]


Answer = Union[
    Status,
    CheckpointList,
    CheckpointContents,
    CheckpointDiff,
    Deleted,
    RestorePlan,
    StandbyTakeover,
    Done,
    SubshellList,
]
