"""The one way out for output: text is batched, everything else is sent at once, and the order is kept."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from capsule_worker import attribution
from capsule_worker.channel import Channel
from capsule_worker.outputs import OutputBuffer, Piece, StreamName
from capsule_worker.protocol import FrameTooLarge, ProtocolError
from capsule_worker.protocol.journal import Journal
from capsule_worker.protocol.messages import ErrorMessage, Output, OutputMessage, ResultMessage, StreamOutput

#: Seconds between the first text after a silence and its sending: long enough for a line to be completed, and
#: short enough to look immediate.
FIRST_DELAY = 0.008
#: Seconds between two sendings while text keeps coming.
BUSY_DELAY = 0.04
#: Characters that may wait; who writes beyond that sends them itself, and so goes no faster than the front reads.
HIGH_WATER = 1 << 20

_FD = {"stdout": 1, "stderr": 2}


class Outlet:
    """Takes output from every thread and sends it in order.

    Args:
        channel: where messages go.
        journal: keeps text until it is sent, where the front finds it if this process dies.
        before_write: called before text of Python code is taken, to let text of child processes that is already
            in a pipe go first.
    """

    def __init__(self, channel: Channel, journal: Journal, before_write: Callable[[], None] = lambda: None) -> None:
        self._channel = channel
        self._journal = journal
        self.gate = channel.gate
        self.before_write = before_write
        self._buffer = OutputBuffer()
        # Re-entrant, both: a signal handler of the user may print while this thread does. The first guards buffer
        # and journal for an instant; the second keeps batches in order, and is held while the front takes its time.
        self._lock = threading.RLock()
        self._sending = threading.RLock()
        self._wake = threading.Event()
        self._awake = False
        self._forked = False
        threading.Thread(target=self._flush_forever, name="capsule-output", daemon=True).start()

    def write(self, name: StreamName, text: str) -> None:
        """Take text that Python code wrote, for the cell that the caller belongs to."""
        if self._forked:
            _write_all(_FD[name], text.encode("utf-8", "backslashreplace"))
            return
        self.before_write()
        self.append(Piece(attribution.current(), name, text))

    def append(self, piece: Piece) -> None:
        """Take text; it leaves within milliseconds."""
        with self._lock:
            self._buffer.append(piece)
            self._journal.write(piece.name, piece.text)
        if self._buffer.size > HIGH_WATER:
            self.flush()
        elif not self._awake:
            self._awake = True
            self._wake.set()

    def flush(self, deadline: float | None = None) -> bool:
        """Send all text that was taken so far; see ``Channel.send`` for deadline and result."""
        if self._forked:
            return True
        with self.gate, self._sending:
            with self._lock:
                pieces = self._buffer.take()
                mark = self._journal.switch() if pieces else None
            for execution_id, name, text in pieces:
                output = StreamOutput(name=name, text=text)
                self._channel.send(OutputMessage(execution_id=execution_id, output=output), deadline)
            sent = self._channel.flush(deadline)
            if mark is not None:
                self._journal.clear(mark)
        return sent

    def publish(self, output: Output, execution_id: str | None = None) -> None:
        """Send ``output`` behind the text that was taken before it.

        What cannot be sent (too large, or not expressible in JSON) becomes a line on stderr that says so.
        """
        if self._forked:
            return
        if execution_id is None:
            execution_id = attribution.current()
        with self.gate, self._sending:
            self.flush()
            try:
                self._channel.send(OutputMessage(execution_id=execution_id, output=output))
            except (ProtocolError, ValueError, TypeError) as error:
                reason = str(error) if isinstance(error, FrameTooLarge) else f"{type(error).__name__}: {error}"
                text = f"This {output.kind} output cannot be shown: {reason}\n"
                self.append(Piece(execution_id, "stderr", text))

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

    def after_fork_in_child(self) -> None:
        """In a forked child: write to the inherited pipes, which the parent reads; the socket is the parent's."""
        self._forked = True

    def _flush_forever(self) -> None:
        while True:
            self._wake.wait()
            delay = FIRST_DELAY
            while self._buffer or delay == FIRST_DELAY:
                time.sleep(delay)
                self.flush()
                delay = BUSY_DELAY
            self._wake.clear()
            self._awake = False
            if self._buffer:  # written between the last flush and the line above
                self._wake.set()


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
