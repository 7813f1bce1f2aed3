"""What messages have in common."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict

from capsule_worker.protocol.model import Model

#: Raised when a field or a message changes its meaning. Front and worker must agree on it exactly.
PROTOCOL_VERSION = 3

MimeBundle = dict[str, Any]
Json = dict[str, Any]


class MessageModel(Model):
    """A message, or a part of one. In its JSON form, bytes are base64."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")


class ReplyModel(MessageModel):
    """The reply to a message with an ``id``, which the reply repeats in ``request_id``."""

    request_id: str
