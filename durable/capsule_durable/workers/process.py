"""One worker as the front sees it: a process, its connection, and what it left behind when it ended."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
from dataclasses import dataclass

from capsule_durable.errors import describe_exit
from capsule_durable.messaging.transport import SocketTransport
from capsule_durable.workers.forkserver_client import End, ForkserverEvents, NotStarted
from capsule_durable.workers.launcher import Process, WorkerHandle
from capsule_worker.protocol import output_buffer
from capsule_worker.protocol.output_buffer import StreamName

#: How much of a dead worker's last words is kept, in bytes.
LAST_WORDS = 4 << 20
#: For a signal: to the process group of a process (``PIDFD_SIGNAL_PROCESS_GROUP``).
_GROUP = 4


@dataclass(frozen=True, slots=True)
class Exit:
    """How a worker ended.

    Args:
        returncode: exit status, or minus the number of the signal.
        peak_memory: the largest resident size that the process had, in bytes.
        last_words: stream and text of what was printed and could not be sent any more, in order.
        stack: Python's stack at a crash, as ``faulthandler`` wrote it.
    """

    returncode: int
    peak_memory: int
    last_words: list[tuple[StreamName, str]]
    stack: str

    @property
    def description(self) -> str:
        """How it ended, in words."""
        return describe_exit(self.returncode)


class AttachedWorker:
    """A worker process. ``exited`` is done when it has ended."""

    def __init__(self, launched: WorkerHandle, transport: SocketTransport, process: Process | NotStarted) -> None:
        self._launched = launched
        self.transport = transport
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._reports = ForkserverEvents.of(launched.warden)
        self._process: Process | None = None
        self._ending: asyncio.Task[None] | None = None
        if isinstance(process, Process):
            self._process = process
            asyncio.get_running_loop().add_reader(process.fd, self._see_end)
        else:
            # Soon: who adopts it takes it for one that runs.
            asyncio.get_running_loop().call_soon(self._end, End(process.returncode, 0), process.said)

    @classmethod
    async def adopt(cls, launched: WorkerHandle) -> AttachedWorker:
        """Take over a process that was just started. One that could not be started has ended."""
        transport = await SocketTransport.connect(launched.sock)
        process: Process | NotStarted
        try:
            process = launched.process or await ForkserverEvents.of(launched.warden).started(launched.process_tag)
        except NotStarted as error:
            process = error
        return cls(launched, transport, process)

    @property
    def standby(self) -> socket.socket:
        """Where the worker tells of copies of itself."""
        return self._launched.standby

    @property
    def ancestor(self) -> int:
        """The process that it and its copies descend from."""
        return self._launched.warden.process.pid

    @property
    def pid(self) -> int:
        """The process id; 0 if there is no process."""
        return self._process.pid if self._process is not None else 0

    def read_pipes(self) -> list[tuple[StreamName, str]]:
        """Return what is in the pipes behind stdout and stderr, for a worker that cannot read them itself."""
        if self.exited.done():
            return []
        return _read_pipes(self._launched)

    def interrupt(self) -> None:
        """Send SIGINT to the process group: the cell and its child processes.

        Raises:
            PermissionError: the worker runs as somebody else.
        """
        if self._process is None or self.exited.done():
            return
        with contextlib.suppress(ProcessLookupError):
            try:
                signal.pidfd_send_signal(self._process.fd, signal.SIGINT, None, _GROUP)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                os.killpg(self.pid, signal.SIGINT)  # Linux before 6.9

    def kill(self) -> None:
        """Kill the process, now."""
        with contextlib.suppress(ProcessLookupError):
            if self._process is not None and not self.exited.done():
                signal.pidfd_send_signal(self._process.fd, signal.SIGKILL)

    async def writers_done(self, timeout: float) -> bool:
        """Wait until nothing writes a checkpoint of this worker any more, which has ended. Call it once.

        Args:
            timeout: seconds.
        """
        loop = asyncio.get_running_loop()
        fd = self._launched.writers
        done: asyncio.Future[None] = loop.create_future()
        loop.add_reader(fd, _settle, done)
        try:
            await asyncio.wait_for(done, timeout)
        except TimeoutError:
            return False
        else:
            return True
        finally:
            loop.remove_reader(fd)
            os.close(fd)

    async def end_children(self) -> None:
        """Kill whatever this worker's cells had started and that outlived it."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-m", "capsule_worker.process.orphan_cleanup", self._launched.process_tag
        )
        await process.wait()

    def _see_end(self) -> None:
        assert self._process is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._process.fd)
        self._ending = loop.create_task(self._learn_end(self._process))

    async def _learn_end(self, process: Process) -> None:
        self._end(await self._reports.end(process.inner), "")
        os.close(process.fd)

    def _end(self, end: End, said: str) -> None:
        """Take notice of how it ended, and of what it left behind."""
        launched = self._launched
        report = Exit(
            returncode=end.returncode,
            peak_memory=end.peak,
            last_words=_last_words(launched, said),
            stack=os.pread(launched.crash, 1 << 16, 0).decode("utf-8", "replace"),
        )
        launched.close()
        if not self.exited.done():
            self.exited.set_result(report)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _rest(fd: int) -> str:
    """Return what is left in a pipe, without waiting for writers that may still live."""
    os.set_blocking(fd, False)
    parts = []
    size = 0
    with contextlib.suppress(BlockingIOError):
        while size < LAST_WORDS and (data := os.read(fd, 1 << 16)):
            parts.append(data)
            size += len(data)
    return b"".join(parts).decode("utf-8", "replace")


def _last_words(launched: WorkerHandle, said: str) -> list[tuple[StreamName, str]]:
    """Return what Python code had printed, then what C code and child processes had, then what the warden has said."""
    words = output_buffer.read(os.pread(launched.journal, output_buffer.SIZE, 0)) + _read_pipes(launched)
    return [*words, ("stderr", said)] if said else words


def _read_pipes(launched: WorkerHandle) -> list[tuple[StreamName, str]]:
    pipes: list[tuple[StreamName, int]] = [("stdout", launched.stdout), ("stderr", launched.stderr)]
    return [(name, text) for name, fd in pipes if (text := _rest(fd))]
