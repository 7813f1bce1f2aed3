"""The worker's end of the socket to the front: any thread sends, one thread receives."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from capsule_worker.isolation import resource_limits
from capsule_worker.process.interrupts import InterruptGate
from capsule_worker.protocol import Decoder, Message, encode

#: How much is read from the socket at once, in bytes.
READ_SIZE = 1 << 18


class Channel:
    """Sends whole frames, in the order in which threads pass them.

    Args:
        sock: a connected stream socket; the channel owns it.
        gate: keeps interrupts from the main thread while it sends.
        on_lost: called when the front is gone; ends the process.
    """

    def __init__(self, sock: socket.socket, gate: InterruptGate, on_lost: Callable[[], None]) -> None:
        self._sock = sock
        self._sock.setblocking(False)
        self.gate = gate
        self.on_lost = on_lost
        #: Held while the reader handles a message.
        self.handling = threading.Lock()
        self._queue: deque[memoryview] = deque()
        self._lock = threading.Lock()
        self._sender: int | None = None

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        return self._sock.fileno()

    def send(self, message: Message, deadline: float | None = None) -> bool:
        """Send a message after all messages before it.

        Args:
            message: what to send.
            deadline: ``time.monotonic()`` until which to wait for a front that does not read; None waits indefinitely,
                which slows down a cell that prints faster than the front reads.

        Returns:
            Whether all messages so far have left. The rest is kept, and leaves with the next call.

        Raises:
            ProtocolError: the message cannot be encoded, and nothing of it was sent.
        """
        with resource_limits.lifted:
            frame = encode(message)
        self._queue.append(memoryview(frame))
        return self.flush(deadline)

    def flush(self, deadline: float | None = None) -> bool:
        """Send what is waiting; return whether all of it has left.

        Args:
            deadline: as for ``send``.
        """
        me = threading.get_ident()
        if self._sender == me:
            # Re-entered from a signal handler in the middle of a frame: the outer call sends the rest.
            return False
        with self.gate:
            timeout = -1 if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._lock.acquire(timeout=timeout):
                return False
            self._sender = me
            try:
                return self._write(deadline)
            finally:
                self._sender = None
                self._lock.release()

    def receive(self) -> Iterator[Message]:
        """Yield the front's messages until it is gone. For one thread only.

        That thread handles each message with the memory limit lifted, and with the lock ``handling``.

        Raises:
            ProtocolError: the front sent bytes that are not a message.
        """
        decoder = Decoder()
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        while True:
            resource_limits.retry_on_memory_error(poller.poll)
            with resource_limits.lifted:
                try:
                    data = self._sock.recv(READ_SIZE)
                except BlockingIOError:
                    continue
                except OSError:
                    return
                if not data:
                    return
                for message in decoder.feed(data):
                    with self.handling:
                        yield message

    def quiet(self) -> contextlib.AbstractContextManager[Any]:
        """Stop other threads from sending: a context."""
        return self._lock

    def renew(self, sock: socket.socket) -> None:
        """Continue with another socket in a fork of the process. The original sends what is waiting.

        Args:
            sock: as for the class.
        """
        sock.setblocking(False)
        self._sock = sock
        self._queue.clear()

    def close(self) -> None:
        """Close the socket. In a forked child this does not change the parent's end."""
        with contextlib.suppress(OSError):
            self._sock.close()

    def _write(self, deadline: float | None) -> bool:
        queue = self._queue
        while queue:
            rest = queue[0]
            try:
                sent = self._sock.send(rest)
            except BlockingIOError:
                if not self._wait_until_writable(deadline):
                    return False
                continue
            except OSError:
                self.on_lost()
                return False
            if sent == len(rest):
                queue.popleft()
            else:
                queue[0] = rest[sent:]
        return True

    def _wait_until_writable(self, deadline: float | None) -> bool:
        poller = select.poll()
        poller.register(self._sock, select.POLLOUT)
        milliseconds = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        return bool(poller.poll(milliseconds))
