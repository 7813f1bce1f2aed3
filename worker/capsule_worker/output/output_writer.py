"""Sends all output in order: text in batches, everything else at once."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator

from capsule_worker.isolation import resource_limits
from capsule_worker.process import execution_context
from capsule_worker.process.channel import Channel
from capsule_worker.protocol import FrameTooLarge, ProtocolError
from capsule_worker.protocol.messages import ErrorMessage, Output, OutputMessage, ResultMessage, StreamOutput
from capsule_worker.protocol.output_buffer import OutputBuffer, Piece, StreamName

#: Seconds from the first text after a pause until it is sent: long enough to complete a line, and short enough to look
#: immediate.
FIRST_DELAY_SECONDS = 0.008
#: Seconds between two batches while text keeps coming.
BUSY_DELAY_SECONDS = 0.04
#: Bytes that may wait. A thread that writes beyond that sends them itself, so it writes no faster than the front reads.
HIGH_WATER_BYTES = 1 << 20
#: The longest text of one message, in characters; longer text is sent in pieces of this size.
CHUNK = 1 << 20
#: A write that comes this long after the one before first reads the text of child processes. They take far longer to
#: start and end, so between two writes in quick succession there is none.
PAUSE_SECONDS = 50e-6

#: The file descriptors of the streams.
FD = {"stdout": 1, "stderr": 2}


class OutputWriter:
    """Takes output from every thread and sends it in order.

    Args:
        channel: where messages go.
        buffer: keeps text until it is sent, where the front finds it if this process dies.
    """

    def __init__(self, channel: Channel, buffer: OutputBuffer) -> None:
        self._channel = channel
        self._buffer = buffer
        self.gate = channel.gate
        #: Sends text that is already in the pipes first; set once the pipes are read.
        self.read_pipes: Callable[[], None] = _nothing
        # Both are re-entrant: a signal handler of the user may print while this thread does. The first guards the
        # buffer for an instant; the second keeps batches in order, and is held while the front reads slowly.
        self._lock = threading.RLock()
        self._sending = threading.RLock()
        self._last_write = 0.0
        self._wake = threading.Event()
        self._awake = False
        self._forked = False
        threading.Thread(target=self._flush_forever, name="capsule-output", daemon=True).start()

    def write(self, name: StreamName, text: str) -> int:
        """Write text of the cell that the calling code belongs to; return its length.

        Every ``print`` calls this twice: it is written for speed.

        Args:
            name: the stream.
            text: the text.

        Raises:
            TypeError: ``text`` is not a str.
        """
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._forked:
            _write_all(FD[name], text.encode("utf-8", "backslashreplace"))
            return len(text)
        now = time.monotonic()
        if now - self._last_write > PAUSE_SECONDS:
            self.read_pipes()
        self._last_write = now
        with self._lock:
            waiting = self._buffer.write(execution_context.current(), name, text)
        if not self._awake or not 0 <= waiting < HIGH_WATER_BYTES:
            self._flush_deferred(waiting, Piece(execution_context.current(), name, text))
        return len(text)

    def append(self, piece: Piece) -> None:
        """Write text that does not come from Python's streams; it leaves within milliseconds.

        Args:
            piece: the text, with its stream and cell.
        """
        with self._lock:
            waiting = self._buffer.write(*piece)
        self._flush_deferred(waiting, piece)

    def flush(self, deadline: float | None = None) -> bool:
        """Send all text that was written so far.

        Args:
            deadline: ``time.monotonic()`` until which to wait for a front that does not read; None waits indefinitely.

        Returns:
            Whether everything has left, as for ``Channel.send``.
        """
        if self._forked:
            return True
        with self.gate:
            # Another thread may be sending, to a front that does not read.
            if not self._sending.acquire(timeout=-1 if deadline is None else max(0.0, deadline - time.monotonic())):
                return False
            try:
                with self._lock, resource_limits.lifted:
                    pieces, mark = self._buffer.next_batch() if len(self._buffer) else ([], None)
                if mark is None:
                    return self._channel.flush(deadline)
                sent = True
                for piece in pieces:
                    sent = self._send(piece, deadline)
                self._buffer.clear(mark)
            finally:
                self._sending.release()
        return sent

    def publish(self, output: Output, execution_id: str | None = None) -> None:
        """Send an output after the text that was written before it.

        Args:
            output: what to send. If it is too large, or not expressible in JSON, a line on stderr says so instead.
            execution_id: the cell; None for the one that the calling code belongs to.
        """
        if self._forked:
            return
        if execution_id is None:
            execution_id = execution_context.current()
        with self.gate, self._sending:
            self.flush()
            try:
                self._channel.send(OutputMessage(execution_id=execution_id, output=output))
            except (ProtocolError, ValueError, TypeError) as error:
                reason = str(error) if isinstance(error, FrameTooLarge) else f"{type(error).__name__}: {error}"
                self.append(Piece(execution_id, "stderr", f"This {output.kind} output cannot be shown: {reason}\n"))

    def finish(
        self,
        message: ResultMessage | ErrorMessage,
        drain: Callable[[], None],
        timeout: float,
        before_send: Callable[[], None] = lambda: None,
    ) -> None:
        """Send ``message`` when all output of its cell has left, or ``OutputDrainTimeout`` in its place.

        Args:
            message: how the cell ended.
            drain: writes here what is still in the pipes.
            timeout: seconds that the output may take.
            before_send: called when the output has left, just before the message does.
        """
        deadline = time.monotonic() + timeout
        drain()
        delivered = self.flush(deadline)
        before_send()
        if delivered:
            self._channel.send(message)
            return
        self._channel.send(
            ErrorMessage(
                execution_id=message.execution_id,
                error_type="OutputDrainTimeout",
                message=f"the output of the cell could not be delivered within {timeout:g} s, so its result is lost",
                execution_time=message.execution_time,
            ),
            deadline,
        )
        # What the channel still has leaves when the front reads again.
        self._wake.set()

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Stop other threads from writing and sending, after all text has left: a context."""
        with self.gate, self._sending:
            self.flush()
            with self._lock:
                yield

    def renew(self, buffer: OutputBuffer) -> None:
        """Continue with another buffer in a fork of the process, which has none of the threads.

        Args:
            buffer: as for the class.
        """
        self._buffer = buffer
        self._wake = threading.Event()
        self._awake = False
        threading.Thread(target=self._flush_forever, name="capsule-output", daemon=True).start()

    def after_fork_in_child(self) -> None:
        """Write to the inherited pipes in a forked child: the parent reads them, and the socket is the parent's."""
        self._forked = True

    def _flush_deferred(self, waiting: int, piece: Piece) -> None:
        """Send the text that waits: soon, or now if it is too much.

        Args:
            waiting: how many bytes wait; -1 if ``piece`` found no room, and is to be sent directly.
            piece: the latest text.
        """
        if 0 <= waiting < HIGH_WATER_BYTES:
            self._awake = True
            self._wake.set()
            return
        with self.gate, self._sending:
            self.flush()
            if waiting < 0:
                self._send(piece, None)

    def _send(self, piece: Piece, deadline: float | None) -> bool:
        sent = True
        for text in split(piece.text):
            output = StreamOutput(name=piece.name, text=text)
            sent = self._channel.send(OutputMessage(execution_id=piece.execution_id, output=output), deadline)
        return sent

    def _flush_forever(self) -> None:
        while True:
            resource_limits.retry_on_memory_error(self._wake.wait)
            delay = FIRST_DELAY_SECONDS
            while len(self._buffer) or delay == FIRST_DELAY_SECONDS:
                time.sleep(delay)
                self.flush()
                delay = BUSY_DELAY_SECONDS
            self._wake.clear()
            self._awake = False
            if len(self._buffer):  # written between the last flush and the line above
                self._wake.set()


def split(text: str, chunk: int = CHUNK) -> Iterator[str]:
    """Yield text in pieces.

    Args:
        text: the text.
        chunk: characters of a piece. It has one more where it would end between a carriage return and a line feed:
            apart they would mean two lines.
    """
    start = 0
    while len(text) - start > chunk:
        end = start + chunk
        if text[end - 1] == "\r" and text[end] == "\n":
            end += 1
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:] if start else text


def _nothing() -> None:
    """Do nothing until the pipes are read."""


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
