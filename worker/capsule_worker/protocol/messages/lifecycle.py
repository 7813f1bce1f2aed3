"""Messages about the worker process: it is ready, it is alive, interrupt it, end it."""

from __future__ import annotations

from typing import Literal

from capsule_worker.protocol.messages.base import MessageModel, ReplyModel


class ReadyMessage(MessageModel):
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


class HeartbeatMessage(MessageModel):
    """Ask the worker for a sign of life."""

    type: Literal["heartbeat"] = "heartbeat"
    id: str


class HeartbeatReplyMessage(ReplyModel):
    """The worker is alive; ``execution_id`` is the execution that runs, if any."""

    type: Literal["heartbeat_reply"] = "heartbeat_reply"
    execution_id: str | None = None


class InterruptMessage(MessageModel):
    """Interrupt the running cell, but only if it is ``execution_id`` (None: whatever runs)."""

    type: Literal["interrupt"] = "interrupt"
    id: str
    execution_id: str | None = None


class InterruptReplyMessage(ReplyModel):
    """Whether a cell was interrupted."""

    type: Literal["interrupt_reply"] = "interrupt_reply"
    interrupted: bool


class LimitExceededMessage(MessageModel):
    """The running cell exceeds a limit: raise ``error`` in it, with this text."""

    type: Literal["limit_exceeded"] = "limit_exceeded"
    error: Literal["MemoryError", "TimeoutError", "OSError"]
    text: str


class ShutdownMessage(MessageModel):
    """End the process: run ``atexit`` functions, end child processes, exit with status 0."""

    type: Literal["shutdown"] = "shutdown"
    id: str


class ShutdownReplyMessage(ReplyModel):
    """The last message of a worker that was asked to end."""

    type: Literal["shutdown_reply"] = "shutdown_reply"
