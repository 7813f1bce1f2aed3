"""One worker: its process, its connection, the cells that it runs, and what it left behind when it ended."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass

from capsule_durable.errors import WorkerDied, describe_exit
from capsule_durable.messaging.session import Session
from capsule_durable.messaging.transport import SocketTransport
from capsule_durable.sandbox.resource_monitor import RunningCell
from capsule_durable.workers.channels import Process, WorkerHandle
from capsule_durable.workers.forkserver_client import End, ForkserverEvents, NotStarted
from capsule_worker.protocol import output_buffer
from capsule_worker.protocol.messages import ExecuteMessage
from capsule_worker.protocol.output_buffer import StreamName

#: How much of a dead worker's last words is kept, in bytes.
LAST_WORDS = 4 << 20
#: Characters of Python's stack at a crash that the error of an execution has.
MAX_STACK = 20_000
#: A flag for signals to the process group of a process (``PIDFD_SIGNAL_PROCESS_GROUP``).
_GROUP = 4


@dataclass(frozen=True, slots=True)
class Exit:
    """How a worker ended.

    Args:
        returncode: exit status, or minus the number of the signal.
        peak_memory: the largest resident size that the process had, in bytes.
        last_words: stream and text of what was printed and could not be sent any more, in order.
        stack: Python's stack at a crash; ``faulthandler`` wrote it.
    """

    returncode: int
    peak_memory: int
    last_words: list[tuple[StreamName, str]]
    stack: str

    @property
    def description(self) -> str:
        """How the process ended, without its memory: a predicate for a sentence."""
        return describe_exit(self.returncode)


@dataclass(frozen=True, slots=True)
class WorkerDeath:
    """The end of a worker that ran cells, after all its messages were routed.

    Args:
        exit: how it ended.
        reason: why, for the user.
        recovery: what is restored and what is lost, for the user, in whole sentences.
        execution_id: the execution that it ran, if it ran any.
    """

    exit: Exit
    reason: str
    recovery: str
    execution_id: str | None

    def error(self, execution_id: str = "") -> WorkerDied:
        """Return the reason for an execution that was running in the worker.

        Args:
            execution_id: the execution; empty for none.
        """
        return WorkerDied(
            f"{self.reason}. {self.recovery}",
            execution_id,
            returncode=self.exit.returncode,
            peak_memory=self.exit.peak_memory,
            stack=self.exit.stack[:MAX_STACK],
        )


class AttachedWorker:
    """A worker process. ``exited`` is done when it has ended, ``died`` when the session has routed its last message."""

    def __init__(self, handle: WorkerHandle, transport: SocketTransport, process: Process | NotStarted) -> None:
        self._handle = handle
        self.transport = transport
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.died: asyncio.Future[WorkerDeath] = asyncio.get_running_loop().create_future()
        #: Why the front ended it, for the user; None if it did not.
        self.verdict: str | None = None
        self._session: Session | None = None
        self._cells: dict[str, RunningCell] = {}
        #: The execution that the main shell ran last.
        self.main_cell = ""
        self._reports = ForkserverEvents.of(handle.forkserver)
        self._process: Process | None = None
        self._ending: asyncio.Task[None] | None = None
        if isinstance(process, Process):
            self._process = process
            asyncio.get_running_loop().add_reader(process.fd, self._see_end)
        else:
            # Later: the code that adopts it expects a worker that runs.
            asyncio.get_running_loop().call_soon(self._end, End(process.returncode, 0), process.output)

    @classmethod
    async def adopt(cls, handle: WorkerHandle) -> AttachedWorker:
        """Return a worker for a process that was just started; one that could not be started counts as ended.

        Args:
            handle: the front's ends of its channels; they belong to the worker from now on.
        """
        transport = await SocketTransport.connect(handle.sock)
        process: Process | NotStarted
        try:
            process = handle.process or await ForkserverEvents.of(handle.forkserver).started(handle.process_tag)
        except NotStarted as error:
            process = error
        return cls(handle, transport, process)

    def attach(self, session: Session) -> asyncio.Task[None]:
        """Let a session read its messages; return the task that reads.

        Args:
            session: the session.
        """
        self._session = session
        return session.attach(self.transport, self.pid)

    @property
    def running(self) -> RunningCell | None:
        """The cell that it runs: the main shell's, if that runs one, or else the oldest of a subshell."""
        return self._cells.get(self.main_cell) or next(iter(self._cells.values()), None)

    def send_cell(self, message: ExecuteMessage) -> None:
        """Send a cell to the worker.

        Args:
            message: the cell.

        Raises:
            TransportClosed: it has ended.
            ProtocolError: the message cannot be encoded.
        """
        assert self._session is not None
        self._session.send(message)
        self._cells[message.id] = RunningCell(message.id, time.monotonic())
        if message.subshell is None:
            self.main_cell = message.id

    def release(self, execution_id: str) -> None:
        """Forget a cell that does not run any more."""
        self._cells.pop(execution_id, None)

    @property
    def standby(self) -> socket.socket:
        """The socket that gets an announcement of each of its standbys."""
        return self._handle.standby

    @property
    def ancestor(self) -> int:
        """The process that it and its standbys descend from."""
        return self._handle.forkserver.process.pid

    @property
    def pid(self) -> int:
        """The process id; 0 if there is no process."""
        return self._process.pid if self._process is not None else 0

    def read_pipes(self) -> list[tuple[StreamName, str]]:
        """Return the texts in the pipes behind stdout and stderr, for a worker that cannot read them itself."""
        if self.exited.done():
            return []
        return _read_pipes(self._handle)

    def interrupt(self) -> None:
        """Send SIGINT to the process group: the cell and its child processes.

        Raises:
            PermissionError: the worker runs as another user.
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
        """Kill the process."""
        with contextlib.suppress(ProcessLookupError):
            if self._process is not None and not self.exited.done():
                signal.pidfd_send_signal(self._process.fd, signal.SIGKILL)

    async def writers_done(self, timeout: float) -> bool:
        """Wait until no process writes a checkpoint of this worker, which has ended; return whether that is so.

        Call it once.

        Args:
            timeout: seconds.
        """
        loop = asyncio.get_running_loop()
        fd = self._handle.writers
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
        """Kill the processes that its cells started and that have outlived it."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-m", "capsule_worker.process.orphan_cleanup", self._handle.process_tag
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

    def _end(self, end: End, output: str) -> None:
        """Record how it ended, and what it left behind."""
        handle = self._handle
        report = Exit(
            returncode=end.returncode,
            peak_memory=end.peak,
            last_words=_last_words(handle, output),
            stack=os.pread(handle.crash, 1 << 16, 0).decode("utf-8", "replace"),
        )
        handle.close()
        if not self.exited.done():
            self.exited.set_result(report)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _rest(fd: int) -> str:
    """Return the bytes that are left in a pipe, without waiting for writers that may still run."""
    os.set_blocking(fd, False)
    parts = []
    size = 0
    with contextlib.suppress(BlockingIOError):
        while size < LAST_WORDS and (data := os.read(fd, 1 << 16)):
            parts.append(data)
            size += len(data)
    return b"".join(parts).decode("utf-8", "replace")


def _last_words(handle: WorkerHandle, output: str) -> list[tuple[StreamName, str]]:
    """Return the output of Python code, then that of C code and child processes, then that of the forkserver."""
    words = output_buffer.read(os.pread(handle.journal, output_buffer.SIZE, 0)) + _read_pipes(handle)
    return [*words, ("stderr", output)] if output else words


def _read_pipes(handle: WorkerHandle) -> list[tuple[StreamName, str]]:
    pipes: list[tuple[StreamName, int]] = [("stdout", handle.stdout), ("stderr", handle.stderr)]
    return [(name, text) for name, fd in pipes if (text := _rest(fd))]
