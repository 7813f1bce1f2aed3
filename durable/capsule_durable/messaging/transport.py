"""The seam between session and worker: messages out, messages in. A socket in production, queues in tests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from typing import Protocol

from capsule_durable.errors import ProtocolError, TransportClosed
from capsule_worker.protocol import Decoder, Message, decode, encode
from capsule_worker.protocol.codec import HEADER


class Transport(Protocol):
    """Carries messages to and from one worker, each whole and in order."""

    def send(self, message: Message) -> None:
        """Send a message.

        Args:
            message: the message; it is sent whole.

        Raises:
            TransportClosed: the other end is gone.
            ProtocolError: the message cannot be encoded.
        """

    async def receive(self) -> Message:
        """Return the next message. For one reader.

        Raises:
            TransportClosed: the other end is gone and everything it sent has been received.
            ProtocolError: the other end sent something that is not a message; nothing more can be received.
        """

    def close(self) -> None:
        """End the connection; a pending ``receive`` raises TransportClosed."""


class _Inbox:
    """Received messages, and after them the reason why there will be no more."""

    def __init__(self) -> None:
        self.messages: deque[Message] = deque()
        self._end: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def put(self, message: Message) -> None:
        self.messages.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def finish(self, reason: Exception) -> None:
        if self._end is None:
            self._end = reason
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

    async def get(self) -> Message:
        while not self.messages:
            if self._end is not None:
                raise self._end
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.messages.popleft()


class SocketTransport(asyncio.Protocol):
    """A transport over a connected stream socket.

    Reading pauses while many messages wait, which slows a worker that prints faster than the front can publish.
    """

    #: Messages that may wait before reading pauses.
    HIGH_WATER = 256

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._inbox = _Inbox()
        self._transport: asyncio.Transport | None = None
        self._paused = False
        #: How many messages have come.
        self.received = 0

    @classmethod
    async def connect(cls, sock: socket.socket) -> SocketTransport:
        """Connect to one end of a socket pair.

        Args:
            sock: the end; it belongs to the transport from now on.
        """
        loop = asyncio.get_running_loop()
        _, transport = await loop.create_connection(cls, sock=sock)
        return transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Decode the bytes that have arrived."""
        try:
            for message in self._decoder.feed(data):
                self._inbox.put(message)
                self.received += 1
        except ProtocolError as error:
            self.fail(error)
            return
        if len(self._inbox.messages) > self.HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End: the other side is gone, or ``close`` was called."""
        self._inbox.finish(TransportClosed(f"the worker's connection has ended ({exc or 'closed'})"))

    def send(self, message: Message) -> None:
        """Send a message; see ``Transport``.

        Args:
            message: the message; it is sent whole.

        Raises:
            TransportClosed: the other end is gone.
            ProtocolError: the message cannot be encoded.
        """
        if self._transport is None or self._transport.is_closing():
            msg = f"cannot send a {message.type} message: the worker is gone"
            raise TransportClosed(msg)
        self._transport.write(encode(message))

    async def receive(self) -> Message:
        """Return the next message; see ``Transport``."""
        if self._inbox.messages:
            return self._inbox.messages.popleft()
        if self._paused and self._transport is not None:
            self._paused = False
            with contextlib.suppress(RuntimeError):  # closing
                self._transport.resume_reading()
        return await self._inbox.get()

    @property
    def pending(self) -> int:
        """How many bytes of an incomplete frame have come."""
        return self._decoder.pending

    def fail(self, error: ProtocolError) -> None:
        """End the connection since the other end has broken the protocol.

        Args:
            error: how it broke the protocol; the reader gets it.
        """
        self._inbox.finish(error)
        self.close()

    def close(self) -> None:
        """End the connection; see ``Transport``."""
        if self._transport is not None:
            self._transport.abort()


class MemoryTransport:
    """A transport for tests: what one end sends the other receives, having gone through the codec."""

    def __init__(self) -> None:
        self._inbox = _Inbox()
        self._peer: MemoryTransport | None = None
        self._closed = False

    @classmethod
    def pair(cls) -> tuple[MemoryTransport, MemoryTransport]:
        """Return two connected ends."""
        one, other = cls(), cls()
        one._peer, other._peer = other, one
        return one, other

    def send(self, message: Message) -> None:
        """Send a message; see ``Transport``.

        Args:
            message: the message; it is sent whole.

        Raises:
            TransportClosed: the other end is gone.
            ProtocolError: the message cannot be encoded.
        """
        if self._closed or self._peer is None or self._peer._closed:  # noqa: SLF001  # the twin
            msg = f"cannot send a {message.type} message: the worker is gone"
            raise TransportClosed(msg)
        self._peer._inbox.put(decode(encode(message)[HEADER.size :]))  # noqa: SLF001  # the twin

    async def receive(self) -> Message:
        """Return the next message; see ``Transport``."""
        return await self._inbox.get()

    def close(self) -> None:
        """End the connection at both ends; see ``Transport``."""
        for end in (self, self._peer):
            if end is not None:
                end._closed = True  # noqa: SLF001  # the twin
                end._inbox.finish(TransportClosed("the worker's connection has ended (closed)"))  # noqa: SLF001
