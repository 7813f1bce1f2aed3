"""Copies of workers that wait to take their place: what the front knows of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from dataclasses import dataclass

import msgpack  # type: ignore[import-untyped]

from capsule_durable.workers.channels import Process
from capsule_worker.protocol.model import Model

logger = logging.getLogger(__name__)

#: Copies that wait at most: of the state now, for a death; and of the one before, for an undo.
_MOST = 2
#: Seconds that a copy may take to be there.
_ARRIVAL = 5.0


class Note(Model):
    """What is told of a copy; see ``Standby``."""

    execution_id: str
    execution_count: int
    checkpoint: str | None
    current: bool


@dataclass
class Standby:
    """A copy of a worker that waits.

    Args:
        sock: connected to it; it ends when this is closed.
        execution_id: the last cell that had ended when it was made.
        execution_count: its number.
        checkpoint: the latest checkpoint then.
        current: whether that checkpoint has all that cells had changed.
        there: becomes its process when it is there, or None when it has gone.
    """

    sock: socket.socket
    execution_id: str
    execution_count: int
    checkpoint: str | None
    current: bool
    there: asyncio.Future[Process | None]


class StandbyPool:
    """The copies of the worker that runs cells."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._front: socket.socket | None = None
        self._ancestor = 0
        self._waiting: list[Standby] = []

    def follow(self, front: socket.socket, ancestor: int) -> None:
        """Take notice of the copies that a worker leaves.

        Args:
            front: where it tells of them; it may be closed before all was read.
            ancestor: the process that they descend from.
        """
        self.clear()
        self._ancestor = ancestor
        self._front = front.dup()
        self._front.setblocking(False)
        self._loop.add_reader(self._front, self._announced, self._front)

    def clear(self) -> None:
        """Let all copies go; none is expected any more."""
        if self._front is not None:
            self._loop.remove_reader(self._front)
            self._front.close()
            self._front = None
        for standby in self._waiting:
            self._drop(standby)
        self._waiting = []

    async def take(self, *, execution_id: str | None = None, checkpoint: str | None = None) -> Standby | None:
        """Return the copy that has the state after an execution, or that of a checkpoint; it is the caller's now."""
        while self._front is not None and self._announced(self._front):
            pass  # what a worker told before it died
        for standby in reversed(self._waiting):
            has_checkpoint = standby.current and standby.checkpoint is not None and standby.checkpoint == checkpoint
            if standby.execution_id == execution_id or has_checkpoint:
                self._waiting.remove(standby)
                if await self._arrived(standby):
                    self._loop.remove_reader(standby.sock)
                    standby.sock.setblocking(True)
                    return standby
        return None

    async def _arrived(self, standby: Standby) -> bool:
        """Wait until a copy is there; let it go if it does not come, or if nobody waits for it any more."""
        arrived = False
        try:
            with contextlib.suppress(TimeoutError):
                arrived = await asyncio.wait_for(asyncio.shield(standby.there), _ARRIVAL) is not None
        finally:
            if not arrived:
                self._drop(standby)
        return arrived

    def _announced(self, front: socket.socket) -> bool:
        """Take notice of a copy; return whether there was one."""
        try:
            data, fds, *_ = socket.recv_fds(front, 4096, 1)
        except BlockingIOError:
            return False
        except OSError:
            data, fds = b"", []
        if not data:
            self._loop.remove_reader(front)
            return False
        try:
            note = Note.model_validate(msgpack.unpackb(data), strict=True)
            sock = socket.socket(fileno=fds.pop())
        # A cell can reach this socket, too. msgpack reports nonsense by many types.
        except Exception as error:
            logger.warning("what a worker tells of its copies makes no sense: %s", error)
            _close(fds)
            self._loop.remove_reader(front)
            return False
        sock.setblocking(False)
        standby = Standby(sock, there=self._loop.create_future(), **note.model_dump())
        # One of the state now, and one of the state before the latest cell that changed something.
        self._waiting.append(standby)
        for older in self._waiting[:-1]:
            if older.checkpoint == standby.checkpoint or len(self._waiting) > _MOST:
                self._waiting.remove(older)
                self._drop(older)
        self._loop.add_reader(sock, self._heard, standby)
        return True

    def _heard(self, standby: Standby) -> None:
        """Take notice that a copy is there, or that it has gone."""
        try:
            data, fds, *_ = socket.recv_fds(standby.sock, 64, 1)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if data and not standby.there.done():
            try:
                standby.there.set_result(Process.from_record(fds.pop(), int(data), self._ancestor))
            except (OSError, ValueError, IndexError) as error:
                logger.warning("what tells of a copy makes no sense: %s", error)
            else:
                return
        _close(fds)
        if standby in self._waiting:
            self._waiting.remove(standby)
        self._drop(standby)

    def _drop(self, standby: Standby) -> None:
        if standby.sock.fileno() >= 0:
            self._loop.remove_reader(standby.sock)
            standby.sock.close()
        if not standby.there.done():
            standby.there.set_result(None)
        elif (process := standby.there.result()) is not None:
            os.close(process.fd)


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
