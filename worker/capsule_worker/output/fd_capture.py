"""What is written to file descriptors 1 and 2 past Python: by C code and by child processes.

Both descriptors are pipes. A thread reads them and hands the text to the outlet. While child processes of a cell are
alive, the next cell gets new pipes: so a child's late output still belongs to the cell that started it.
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

READ_SIZE = 1 << 16


class _Pipe:
    """The reading end of one pipe. ``execution_id`` is None while it is the one that new output goes to."""

    def __init__(self, name: StreamName, fd: int) -> None:
        self.name: StreamName = name
        self.fd = fd
        self.execution_id: str | None = None
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        os.set_blocking(fd, False)  # the os module's signature


class FdCapture:
    """Reads the pipes behind descriptors 1 and 2.

    Args:
        stdout: the reading end of the pipe that is descriptor 1.
        stderr: the reading end of the pipe that is descriptor 2.
        outlet: where the text goes.
    """

    def __init__(self, stdout: int, stderr: int, outlet: OutputWriter) -> None:
        self._outlet = outlet
        self._lock = threading.RLock()
        self._libc = _line_buffered_libc()
        self.renew(stdout, stderr)

    def renew(self, stdout: int, stderr: int) -> None:
        """Begin; or go on with other pipes, in a copy of the process, which has none of the threads."""
        self._selector = selectors.DefaultSelector()
        self._current: list[_Pipe] = []
        for name, fd in (("stdout", stdout), ("stderr", stderr)):
            self._add(_Pipe(name, fd))  # type: ignore[arg-type]  # the two literal names
        threading.Thread(target=self._read_forever, name="capsule-pipes", daemon=True).start()

    def quiet(self) -> contextlib.AbstractContextManager[Any]:
        """Keep the thread from reading: a context."""
        return self._lock

    def close(self) -> None:
        """Close the reading ends, in a copy of the process: they are the original's."""
        for pipe in self._current:
            os.close(pipe.fd)
        self._selector.close()

    def fileno(self) -> list[int]:
        """Return the descriptors that are read, and that of the selector."""
        return [pipe.fd for pipe in self._current] + [self._selector.fileno()]

    def before_cell(self) -> None:
        """Give the next cell pipes of its own where child processes of earlier cells still hold the old ones."""
        if not children.others():
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
        """Move everything that was written so far to the outlet: C's own buffers first, then the pipes."""
        self._libc.flush()
        self.read_available()

    def _add(self, pipe: _Pipe) -> None:
        self._current.append(pipe)
        self._selector.register(pipe.fd, selectors.EVENT_READ, pipe)

    def read_available(self) -> None:
        """Move to the outlet what child processes and C code have written so far."""
        with self._lock:
            for pipe in self._current:
                # As much as is there now, and no more: somebody may be writing without end.
                waiting = _waiting(pipe.fd)
                while waiting > 0:
                    got = self._read(pipe)
                    if not got:
                        break
                    waiting -= got

    def _read(self, pipe: _Pipe) -> int:
        """Read once, hand on the text, and return how many bytes it was (0: nothing there, or the end)."""
        with self._outlet.gate, self._lock, resource_limits.lifted:
            try:
                data = os.read(pipe.fd, READ_SIZE)
            except BlockingIOError:
                return 0
            except OSError:
                data = b""
            text = pipe.decoder.decode(data, final=not data)
            if text:
                execution_id = pipe.execution_id if pipe.execution_id is not None else execution_context.latest()
                self._outlet.append(Piece(execution_id, pipe.name, text))
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
    """The C library's own buffers of stdout and stderr; absent on platforms without them."""

    def __init__(self, library: ctypes.CDLL | None, files: list[ctypes.c_void_p]) -> None:
        self._library = library
        self._files = files

    def flush(self) -> None:
        if self._library is not None:
            for file in self._files:
                self._library.fflush(file)


def _line_buffered_libc() -> _Libc:
    """Make C's stdout line-buffered, as on a terminal: behind a pipe it would keep 4 KiB to itself."""
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
