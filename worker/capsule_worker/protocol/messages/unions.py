"""The messages of each direction, and all of them."""

from __future__ import annotations

from typing import Union

from capsule_worker.protocol.messages.cells import (
    ErrorMessage,
    ExecuteMessage,
    InputMessage,
    InputResponseMessage,
    ResultMessage,
)
from capsule_worker.protocol.messages.checkpoints import (
    CheckpointFailedMessage,
    CheckpointMessage,
    CheckpointReplyMessage,
    CheckpointSavedMessage,
    ConfigureCheckpointsMessage,
    RestoreFinishedMessage,
    RestoreMessage,
    RestoreReplyMessage,
)
from capsule_worker.protocol.messages.envelopes import AnswerMessage, RequestMessage
from capsule_worker.protocol.messages.lifecycle import (
    HeartbeatMessage,
    HeartbeatReplyMessage,
    InterruptMessage,
    InterruptReplyMessage,
    LimitExceededMessage,
    ReadyMessage,
    ShutdownMessage,
    ShutdownReplyMessage,
)
from capsule_worker.protocol.messages.outputs import OutputMessage
from capsule_worker.protocol.messages.questions import (
    CommInfoMessage,
    CommInfoReplyMessage,
    CommMessage,
    CommReplyMessage,
    CompleteMessage,
    CompleteReplyMessage,
    DebugMessage,
    DebugReplyMessage,
    HistoryMessage,
    HistoryReplyMessage,
    InspectMessage,
    InspectReplyMessage,
    IsCompleteMessage,
    IsCompleteReplyMessage,
)

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
    AnswerMessage,
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
    RestoreFinishedMessage,
    RequestMessage,
    Reply,
]

Message = Union[ToWorker, FromWorker]
