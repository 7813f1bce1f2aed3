"""The errors that both ends of the protocol raise."""

from __future__ import annotations


class CapsuleError(Exception):
    """Base of Capsule's errors, in the front and in the worker. Each says what happened, to what, and what to do."""


class ProtocolError(CapsuleError):
    """The peer sent bytes that are not a message of this protocol.

    The reader ends the connection, since it cannot trust what follows a malformed frame.
    """


class FrameTooLarge(ProtocolError):
    """A message is larger than one frame may be.

    Args:
        size: size of the payload in bytes.
        limit: the largest payload in bytes that a frame may carry.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"frame of {size:,} bytes exceeds the limit of {limit:,} bytes")
        self.size = size
        self.limit = limit
