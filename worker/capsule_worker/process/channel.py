"""The worker's end of the socket to the front: frames out from any thread, messages in on one."""

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
    """Sends whole frames in the order in which they were given, whoever gives them, and never half a frame.

    Args:
        sock: a connected stream socket; the channel owns it.
        gate: shields the main thread from interrupts while it sends; also at hand as ``gate``.
        on_lost: called when the front is gone; does not return in production.
    """

    def __init__(self, sock: socket.socket, gate: InterruptGate, on_lost: Callable[[], None]) -> None:
        self._sock = sock
        self._sock.setblocking(False)
        self.gate = gate
        self.on_lost = on_lost
        self._queue: deque[memoryview] = deque()
        self._lock = threading.Lock()
        self._sender: int | None = None

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        return self._sock.fileno()

    def send(self, message: Message, deadline: float | None = None) -> bool:
        """Send ``message`` after all that was given before.

        Args:
            message: what to send.
            deadline: ``time.monotonic()`` until which to wait for a peer that does not read; None waits for ever,
                which is how a cell that prints faster than the front reads is slowed down.

        Returns:
            Whether everything given so far has left. What has not is kept, and leaves with the next call.

        Raises:
            ProtocolError: the message cannot be encoded; nothing was sent of it.
        """
        with resource_limits.lifted:
            frame = encode(message)
        self._queue.append(memoryview(frame))
        return self.flush(deadline)

    def flush(self, deadline: float | None = None) -> bool:
        """Send what is waiting; see ``send``."""
        me = threading.get_ident()
        if self._sender == me:
            # Re-entered from a signal handler in the middle of a frame: the outer call goes on with the queue.
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
        """Yield the front's messages until it is gone. For one thread only, which takes each with the limit lifted.

        Raises:
            ProtocolError: the front sent something that is no message.
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
                yield from decoder.feed(data)

    def quiet(self) -> contextlib.AbstractContextManager[Any]:
        """Keep other threads from sending: a context."""
        return self._lock

    def renew(self, sock: socket.socket) -> None:
        """Go on with another socket, in a copy of the process; what was not sent was the original's to send."""
        sock.setblocking(False)
        self._sock = sock
        self._queue.clear()

    def close(self) -> None:
        """Close the socket; in a forked child this leaves the parent's end alone."""
        with contextlib.suppress(OSError):
            self._sock.close()

    def _write(self, deadline: float | None) -> bool:
        queue = self._queue
        while queue:
            rest = queue[0]
            try:
                sent = self._sock.send(rest)
            except BlockingIOError:
                if not self._writable(deadline):
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

    def _writable(self, deadline: float | None) -> bool:
        poller = select.poll()
        poller.register(self._sock, select.POLLOUT)
        milliseconds = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        return bool(poller.poll(milliseconds))
