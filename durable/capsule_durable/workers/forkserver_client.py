"""The reports of a forkserver: which processes it has started, and how each has ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
from collections import OrderedDict
from dataclasses import dataclass

from capsule_durable.errors import CapsuleError
from capsule_durable.sandbox.policy import reported_layer
from capsule_durable.workers.channels import Process
from capsule_durable.workers.launcher import Forkserver

#: Ends of processes that are stored until they are requested.
_MAX_ENDS = 1000
#: Seconds within which it must have reported an end that the front has seen.
_TIMEOUT_SECONDS = 5.0
#: Bytes of the longest datagram.
_MAX_BYTES = 1 << 16


class NotStarted(CapsuleError):
    """A worker was not started.

    Args:
        returncode: how the forkserver has ended.
        output: what it wrote.
    """

    def __init__(self, returncode: int, output: str) -> None:
        super().__init__(output)
        self.returncode, self.output = returncode, output


@dataclass(frozen=True)
class End:
    """How a process has ended.

    Args:
        returncode: exit status, or minus the number of the signal.
        peak: the largest resident size that it had, in bytes.
    """

    returncode: int
    peak: int


class ForkserverEvents:
    """Reads the reports of a forkserver.

    Args:
        forkserver: the forkserver.
    """

    def __init__(self, forkserver: Forkserver) -> None:
        self._forkserver = forkserver
        self._loop = asyncio.get_running_loop()
        self._started: dict[str, asyncio.Future[Process]] = {}
        self._ended: OrderedDict[int, End] = OrderedDict()
        self._waiting: dict[int, asyncio.Future[End]] = {}
        self._lost: NotStarted | None = None
        forkserver.events = self
        forkserver.control.setblocking(False)
        self._loop.add_reader(forkserver.control, self._hear)

    @classmethod
    def of(cls, forkserver: Forkserver) -> ForkserverEvents:
        """Return the events of a forkserver."""
        return forkserver.events or cls(forkserver)

    def close(self) -> None:
        """Stop reading. Waiting callers get the end of the forkserver."""
        self._loop.remove_reader(self._forkserver.control)
        self._give_up(self._forkserver.process.poll())

    async def started(self, process_tag: str) -> Process:
        """Return the process of a worker.

        Args:
            process_tag: the tag of the worker.

        Raises:
            NotStarted: it was not started.
        """
        return await self._future(process_tag)

    async def end(self, inner: int) -> End:
        """Return how a process has ended. An unknown end counts as a kill by the system.

        Args:
            inner: the id of the process in the pid namespace of the forkserver.
        """
        if inner not in self._ended and self._lost is None:
            waiting = self._waiting[inner] = self._loop.create_future()
            try:
                return await asyncio.wait_for(waiting, _TIMEOUT_SECONDS)
            except TimeoutError:
                pass
            finally:
                self._waiting.pop(inner, None)
        return self._ended.pop(inner, End(-9, 0))

    def _future(self, process_tag: str) -> asyncio.Future[Process]:
        future = self._started.setdefault(process_tag, self._loop.create_future())
        if self._lost is not None and not future.done():
            future.set_exception(self._lost)
        return future

    def _hear(self) -> None:
        try:
            data, fds, *_ = socket.recv_fds(self._forkserver.control, _MAX_BYTES, 1)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self._lose()
            return
        match json.loads(data):
            case {"started": str(process_tag), "pid": int(inner)}:
                self._begin(process_tag, fds[0], inner)
            case {"forkserver": int(inner)}:
                self._forkserver.fd = Process.from_record(fds[0], inner, self._forkserver.process.pid).fd
            case {"layer": str(name), "why": str(why)}:
                self._forkserver.layers.append(reported_layer(name, why))
            case {"refused": str(process_tag), "reason": reason}:
                self._future(process_tag).set_exception(NotStarted(1, str(reason)))
            case {"ended": int(inner), "status": int(status), "peak": int(peak)}:
                self._remember(inner, End(os.waitstatus_to_exitcode(status), peak * 1024))

    def _begin(self, process_tag: str, fd: int, inner: int) -> None:
        """Deliver the process of a worker."""
        started = self._future(process_tag)
        if started.done():
            os.close(fd)
            return
        try:
            started.set_result(Process.from_record(fd, inner, self._forkserver.process.pid))
        except OSError as error:
            started.set_exception(NotStarted(1, str(error)))

    def _remember(self, inner: int, end: End) -> None:
        """Deliver the end of a process, or store it until it is requested."""
        waiting = self._waiting.get(inner)
        if waiting is not None and not waiting.done():
            waiting.set_result(end)
            return
        self._ended[inner] = end
        if len(self._ended) > _MAX_ENDS:
            self._ended.popitem(last=False)

    def _lose(self) -> None:
        """Handle the end of the forkserver, which reports nothing more."""
        self._loop.remove_reader(self._forkserver.control)
        returncode = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            returncode = self._forkserver.process.wait(1.0)
        self._give_up(returncode)

    def _give_up(self, returncode: int | None) -> None:
        self._lost = NotStarted(-9 if returncode is None else returncode, self._forkserver.text())
        for started in self._started.values():
            if not started.done():
                started.set_exception(self._lost)
                started.exception()  # there may be no caller that waits
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(End(-9, 0))
