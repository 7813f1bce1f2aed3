"""Errors that both ends of the protocol know.

``CapsuleError`` is the root of every error this project raises on purpose; it lives here because the worker,
which imports nothing of the front, raises some of them too.
"""

from __future__ import annotations


class CapsuleError(Exception):
    """Root of Capsule's errors. Each says what happened, to what, and what to do about it."""


class ProtocolError(CapsuleError):
    """The peer sent bytes that are not a message of this protocol.

    Whoever reads such bytes ends the connection: after a malformed frame nothing that follows can be trusted.
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
