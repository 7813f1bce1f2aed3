"""The protocol between front and worker: messages, codec, errors. The front imports nothing else of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from capsule_worker.protocol.errors import CapsuleError, FrameTooLarge, ProtocolError

if TYPE_CHECKING:
    from capsule_worker.protocol.codec import MAX_FRAME, Decoder, decode, encode, from_json, to_json
    from capsule_worker.protocol.messages import PROTOCOL_VERSION, FromWorker, Message, Output, Reply, ToWorker

__all__ = [
    "MAX_FRAME",
    "PROTOCOL_VERSION",
    "CapsuleError",
    "Decoder",
    "FrameTooLarge",
    "FromWorker",
    "Message",
    "Output",
    "ProtocolError",
    "Reply",
    "ToWorker",
    "decode",
    "encode",
    "from_json",
    "to_json",
]


def __getattr__(name: str) -> Any:
    """Import the models when they are first used: a front starts its first worker before it builds them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from capsule_worker.protocol import codec, messages

    return getattr(codec if hasattr(codec, name) else messages, name)
