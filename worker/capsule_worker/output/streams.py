"""``sys.stdout`` and ``sys.stderr`` of user code."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable
from functools import partial
from typing import Any

from capsule_worker.output.output_writer import FD, OutputWriter
from capsule_worker.output.publish_hooks import Hook, OfThread, Publisher
from capsule_worker.protocol.output_buffer import StreamName


class OutStream(Publisher, io.TextIOBase):
    """A text stream whose lines are shown below the cell that writes them.

    ``fileno()`` is the real descriptor, so that the stream can be passed to a child process. Libraries (click, loguru)
    see by the name and module of the class that it can show colours.

    Args:
        name: the stream.
        output: sends the text.
    """

    __module__ = "ipykernel.iostream"
    encoding = "UTF-8"
    errors = "backslashreplace"

    def __init__(self, name: StreamName, output: OutputWriter) -> None:
        self.name: StreamName = name
        self.topic = f"stream.{name}".encode()
        self._output = output
        self._of_thread = OfThread()
        self._registered = 0
        self.buffer = _Bytes(self)
        # No method in between, since every ``print`` calls this twice.
        self._write = self.write = partial(output.write, name)  # type: ignore[method-assign]

    def register_hook(self, hook: Hook) -> None:
        """Pass what this thread writes here through a function.

        Args:
            hook: the function.
        """
        super().register_hook(hook)
        self._registered += 1
        self.write = self._write_by_hooks  # type: ignore[method-assign]

    def unregister_hook(self, hook: Hook) -> bool:
        """Undo ``register_hook``; return whether the hook was registered.

        Args:
            hook: the function.
        """
        found = super().unregister_hook(hook)
        self._registered -= found
        if not self._registered:
            self.write = self._write  # type: ignore[method-assign]
        return found

    def _write_by_hooks(self, text: str) -> int:
        if not self._hooks or not isinstance(text, str):
            return self._write(text)
        self._send("stream", {"name": self.name, "text": text})
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]  # as every text stream
        """Write lines as one piece.

        Args:
            lines: the lines, with their line feeds.
        """
        self.write("".join(lines))

    def flush(self) -> None:
        """Send what was written so far at once."""
        self._output.flush()

    def fileno(self) -> int:
        """Return 1 for stdout, 2 for stderr."""
        return FD[self.name]

    def isatty(self) -> bool:
        """Return False: no terminal."""
        return False

    def readable(self) -> bool:
        """Return False."""
        return False

    def writable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Flush only: a cell that closes its stdout must not silence the cells after it."""
        self.flush()


class _Bytes(io.BufferedIOBase):
    """``sys.stdout.buffer``: bytes in UTF-8, decoded across calls."""

    def __init__(self, stream: OutStream) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(self, data: Any) -> int:
        """Write bytes; return their number.

        Args:
            data: a bytes-like object.
        """
        raw = bytes(data)
        self._stream.write(self._decoder.decode(raw))
        return len(raw)

    def flush(self) -> None:
        """Send what was written so far at once."""
        self._stream.flush()

    def fileno(self) -> int:
        """Return the stream's file descriptor."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Flush only, as the stream does."""
        self.flush()
