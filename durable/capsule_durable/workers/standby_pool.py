"""Standbys: paused forks of the worker that can replace it."""

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

#: The most standbys: one of the current state, for a crash, and one of the state before, for an undo.
_MAX_STANDBYS = 2
#: Seconds that a standby may take to arrive.
_ARRIVAL_SECONDS = 5.0


class Note(Model):
    """The announcement of a standby; see ``Standby``."""

    execution_id: str
    execution_count: int
    checkpoint: str | None
    current: bool


@dataclass
class Standby:
    """A paused fork of a worker.

    Args:
        sock: connected to it; it ends when the socket is closed.
        execution_id: the last cell that had ended when it was forked.
        execution_count: its number.
        checkpoint: the latest checkpoint then.
        current: whether that checkpoint has all changes of the cells.
        there: becomes its process when it has arrived, or None when it has ended.
    """

    sock: socket.socket
    execution_id: str
    execution_count: int
    checkpoint: str | None
    current: bool
    there: asyncio.Future[Process | None]


class StandbyPool:
    """The standbys of the worker that runs cells."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._front: socket.socket | None = None
        self._ancestor = 0
        self._waiting: list[Standby] = []

    def follow(self, front: socket.socket, ancestor: int) -> None:
        """Record the standbys that a worker announces.

        Args:
            front: the socket for announcements; the worker may close it before all were read.
            ancestor: the process that they descend from.
        """
        self.clear()
        self._ancestor = ancestor
        self._front = front.dup()
        self._front.setblocking(False)
        self._loop.add_reader(self._front, self._announced, self._front)

    def clear(self) -> None:
        """Drop all standbys and expect no more."""
        if self._front is not None:
            self._loop.remove_reader(self._front)
            self._front.close()
            self._front = None
        for standby in self._waiting:
            self._drop(standby)
        self._waiting = []

    async def take(self, *, execution_id: str | None = None, checkpoint: str | None = None) -> Standby | None:
        """Remove and return the standby that has the state after an execution, or that of a checkpoint.

        Args:
            execution_id: the execution.
            checkpoint: the id of the checkpoint.
        """
        while self._front is not None and self._announced(self._front):
            pass  # the announcements before the worker died
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
        """Wait until a standby has arrived; drop it if it does not arrive, or if the caller is cancelled."""
        arrived = False
        try:
            with contextlib.suppress(TimeoutError):
                arrived = await asyncio.wait_for(asyncio.shield(standby.there), _ARRIVAL_SECONDS) is not None
        finally:
            if not arrived:
                self._drop(standby)
        return arrived

    def _announced(self, front: socket.socket) -> bool:
        """Read the announcement of a standby; return whether there was one."""
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
            logger.warning("a worker announced a standby with an invalid message: %s", error)
            _close(fds)
            self._loop.remove_reader(front)
            return False
        sock.setblocking(False)
        standby = Standby(sock, there=self._loop.create_future(), **note.model_dump())
        # One of the current state, and one of the state before the latest cell that changed something.
        self._waiting.append(standby)
        for older in self._waiting[:-1]:
            if older.checkpoint == standby.checkpoint or len(self._waiting) > _MAX_STANDBYS:
                self._waiting.remove(older)
                self._drop(older)
        self._loop.add_reader(sock, self._heard, standby)
        return True

    def _heard(self, standby: Standby) -> None:
        """Record that a standby has arrived, or that it has ended."""
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
                logger.warning("a standby has sent an invalid message: %s", error)
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
