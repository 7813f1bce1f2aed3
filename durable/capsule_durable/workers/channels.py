"""What connects a worker process to the front: sockets, pipes and shared memory.

Standard library only, and of that no ``dataclasses``; see ``launcher``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from capsule_durable.workers.launcher import Forkserver

#: The size of the memory that keeps a worker's text until it is sent; see capsule_worker.protocol.output_buffer.
JOURNAL_SIZE = 4 * 1024 * 1024
#: What a pipe behind stdout or stderr holds before its writer must wait, in bytes.
PIPE_SIZE = 1 << 20
#: What the socket holds in each direction, in bytes.
SOCKET_SIZE = 1 << 18
_F_SETPIPE_SZ = 1031


class WorkerHandle(NamedTuple):
    """A worker that was just started, and the front's ends of its channels."""

    sock: socket.socket
    #: Reading ends of the worker's stdout and stderr. The worker reads them itself while it runs; the front reads what
    #: is left in them when it has died.
    stdout: int
    stderr: int
    #: A file that gets Python's stack when the worker crashes.
    crash: int
    #: Shared memory with the text that the worker had not sent yet when it died.
    journal: int
    #: A pipe that ends when neither the worker nor any writer of its checkpoints is left.
    writers: int
    #: Gets an announcement of each standby of the worker.
    standby: socket.socket
    #: Finds all processes that the worker has started.
    process_tag: str
    #: The parent of the worker, which reports how it ends.
    forkserver: Forkserver
    #: The process, if it was a standby of another worker; the forkserver reports the process of any other.
    process: Process | None = None

    def close(self) -> None:
        """Close the front's ends except ``sock`` and ``writers``."""
        for fd in (self.stdout, self.stderr, self.crash, self.journal):
            os.close(fd)
        self.standby.close()


class Process(NamedTuple):
    """A process.

    Args:
        fd: a descriptor of it (a pidfd).
        pid: its id; 0 if it has ended.
        inner: its id in the pid namespace of the forkserver.
    """

    fd: int
    pid: int
    inner: int

    @classmethod
    def from_record(cls, fd: int, inner: int, ancestor: int) -> Process:
        """Return the process of a pidfd that another process has passed.

        Args:
            fd: the descriptor; it is closed if it is not accepted.
            inner: its id in the pid namespace of the forkserver.
            ancestor: the process that it must descend from. A cell may control the process that passes descriptors,
                and could have the front end a process of another program.

        Raises:
            OSError: the descriptor is not one of a process that descends from ``ancestor``.
        """
        with open(f"/proc/self/fdinfo/{fd}") as info:  # noqa: PTH123  # no need to import more
            found = [int(value) for name, _, value in (line.partition(":") for line in info) if name == "Pid"]
        if not found or (found[0] > 0 and not _descends(found[0], ancestor)):
            os.close(fd)
            raise OSError(f"descriptor {fd} does not belong to a process that was started here")
        return cls(fd, max(0, found[0]), inner)


class ChannelEnds(NamedTuple):
    """Both ends of a worker's channels."""

    sock: tuple[socket.socket, socket.socket]
    stdout: tuple[int, int]
    stderr: tuple[int, int]
    crash: int
    journal: int
    writers: tuple[int, int]
    standby: tuple[socket.socket, socket.socket]

    @classmethod
    def make(cls) -> ChannelEnds:
        """Create sockets, pipes, a file and the shared memory for one worker."""
        sock = socket.socketpair()
        for end in sock:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_SIZE)
        journal = os.memfd_create("capsule-output")
        os.ftruncate(journal, JOURNAL_SIZE)
        standby = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        crash = os.memfd_create("capsule-crash")
        return cls(sock, _pipe(), _pipe(), crash, journal, os.pipe(), standby)

    @property
    def worker_ends(self) -> list[int]:
        """The worker's ends, in the order in which it gets them (``capsule_worker.process.forkserver.PASSED_FDS``)."""
        return [
            self.sock[1].fileno(),
            *self.stdout,
            *self.stderr,
            self.crash,
            self.journal,
            self.writers[1],
            self.standby[1].fileno(),
        ]

    def handle(self, process_tag: str, forkserver: Forkserver, process: Process | None = None) -> WorkerHandle:
        """Return the front's ends, as a handle of the worker.

        Args:
            process_tag: marks the processes that the cells of this worker start.
            forkserver: the parent of the worker.
            process: the worker's process; None until the forkserver has reported it.
        """
        return WorkerHandle(
            self.sock[0],
            self.stdout[0],
            self.stderr[0],
            self.crash,
            self.journal,
            self.writers[0],
            self.standby[0],
            process_tag,
            forkserver,
            process,
        )

    def close_worker_ends(self) -> None:
        """Close the worker's ends."""
        self.sock[1].close()
        self.standby[1].close()
        for _, writing in (self.stdout, self.stderr, self.writers):
            os.close(writing)

    def close_front_ends(self) -> None:
        """Close the front's ends."""
        self.sock[0].close()
        self.standby[0].close()
        for fd in (self.stdout[0], self.stderr[0], self.crash, self.journal, self.writers[0]):
            os.close(fd)


def _descends(pid: int, ancestor: int) -> bool:
    """Return whether a process is another one or descends from it; also true if it has ended meanwhile."""
    with contextlib.suppress(OSError):
        while pid > 1 and pid != ancestor:
            with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123  # no need to import more
                pid = int(stat.read().rpartition(")")[2].split()[1])
        return pid == ancestor
    return True


def _pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    # Not Linux, or over the user's limit: the default size is enough.
    with contextlib.suppress(OSError):
        fcntl.fcntl(writing, _F_SETPIPE_SZ, PIPE_SIZE)
    return reading, writing
