"""What the code of a cell requests of the front: one typed model each, in one discriminated union.

The sender may be hostile: texts and lists are bounded, and a message that exceeds a bound is refused like one that is
malformed.
"""

from __future__ import annotations

from typing import Annotated, Literal, Union

from pydantic import Field

from capsule_worker.protocol.messages.base import MessageModel

#: The longest text of a request, in characters, and the longest list.
MAX_TEXT, MAX_LIST = 4096, 1000

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Texts = Annotated[list[Text], Field(max_length=MAX_LIST)]


class WorkerCheckpointStatus(MessageModel):
    """What the worker knows of its checkpoints."""

    #: Why others are not, by name; as many as fit.
    not_saved: Annotated[dict[Text, Text], Field(max_length=MAX_LIST)] = Field(default_factory=dict)
    #: Why the last checkpoint could not be written; None: it was.
    problem: Text | None = None
    #: Why there is no paused copy of the worker to take over; None: there is one.
    no_standby: Text | None = None


class StatusRequest(MessageModel):
    """State of the kernel and of what it saves. Answered by ``Status``, in any case."""

    kind: Literal["status"] = "status"
    worker: WorkerCheckpointStatus = Field(default_factory=WorkerCheckpointStatus)


class ListCheckpointsRequest(MessageModel):
    """The session's checkpoints that match all words of ``query``. Answered by ``CheckpointList``."""

    kind: Literal["list_checkpoints"] = "list_checkpoints"
    query: Texts = Field(default_factory=list)


class ShowCheckpointRequest(MessageModel):
    """The variables in a checkpoint. Answered by ``CheckpointContents``."""

    kind: Literal["show_checkpoint"] = "show_checkpoint"
    checkpoint: Text


class DiffCheckpointsRequest(MessageModel):
    """The variables that differ between two checkpoints; ``after`` None: the latest. Answered by ``CheckpointDiff``."""

    kind: Literal["diff_checkpoints"] = "diff_checkpoints"
    before: Text
    after: Text | None = None


class DeleteCheckpointsRequest(MessageModel):
    """Delete checkpoints, all of them or none. Answered by ``Deleted``."""

    kind: Literal["delete_checkpoints"] = "delete_checkpoints"
    checkpoints: Annotated[list[Text], Field(min_length=1, max_length=MAX_LIST)]


class RestoreRequest(MessageModel):
    """A checkpoint to restore: some variables of it, or (empty) all. Answered by ``RestorePlan``."""

    kind: Literal["restore"] = "restore"
    checkpoint: Text
    variables: Texts = Field(default_factory=list)
    #: Whether all other variables are removed first.
    clear: bool = False


class UndoRequest(MessageModel):
    """The state before the last cells. Answered by ``RestorePlan`` or ``StandbyTakeover``."""

    kind: Literal["undo"] = "undo"
    cells: Annotated[int, Field(ge=1)] = 1
    #: The checkpoint that has the worker's present state; None if there is none.
    head: Text | None = None


class ResumeRequest(MessageModel):
    """The last checkpoint of an earlier session, None: of this notebook's last one. Answered by ``RestorePlan``."""

    kind: Literal["resume"] = "resume"
    session: Text | None = None


class CheckpointsReadyRequest(MessageModel):
    """Wait until checkpoints can be saved. Answered by ``Done``."""

    kind: Literal["checkpoints_ready"] = "checkpoints_ready"


class LeaveRequest(MessageModel):
    """End the kernel when no cell runs any more (``exit``, ``quit``). Answered by ``Done``."""

    kind: Literal["leave"] = "leave"


class ListSubshellsRequest(MessageModel):
    """The ids of the subshells. Answered by ``SubshellList``."""

    kind: Literal["list_subshells"] = "list_subshells"


KernelRequest = Union[
    StatusRequest,
    ListCheckpointsRequest,
    ShowCheckpointRequest,
    DiffCheckpointsRequest,
    DeleteCheckpointsRequest,
    RestoreRequest,
    UndoRequest,
    ResumeRequest,
    CheckpointsReadyRequest,
    LeaveRequest,
    ListSubshellsRequest,
]
