"""Starts worker processes, and nothing else.

Standard library only, so that the first worker can be on its way while the front is still importing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
import uuid
from dataclasses import dataclass, field

#: The environment variable by which everything that a worker starts is found again; see capsule_worker.reaper.
COOKIE = "CAPSULE_WORKER_COOKIE"
#: The size of the memory that keeps a worker's text until it is sent; see capsule_worker.protocol.journal.
JOURNAL_SIZE = 4 * 1024 * 1024
#: What a pipe behind stdout or stderr holds before its writer must wait, in bytes.
PIPE_SIZE = 1 << 20
#: What the socket holds in each direction, in bytes.
SOCKET_SIZE = 1 << 18
_F_SETPIPE_SZ = 1031

#: Variables of the Jupyter server and of this front that are no business of the user's code.
_WITHHELD = ("JPY_API_TOKEN", "JUPYTER_TOKEN", "JUPYTERHUB_API_TOKEN", "CAPSULE_TOKEN")


@dataclass
class Launched:
    """A worker process that was just started, and the front's ends of what connects to it."""

    pid: int
    sock: socket.socket
    #: Reading ends of the worker's stdout and stderr. The worker reads them itself while it lives; what it left
    #: behind when it died is read here.
    stdout: int
    stderr: int
    #: Gets Python's stack when the worker crashes.
    crash: int
    #: Shared memory with the text that the worker had not sent yet when it died.
    journal: int
    #: Ends when neither the worker nor anything that writes a checkpoint of it is left.
    writers: int
    #: Tells of copies of the worker that could take its place.
    standby: socket.socket
    cookie: str
    #: None for a copy of another worker.
    process: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """Close the front's ends of what connects to it, but for ``sock`` and ``writers``."""
        for fd in (self.stdout, self.stderr, self.crash, self.journal):
            os.close(fd)
        self.standby.close()


@dataclass
class _Ends:
    """Both ends of what connects a worker to its front."""

    sock: tuple[socket.socket, socket.socket]
    stdout: tuple[int, int]
    stderr: tuple[int, int]
    crash: int
    journal: int
    writers: tuple[int, int]
    standby: tuple[socket.socket, socket.socket]

    @classmethod
    def make(cls) -> _Ends:
        sock = socket.socketpair()
        for end in sock:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_SIZE)
        journal = os.memfd_create("capsule-journal")
        os.ftruncate(journal, JOURNAL_SIZE)
        standby = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        crash = os.memfd_create("capsule-crash")
        return cls(sock, _pipe(), _pipe(), crash, journal, os.pipe(), standby)

    def launched(self, pid: int, cookie: str, process: subprocess.Popen[bytes] | None = None) -> Launched:
        """Return the front's ends."""
        return Launched(
            pid,
            self.sock[0],
            self.stdout[0],
            self.stderr[0],
            self.crash,
            self.journal,
            self.writers[0],
            self.standby[0],
            cookie,
            process,
        )

    def close_theirs(self) -> None:
        """Close the worker's ends."""
        self.sock[1].close()
        self.standby[1].close()
        for _, writing in (self.stdout, self.stderr, self.writers):
            os.close(writing)

    def close_ours(self) -> None:
        """Close the front's ends."""
        self.sock[0].close()
        self.standby[0].close()
        for fd in (self.stdout[0], self.stderr[0], self.crash, self.journal, self.writers[0]):
            os.close(fd)


@dataclass
class Launcher:
    """Starts workers that share an interpreter and a working directory.

    Args:
        python: the interpreter of the environment in which cells run.
        drain_timeout: seconds that a cell's output may take to leave the worker.
        extra: further arguments of ``capsule_worker``.
    """

    python: str = sys.executable
    drain_timeout: float = 30.0
    extra: list[str] = field(default_factory=list)
    #: The start of the cookie of every worker of this front.
    front_cookie: str = field(default_factory=lambda: uuid.uuid4().hex)
    _count: int = 0

    def launch(self) -> Launched:
        """Start a worker by exec, in a session of its own. Call it from the main thread.

        Raises:
            OSError: the interpreter cannot be started.
        """
        cookie = self._next_cookie()
        ends = _Ends.make()
        theirs = {
            "fd": ends.sock[1].fileno(),
            "stdout": ends.stdout[0],
            "stderr": ends.stderr[0],
            "crash": ends.crash,
            "journal": ends.journal,
            "writers": ends.writers[1],
            "standby": ends.standby[1].fileno(),
        }
        command = [
            self.python,
            "-m",
            "capsule_worker",
            *(f"--{name}={fd}" for name, fd in theirs.items()),
            f"--drain-timeout={self.drain_timeout}",
            *self.extra,
        ]
        try:
            process = subprocess.Popen(  # noqa: S603  # the interpreter that the user chose
                command,
                stdin=subprocess.DEVNULL,
                stdout=ends.stdout[1],
                stderr=ends.stderr[1],
                pass_fds=list(theirs.values()),
                start_new_session=True,
                env=worker_environment(os.environ, cookie),
            )
        except OSError:
            ends.close_ours()
            raise
        finally:
            ends.close_theirs()
        return ends.launched(process.pid, cookie, process)

    def promote(self, sock: socket.socket, pid: int) -> Launched:
        """Have a copy of a worker take over.

        Args:
            sock: connected to the copy, which waits.
            pid: its process id.

        Raises:
            OSError: it is gone.
        """
        cookie = self._next_cookie()
        ends = _Ends.make()
        fds = [
            ends.sock[1].fileno(),
            *ends.stdout,
            *ends.stderr,
            ends.crash,
            ends.journal,
            ends.writers[1],
            ends.standby[1].fileno(),
        ]
        try:
            socket.send_fds(sock, [cookie.encode()], fds)
        except OSError:
            ends.close_ours()
            raise
        finally:
            ends.close_theirs()
        return ends.launched(pid, cookie)

    def _next_cookie(self) -> str:
        # All are of one length: a copy of a worker writes its own over its original's.
        self._count += 1
        return f"{self.front_cookie}.{self._count:08d}."

    def start_watchdog(self) -> subprocess.Popen[bytes]:
        """Start the process that ends all workers and what they started, once this front is gone, however it went.

        It is a shell that waits for the end of its standard input, which only this front holds open.
        """
        return subprocess.Popen(  # noqa: S603  # constants and our own interpreter
            [
                "/bin/sh",
                "-c",
                'read -r _; exec "$0" -I -m capsule_worker.reaper --everything "$1"',
                sys.executable,
                f"{self.front_cookie}.",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def worker_environment(environ: os._Environ[str] | dict[str, str], cookie: str) -> dict[str, str]:
    """Return the environment of a worker: the front's, without its secrets, with the cookie."""
    environment = {name: value for name, value in environ.items() if name not in _WITHHELD}
    environment[COOKIE] = cookie
    return environment


def _pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    # Not Linux, or over the user's limit: the default size serves.
    with contextlib.suppress(OSError):
        fcntl.fcntl(writing, _F_SETPIPE_SZ, PIPE_SIZE)
    return reading, writing
