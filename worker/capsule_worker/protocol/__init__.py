"""The protocol between front and worker: messages, codec, errors. Pure, and all that the front imports of here."""

from __future__ import annotations

from capsule_worker.protocol.codec import MAX_FRAME, Decoder, decode, encode, from_json, to_json
from capsule_worker.protocol.errors import CapsuleError, FrameTooLarge, ProtocolError
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
