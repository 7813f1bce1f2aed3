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

    process: subprocess.Popen[bytes]
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
    cookie: str

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def close(self) -> None:
        """Close the front's ends of the pipes, but for ``writers``."""
        for fd in (self.stdout, self.stderr, self.crash, self.journal):
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
        self._count += 1
        cookie = f"{self.front_cookie}.{self._count}."
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_SIZE)
        stdout, stdout_writing = _pipe()
        stderr, stderr_writing = _pipe()
        crash = os.memfd_create("capsule-crash")
        journal = os.memfd_create("capsule-journal")
        os.ftruncate(journal, JOURNAL_SIZE)
        writers, writers_writing = os.pipe()
        passed = [theirs.fileno(), stdout, stderr, crash, journal, writers_writing]
        command = [
            self.python,
            "-m",
            "capsule_worker",
            f"--fd={theirs.fileno()}",
            f"--stdout={stdout}",
            f"--stderr={stderr}",
            f"--crash={crash}",
            f"--journal={journal}",
            f"--writers={writers_writing}",
            f"--drain-timeout={self.drain_timeout}",
            *self.extra,
        ]
        try:
            process = subprocess.Popen(  # noqa: S603  # the interpreter that the user chose
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout_writing,
                stderr=stderr_writing,
                pass_fds=passed,
                start_new_session=True,
                env=worker_environment(os.environ, cookie),
            )
        except OSError:
            ours.close()
            for fd in (stdout, stderr, crash, journal, writers):
                os.close(fd)
            raise
        finally:
            theirs.close()
            os.close(writers_writing)
            os.close(stdout_writing)
            os.close(stderr_writing)
        return Launched(process, ours, stdout, stderr, crash, journal, writers, cookie)

    def start_watchdog(self) -> subprocess.Popen[bytes]:
        """Start the process that ends all workers and what they started, once this front is gone, however it went.

        It is a shell that waits for the end of its standard input, which only this front holds open.
        """
        return subprocess.Popen(  # noqa: S603  # constants and our own interpreter
            [
                "/bin/sh",
                "-c",
                'read -r _; exec "$0" -I -m capsule_worker.reaper "$1"',
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
