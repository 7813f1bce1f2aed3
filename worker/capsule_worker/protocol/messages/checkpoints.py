"""Messages about the variables of the notebook: what is saved, and what is restored."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from capsule_worker.protocol.messages.base import MessageModel, ReplyModel


class ConfigureCheckpointsMessage(MessageModel):
    """Save checkpoints from now on. Sent once, before the first cell; not answered."""

    type: Literal["configure_checkpoints"] = "configure_checkpoints"
    #: The session's directory, with ``packs`` and ``incoming`` in it.
    directory: str
    session: str
    #: ``sync``: a cell's result is sent only when its checkpoint is on disk.
    mode: Literal["background", "sync"] = "background"
    #: The number of the next checkpoint.
    number: int = 1


class CheckpointMessage(MessageModel):
    """Save the namespace now."""

    type: Literal["checkpoint"] = "checkpoint"
    id: str
    name: str | None = None
    description: str = ""
    tags: list[str] = Field(default_factory=list)


class CheckpointReplyMessage(ReplyModel):
    """``saved`` names what is on disk, ``skipped`` maps a name to the reason why it is not."""

    type: Literal["checkpoint_reply"] = "checkpoint_reply"
    checkpoint_id: str
    saved: list[str] = Field(default_factory=list)
    skipped: dict[str, str] = Field(default_factory=dict)


class CheckpointSavedMessage(MessageModel):
    """A checkpoint is on disk; its manifest is in the session's ``incoming`` directory."""

    type: Literal["checkpoint_saved"] = "checkpoint_saved"
    checkpoint_id: str
    number: int
    #: Size of the data that was written for it, in bytes.
    bytes_written: int = 0
    #: Seconds that it took.
    duration: float = 0.0


class CheckpointFailedMessage(MessageModel):
    """A checkpoint could not be saved. Not sent again before one was saved."""

    type: Literal["checkpoint_failed"] = "checkpoint_failed"
    reason: str


class RestoreMessage(MessageModel):
    """Merge a checkpoint into the namespace (``clear_existing``: after emptying it)."""

    type: Literal["restore"] = "restore"
    id: str
    #: The checkpoint's manifest; its packs are in the directory of the ``ConfigureCheckpointsMessage``.
    manifest: bytes
    variables: list[str] | None = None
    clear_existing: bool = False


class RestoreReplyMessage(ReplyModel):
    """``restored`` names what is or will be restored, ``failed`` maps a name to the reason why it is not."""

    type: Literal["restore_reply"] = "restore_reply"
    restored: list[str] = Field(default_factory=list)
    failed: dict[str, str] = Field(default_factory=dict)
    #: What else could not be restored, as sentences.
    notes: list[str] = Field(default_factory=list)


class RestoreFinishedMessage(MessageModel):
    """The worker has restored a checkpoint that a cell requested; not answered.

    ``restored`` names the variables that are restored, or will be when they are needed first; ``failed`` maps a name to
    the reason why it is not.
    """

    type: Literal["restore_finished"] = "restore_finished"
    checkpoint_id: str
    restored: list[str] = Field(default_factory=list)
    failed: dict[str, str] = Field(default_factory=dict)
    #: Whether all variables were requested, so that the checkpoint is the session's current one.
    whole: bool
