"""What wardens tell: which processes they have started, and how each has ended."""

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
from capsule_durable.sandbox.policy import layer as told_of
from capsule_durable.workers.launcher import Forkserver, Process

#: Ends of processes for which nobody has asked that are remembered.
_REMEMBERED = 1000
#: Seconds within which it must have told of an end that was seen.
_PATIENCE = 5.0
#: Bytes of the longest datagram.
_MOST = 1 << 16


class NotStarted(CapsuleError):
    """A worker was not started.

    Args:
        returncode: how the warden has ended.
        said: what it wrote.
    """

    def __init__(self, returncode: int, said: str) -> None:
        super().__init__(said)
        self.returncode, self.said = returncode, said


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
    """Listens to a warden.

    Args:
        warden: it.
    """

    def __init__(self, warden: Forkserver) -> None:
        self._warden = warden
        self._loop = asyncio.get_running_loop()
        self._started: dict[str, asyncio.Future[Process]] = {}
        self._ended: OrderedDict[int, End] = OrderedDict()
        self._waiting: dict[int, asyncio.Future[End]] = {}
        self._lost: NotStarted | None = None
        warden.listener = self
        warden.control.setblocking(False)
        self._loop.add_reader(warden.control, self._hear)

    @classmethod
    def of(cls, warden: Forkserver) -> ForkserverEvents:
        """Return what listens to a warden."""
        return warden.listener if isinstance(warden.listener, cls) else cls(warden)

    def close(self) -> None:
        """Listen no more. Who still waits is told that there is nothing to wait for."""
        self._loop.remove_reader(self._warden.control)
        self._give_up(self._warden.process.poll())

    async def started(self, cookie: str) -> Process:
        """Return the process of a worker.

        Raises:
            NotStarted: there is none.
        """
        return await self._future(cookie)

    async def end(self, inner: int) -> End:
        """Return how a process has ended that has; what is not known is a kill, by the system."""
        if inner not in self._ended and self._lost is None:
            waiting = self._waiting[inner] = self._loop.create_future()
            try:
                return await asyncio.wait_for(waiting, _PATIENCE)
            except TimeoutError:
                pass
            finally:
                self._waiting.pop(inner, None)
        return self._ended.pop(inner, End(-9, 0))

    def _future(self, cookie: str) -> asyncio.Future[Process]:
        future = self._started.setdefault(cookie, self._loop.create_future())
        if self._lost is not None and not future.done():
            future.set_exception(self._lost)
        return future

    def _hear(self) -> None:
        try:
            data, fds, *_ = socket.recv_fds(self._warden.control, _MOST, 1)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self._lose()
            return
        match json.loads(data):
            case {"started": str(cookie), "pid": int(inner)}:
                self._begin(cookie, fds[0], inner)
            case {"forkserver": int(inner)}:
                self._warden.fd = Process.from_record(fds[0], inner, self._warden.process.pid).fd
            case {"layer": str(name), "why": str(why)}:
                self._warden.layers.append(told_of(name, why))
            case {"refused": str(cookie), "reason": reason}:
                self._future(cookie).set_exception(NotStarted(1, str(reason)))
            case {"ended": int(inner), "status": int(status), "peak": int(peak)}:
                self._remember(inner, End(os.waitstatus_to_exitcode(status), peak * 1024))

    def _begin(self, cookie: str, fd: int, inner: int) -> None:
        """Tell who waits for a worker's process."""
        started = self._future(cookie)
        if started.done():
            os.close(fd)
            return
        try:
            started.set_result(Process.from_record(fd, inner, self._warden.process.pid))
        except OSError as error:
            started.set_exception(NotStarted(1, str(error)))

    def _remember(self, inner: int, end: End) -> None:
        """Tell who waits for a process's end, or who will ask for it."""
        waiting = self._waiting.get(inner)
        if waiting is not None and not waiting.done():
            waiting.set_result(end)
            return
        self._ended[inner] = end
        if len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)

    def _lose(self) -> None:
        """The warden has ended, and tells nothing more."""
        self._loop.remove_reader(self._warden.control)
        returncode = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            returncode = self._warden.process.wait(1.0)
        self._give_up(returncode)

    def _give_up(self, returncode: int | None) -> None:
        self._lost = NotStarted(-9 if returncode is None else returncode, self._warden.text())
        for started in self._started.values():
            if not started.done():
                started.set_exception(self._lost)
                started.exception()  # nobody may be waiting, and that is all right
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(End(-9, 0))
