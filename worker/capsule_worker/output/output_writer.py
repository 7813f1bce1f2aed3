"""The one way out for output: text is batched, everything else is sent at once, and the order is kept."""

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

#: Seconds between the first text after a silence and its sending: long enough for a line to be completed, and
#: short enough to look immediate.
FIRST_DELAY = 0.008
#: Seconds between two sendings while text keeps coming.
BUSY_DELAY = 0.04
#: Bytes that may wait; who writes beyond that sends them itself, and so goes no faster than the front reads.
HIGH_WATER = 1 << 20
#: The longest text of one message, in characters; longer text is sent in pieces of this size.
CHUNK = 1 << 20
#: A write that comes this long (in seconds) after the one before it first looks for text of child processes. They
#: take far longer to start and end: between two writes in quick succession there is nothing to look for.
QUIET = 50e-6

FD = {"stdout": 1, "stderr": 2}


class OutputWriter:
    """Takes output from every thread and sends it in order.

    Args:
        channel: where messages go.
        journal: holds text until it is sent, where the front finds it if this process dies.
    """

    def __init__(self, channel: Channel, journal: OutputBuffer) -> None:
        self._channel = channel
        self._journal = journal
        self.gate = channel.gate
        #: Lets text that is already in a pipe go first; set by whoever reads the pipes.
        self.read_pipes: Callable[[], None] = _nothing
        # Re-entrant, both: a signal handler of the user may print while this thread does. The first guards the
        # journal for an instant; the second keeps batches in order, and is held while the front takes its time.
        self._lock = threading.RLock()
        self._sending = threading.RLock()
        self._last_write = 0.0
        self._wake = threading.Event()
        self._awake = False
        self._forked = False
        threading.Thread(target=self._flush_forever, name="capsule-output", daemon=True).start()

    def write(self, name: StreamName, text: str) -> int:
        """Take text that Python code wrote, for the cell that the caller belongs to; return its length.

        Every ``print`` comes through here, twice: it is written for speed.

        Raises:
            TypeError: ``text`` is not a str.
        """
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._forked:
            _write_all(FD[name], text.encode("utf-8", "backslashreplace"))
            return len(text)
        now = time.monotonic()
        if now - self._last_write > QUIET:
            self.read_pipes()
        self._last_write = now
        with self._lock:
            waiting = self._journal.write(execution_context.current(), name, text)
        if not self._awake or not 0 <= waiting < HIGH_WATER:
            self._flush_deferred(waiting, Piece(execution_context.current(), name, text))
        return len(text)

    def append(self, piece: Piece) -> None:
        """Take text that something else wrote; it leaves within milliseconds."""
        with self._lock:
            waiting = self._journal.write(*piece)
        self._flush_deferred(waiting, piece)

    def flush(self, deadline: float | None = None) -> bool:
        """Send all text that was taken so far; see ``Channel.send`` for deadline and result."""
        if self._forked:
            return True
        with self.gate:
            # Another thread may be sending, to a front that does not read.
            if not self._sending.acquire(timeout=-1 if deadline is None else max(0.0, deadline - time.monotonic())):
                return False
            try:
                with self._lock, resource_limits.lifted:
                    pieces, mark = self._journal.take() if len(self._journal) else ([], None)
                for piece in pieces:
                    self._send(piece, deadline)
                sent = self._channel.flush(deadline)
                if mark is not None:
                    self._journal.clear(mark)
            finally:
                self._sending.release()
        return sent

    def publish(self, output: Output, execution_id: str | None = None) -> None:
        """Send ``output`` behind the text that was taken before it.

        What cannot be sent (too large, or not expressible in JSON) becomes a line on stderr that says so.
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
            drain: moves what still lies in pipes into this outlet.
            timeout: seconds until the result is withheld.
            before_send: called when the output is out and the message is about to follow.
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
                message=f"output of the cell could not be delivered within {timeout:g} s; its result is withheld",
                execution_time=message.execution_time,
            ),
            deadline,
        )
        # Whatever the channel still holds leaves when the front reads again.
        self._wake.set()

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Keep other threads from writing and sending; all that was written has left."""
        with self.gate, self._sending:
            self.flush()
            with self._lock:
                yield

    def renew(self, journal: OutputBuffer) -> None:
        """Go on with another journal, in a copy of the process, which has none of the threads."""
        self._journal = journal
        self._wake = threading.Event()
        self._awake = False
        threading.Thread(target=self._flush_forever, name="capsule-output", daemon=True).start()

    def after_fork_in_child(self) -> None:
        """In a forked child: write to the inherited pipes, which the parent reads; the socket is the parent's."""
        self._forked = True

    def _flush_deferred(self, waiting: int, piece: Piece) -> None:
        """See to it that what waits leaves: soon, or now where it is too much, with ``piece`` if that found no room."""
        if 0 <= waiting < HIGH_WATER:
            self._awake = True
            self._wake.set()
            return
        with self.gate, self._sending:
            self.flush()
            if waiting < 0:
                self._send(piece, None)

    def _send(self, piece: Piece, deadline: float | None) -> None:
        for text in split(piece.text):
            output = StreamOutput(name=piece.name, text=text)
            self._channel.send(OutputMessage(execution_id=piece.execution_id, output=output), deadline)

    def _flush_forever(self) -> None:
        while True:
            resource_limits.retry_on_memory_error(self._wake.wait)
            delay = FIRST_DELAY
            while len(self._journal) or delay == FIRST_DELAY:
                time.sleep(delay)
                self.flush()
                delay = BUSY_DELAY
            self._wake.clear()
            self._awake = False
            if len(self._journal):  # written between the last flush and the line above
                self._wake.set()


def split(text: str, chunk: int = CHUNK) -> Iterator[str]:
    """Yield ``text`` in pieces of ``chunk`` characters, or one more: a carriage return and the line feed after it stay
    together, since apart they would mean two lines.
    """  # noqa: D205  # one sentence
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
    """Stand in until the pipes are read."""


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
