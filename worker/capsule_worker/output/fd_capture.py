"""Captures what C code and child processes write to file descriptors 1 and 2.

Both descriptors are pipes, which a thread reads. While child processes of a cell are alive, the next cell gets new
pipes, so that the late output of a child belongs to the cell that started it.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import fcntl
import os
import selectors
import struct
import termios
import threading
from typing import Any

from capsule_worker.isolation import resource_limits
from capsule_worker.output.output_writer import FD, OutputWriter
from capsule_worker.process import children, execution_context
from capsule_worker.protocol.output_buffer import Piece, StreamName

#: How much is read from a pipe at once, in bytes.
READ_SIZE = 1 << 16


class _Pipe:
    """The reading end of one pipe.

    Args:
        name: the stream that the pipe is.
        fd: the reading end.
    """

    def __init__(self, name: StreamName, fd: int) -> None:
        self.name: StreamName = name
        self.fd = fd
        #: The cell that its text belongs to; None for the latest one.
        self.execution_id: str | None = None
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        os.set_blocking(fd, False)  # the os module's signature


class FdCapture:
    """Reads the pipes behind descriptors 1 and 2.

    Args:
        stdout: the reading end of the pipe that is descriptor 1.
        stderr: the reading end of the pipe that is descriptor 2.
        output: sends the text.
    """

    def __init__(self, stdout: int, stderr: int, output: OutputWriter) -> None:
        self._output = output
        self._lock = threading.RLock()
        self._libc = _line_buffered_libc()
        self.renew(stdout, stderr)

    def renew(self, stdout: int, stderr: int) -> None:
        """Start reading; or continue with other pipes in a fork of the process, which has none of the threads.

        Args:
            stdout: as for the class.
            stderr: as for the class.
        """
        self._selector = selectors.DefaultSelector()
        self._current: list[_Pipe] = []
        for name, fd in (("stdout", stdout), ("stderr", stderr)):
            self._add(_Pipe(name, fd))  # type: ignore[arg-type]  # the two literal names
        threading.Thread(target=self._read_forever, name="capsule-pipes", daemon=True).start()

    def quiet(self) -> contextlib.AbstractContextManager[Any]:
        """Stop the thread from reading: a context."""
        return self._lock

    def close(self) -> None:
        """Close the reading ends in a fork of the process: they belong to the original."""
        for pipe in self._current:
            os.close(pipe.fd)
        self._selector.close()

    def fileno(self) -> list[int]:
        """Return the descriptors of the pipes and of the selector."""
        return [pipe.fd for pipe in self._current] + [self._selector.fileno()]

    def before_cell(self) -> None:
        """Give the next cell new pipes if child processes of earlier cells still have the old ones."""
        if not children.has_others():
            return
        self.drain()
        with self._lock:
            for pipe in self._current:
                pipe.execution_id = execution_context.latest()
            self._current = []
            for name, fd in FD.items():
                reading, writing = os.pipe()
                os.dup2(writing, fd)
                os.close(writing)
                self._add(_Pipe(name, reading))  # type: ignore[arg-type]  # the two literal names

    def drain(self) -> None:
        """Send everything that was written so far: C's own buffers first, then the pipes."""
        self._libc.flush()
        self.read_available()

    def _add(self, pipe: _Pipe) -> None:
        self._current.append(pipe)
        self._selector.register(pipe.fd, selectors.EVENT_READ, pipe)

    def read_available(self) -> None:
        """Send what child processes and C code have written to the pipes so far."""
        with self._lock:
            for pipe in self._current:
                # Only what has been written so far: a process may write without end.
                waiting = _waiting(pipe.fd)
                while waiting > 0:
                    got = self._read(pipe)
                    if not got:
                        break
                    waiting -= got

    def _read(self, pipe: _Pipe) -> int:
        """Read once and send the text.

        Args:
            pipe: where to read.

        Returns:
            How many bytes were read; 0 if the pipe is empty, or at its end.
        """
        with self._output.gate, self._lock, resource_limits.lifted:
            try:
                data = os.read(pipe.fd, READ_SIZE)
            except BlockingIOError:
                return 0
            except OSError:
                data = b""
            text = pipe.decoder.decode(data, final=not data)
            if text:
                execution_id = pipe.execution_id if pipe.execution_id is not None else execution_context.latest()
                self._output.append(Piece(execution_id, pipe.name, text))
            if not data:
                self._selector.unregister(pipe.fd)
                os.close(pipe.fd)
                with contextlib.suppress(ValueError):
                    self._current.remove(pipe)
            return len(data)

    def _read_forever(self) -> None:
        while True:
            for key, _ in resource_limits.retry_on_memory_error(self._selector.select):
                if key.fileobj in self._selector.get_map():
                    self._read(key.data)


class _Libc:
    """The C library's own buffers of stdout and stderr, if the platform has them."""

    def __init__(self, library: ctypes.CDLL | None, files: list[ctypes.c_void_p]) -> None:
        self._library = library
        self._files = files

    def flush(self) -> None:
        if self._library is not None:
            for file in self._files:
                self._library.fflush(file)


def _line_buffered_libc() -> _Libc:
    """Make C's stdout line-buffered, as on a terminal: to a pipe it would write blocks of 4 KiB."""
    try:
        library = ctypes.CDLL(None)
        files = [ctypes.c_void_p.in_dll(library, name) for name in ("stdout", "stderr")]
    except (OSError, ValueError):
        return _Libc(None, [])
    line_buffered = 1  # _IOLBF
    library.setvbuf(files[0], None, line_buffered, ctypes.c_size_t(0))
    return _Libc(library, files)


def _waiting(fd: int) -> int:
    size: int = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0]
    return size
