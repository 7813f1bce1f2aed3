"""ZMQ sockets on asyncio's loop: messages are delivered when they arrive, and sent at once.

A socket's descriptor signals only that something has changed, and each use of the socket clears the signal. So each use
is followed by a check for messages. ``FastSession`` turns messages into frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import zmq
from jupyter_client.session import Session, json_packer
from pydantic_core import PydanticSerializationError, to_json

#: Messages that are delivered before other tasks have their turn on the loop.
BATCH = 100
#: Flags as numbers: members of an enumeration would cost more than sending a part of a message.
_MORE, _NOW, _READABLE = int(zmq.SNDMORE), int(zmq.NOBLOCK), int(zmq.POLLIN)


#: Returns a value as JSON, five times as fast as the standard library. Floats that JSON does not know become ``null``.
pack = partial(to_json, inf_nan_mode="null")


class FastSession(Session):
    """Signs messages. Long output spends most of its time in ``pack``."""

    def serialize(self, msg: dict[str, Any], ident: Any = None) -> list[bytes]:
        """Return the frames of a message; the standard library serializes what ``pack`` cannot.

        Args:
            msg: the message: header, parent header, metadata and content.
            ident: the identities of the receiver, or the topic.
        """
        try:
            return super().serialize(msg, ident)
        except PydanticSerializationError:
            self.pack = json_packer
            try:
                return super().serialize(msg, ident)
            finally:
                self.pack = pack


class _Socket:
    """A socket as ``Session.send`` wants it.

    Args:
        socket: belongs to this object from now on. Sending a message must never block.
    """

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.socket = socket
        self._loop = asyncio.get_running_loop()
        self._fd = int(socket.getsockopt(zmq.FD))
        self._looking = False

    def look(self) -> None:
        """Take the messages that have arrived."""
        raise NotImplementedError

    def send_multipart(self, parts: Sequence[Any], copy: bool = True) -> None:
        """Send a message."""
        send = self.socket.send
        for part in parts[:-1]:
            send(part, _MORE, copy)
        send(parts[-1], 0, copy)
        if not self._looking and int(self.socket.getsockopt(zmq.EVENTS)) & _READABLE:
            self._looking = True
            self._loop.call_soon(self._look_again)

    def close(self, linger: int) -> None:
        """Send the queued messages and close. Idempotent.

        Args:
            linger: milliseconds for sending.
        """
        if not self.socket.closed:
            self._loop.remove_reader(self._fd)
            self.socket.close(linger=linger)

    def _has_come(self) -> bool:
        return not self.socket.closed and bool(int(self.socket.getsockopt(zmq.EVENTS)) & _READABLE)

    def _listen(self) -> None:
        self._loop.add_reader(self._fd, self.look)
        self._loop.call_soon(self.look)

    def _look_again(self) -> None:
        self._looking = False
        self.look()


class Router(_Socket):
    """Delivers the requests that arrive at a ROUTER socket, and sends the replies."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        super().__init__(socket)
        self._receive: Callable[[list[zmq.Frame]], None] | None = None

    def on_recv(self, receive: Callable[[list[zmq.Frame]], None]) -> None:
        """Deliver each message that arrives to a function, on the loop.

        Args:
            receive: called with the frames of a message.
        """
        self._receive = receive
        self._listen()

    def look(self) -> None:
        """Deliver the messages that have arrived."""
        if self._receive is None:
            return
        for _ in range(BATCH):
            if not self._has_come():
                return
            self._receive(self.socket.recv_multipart(_NOW, copy=False))
        self._loop.call_soon(self.look)


class IOPub(_Socket):
    """The publishing socket (XPUB). Greets each new subscription with ``iopub_welcome`` (JEP 65).

    A subscription takes effect when it is greeted, not when it arrives: the welcome is the first message that a
    client gets.

    Args:
        socket: belongs to this object from now on; its subscriptions are manual (``XPUB_MANUAL``).
        session: signs messages.
    """

    def __init__(self, socket: zmq.Socket[bytes], session: Session) -> None:
        super().__init__(socket)
        self._session = session
        #: Messages that are held back; None while they are sent at once.
        self._held: list[tuple[Any, ...]] | None = None
        self._listen()

    def send(
        self,
        msg_type: str,
        content: dict[str, Any],
        parent: Any,
        metadata: Any = None,
        topic: bytes = b"",
        buffers: Sequence[bytes] = (),
    ) -> None:
        """Publish a message to all subscribers.

        Args:
            msg_type: the type of the message.
            content: its content.
            parent: the request that caused it; empty for none.
            metadata: its metadata; None for none.
            topic: the topic that clients subscribe to; by default, the type of the message.
            buffers: binary data that follows the message.
        """
        if self._held is not None:
            self._held.append((msg_type, content, parent, metadata, topic, buffers))
            return
        if int(self.socket.getsockopt(zmq.EVENTS)) & _READABLE:
            self.look()
        self._session.send(
            self,  # type: ignore[arg-type]  # what it needs of a socket
            msg_type,
            content,
            parent=parent,
            metadata=metadata,
            ident=topic or msg_type.encode(),
            buffers=list(buffers),
        )

    def cork(self) -> None:
        """Hold back the messages that are published until the loop continues; their order stays."""
        if self._held is None:
            self._held = []
            self._loop.call_soon(self._release)

    def _release(self) -> None:
        held, self._held = self._held, None
        for message in held or ():
            self.send(*message)

    def look(self) -> None:
        """Answer the subscriptions that have arrived."""
        while self._has_come():
            event = self.socket.recv(_NOW)
            # The socket applies these to the client whose event was read last.
            if event[:1] == b"\x01":
                self.socket.setsockopt(zmq.SUBSCRIBE, event[1:])
                content = {"subscription": event[1:].decode("utf-8", "replace")}
                self._session.send(self.socket, "iopub_welcome", content, parent={}, ident=event[1:])
            elif event[:1] == b"\x00":
                self.socket.setsockopt(zmq.UNSUBSCRIBE, event[1:])

    def close(self, linger: int) -> None:
        """Send the messages that are held back or queued, and close; see the base class.

        Args:
            linger: milliseconds for sending.
        """
        self._release()
        super().close(linger)
