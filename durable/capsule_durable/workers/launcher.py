"""Starts worker processes, and nothing else.

Standard library only, so that the first worker can be on its way while the front is still importing; and of that no
``dataclasses``, which take 20 ms (with ``inspect``, and a program to be compiled for each class).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from capsule_durable.config.limits import Limits
from capsule_durable.sandbox import env_filter as variables
from capsule_durable.sandbox.policy import Layer, Sandbox

#: The environment variable by which everything that a worker starts is found again;
#: see capsule_worker.process.orphan_cleanup.
PROCESS_TAG = "CAPSULE_PROCESS_TAG"
#: The size of the memory that keeps a worker's text until it is sent; see capsule_worker.protocol.output_buffer.
JOURNAL_SIZE = 4 * 1024 * 1024
#: What a pipe behind stdout or stderr holds before its writer must wait, in bytes.
PIPE_SIZE = 1 << 20
#: What the socket holds in each direction, in bytes.
SOCKET_SIZE = 1 << 18
_F_SETPIPE_SZ = 1031
#: Environment variables for ``capsule_worker.isolation.error_hints``: the names of those which cells do not get,
#: and the profile.
HIDDEN_ENVIRONMENT, PROFILE = "CAPSULE_HIDDEN_ENVIRONMENT", "CAPSULE_ISOLATION"


class WorkerHandle(NamedTuple):
    """A worker that was just started, and the front's ends of what connects to it."""

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
    process_tag: str
    #: Who tells how it ends.
    warden: Forkserver
    #: Its process, if it is a copy of another worker; the warden tells of others.
    process: Process | None = None

    def close(self) -> None:
        """Close the front's ends of what connects to it, but for ``sock`` and ``writers``."""
        for fd in (self.stdout, self.stderr, self.crash, self.journal):
            os.close(fd)
        self.standby.close()


class Process(NamedTuple):
    """A process.

    Args:
        fd: a descriptor of it (a pidfd).
        pid: its id.
        inner: its id as the warden knows it.
    """

    fd: int
    pid: int
    inner: int

    @classmethod
    def from_record(cls, fd: int, inner: int, ancestor: int) -> Process:
        """Return the process of a pidfd that was handed over. Its id here is 0 if it has ended.

        Args:
            fd: the descriptor; it is closed if it is not accepted.
            inner: its id as the warden knows it.
            ancestor: the process that it must descend from. Who hands descriptors over may be in the power of a cell,
                and have this process end one that is none of its business.

        Raises:
            OSError: it is of no process, or of another one.
        """
        with open(f"/proc/self/fdinfo/{fd}") as info:  # noqa: PTH123  # no need to import more
            found = [int(value) for name, _, value in (line.partition(":") for line in info) if name == "Pid"]
        if not found or (found[0] > 0 and not _descends(found[0], ancestor)):
            os.close(fd)
            raise OSError(f"descriptor {fd} is of no process that was started here")
        return cls(fd, max(0, found[0]), inner)


class ChannelEnds(NamedTuple):
    """Both ends of what connects a worker to its front."""

    sock: tuple[socket.socket, socket.socket]
    stdout: tuple[int, int]
    stderr: tuple[int, int]
    crash: int
    journal: int
    writers: tuple[int, int]
    standby: tuple[socket.socket, socket.socket]

    @classmethod
    def make(cls) -> ChannelEnds:
        """Make a socket, pipes, files and the shared memory for one worker."""
        sock = socket.socketpair()
        for end in sock:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_SIZE)
        journal = os.memfd_create("capsule-journal")
        os.ftruncate(journal, JOURNAL_SIZE)
        standby = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        crash = os.memfd_create("capsule-crash")
        return cls(sock, _pipe(), _pipe(), crash, journal, os.pipe(), standby)

    @property
    def theirs(self) -> list[int]:
        """The worker's ends, in the order in which it is handed them (``capsule_worker.process.forkserver.HANDED``)."""
        return [
            self.sock[1].fileno(),
            *self.stdout,
            *self.stderr,
            self.crash,
            self.journal,
            self.writers[1],
            self.standby[1].fileno(),
        ]

    def launched(self, cookie: str, warden: Forkserver, process: Process | None = None) -> WorkerHandle:
        """Return the front's ends."""
        return WorkerHandle(
            self.sock[0],
            self.stdout[0],
            self.stderr[0],
            self.crash,
            self.journal,
            self.writers[0],
            self.standby[0],
            cookie,
            warden,
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


class Listener(Protocol):
    """Who listens to a warden."""

    def close(self) -> None:
        """Listen no more."""


class Forkserver:
    """The process whose children the workers are; see ``capsule_worker.process.forkserver``.

    Args:
        process: it.
        control: a socket to it.
        said: what it wrote, a file.
    """

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, said: int) -> None:
        self.process = process
        self.control = control
        self.said = said
        #: Layers of the isolation of which it has told.
        self.layers: list[Layer] = []
        #: A descriptor of it, when it has told: ``process`` may be a program that started it.
        self.fd: int | None = None
        #: Who listens to it.
        self.listener: Listener | None = None

    def kill(self) -> None:
        """End it, now. Where it is the first process of a namespace all others in there end with it."""
        if self.fd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.fd, signal.SIGKILL)

    def text(self) -> str:
        """Return what it wrote."""
        return os.pread(self.said, 1 << 16, 0).decode("utf-8", "replace")


class Launcher:
    """Starts workers that share an interpreter and a working directory.

    Args:
        python: the interpreter of the environment in which cells run.
        drain_timeout: seconds that a cell's output may take to leave the worker.
        sandbox: what stands between them and the kernel.
        session: the id that the kernel's session is to have, if its directory is made already.
        pass_environment: variables that cells get beside the usual ones, by names and patterns.
        limits: what a worker and all that it starts may take.
        variables: what workers find in their environment beside it.
    """

    def __init__(
        self,
        python: str = sys.executable,
        drain_timeout: float = 30.0,
        sandbox: Sandbox | None = None,
        session: str | None = None,
        pass_environment: Sequence[str] = (),
        limits: Limits | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.python = python
        self.drain_timeout = drain_timeout
        self.sandbox = sandbox or Sandbox("open")
        self.session = session
        self.pass_environment = pass_environment
        self.limits = limits or Limits()
        self.variables = variables or {}
        #: The start of the cookie of every worker of this front.
        self.front_cookie = os.urandom(16).hex()
        self._count = 0
        self._warden: Forkserver | None = None

    def launch(self) -> WorkerHandle:
        """Have a worker started, in a session of its own. Call it from the main thread.

        Raises:
            OSError: the interpreter cannot be started; ``SandboxRefused`` if the sandbox cannot be held.
        """
        warden = self._get_forkserver()
        cookie = self._next_process_tag()
        ends = ChannelEnds.make()
        limits = self.limits.enforced_by_system(apart=bool(self.sandbox.prefix))
        request = {"cookie": cookie, "drain_timeout": self.drain_timeout, "limits": limits}
        try:
            socket.send_fds(warden.control, [json.dumps(request).encode()], ends.theirs)
        except OSError:
            # It has just ended: who asks it how will know.
            pass
        finally:
            ends.close_theirs()
        return ends.launched(cookie, warden)

    def promote(self, sock: socket.socket, process: Process) -> WorkerHandle:
        """Have a copy of a worker take over.

        Args:
            sock: connected to the copy, which waits.
            process: it.

        Raises:
            OSError: it is gone.
        """
        cookie = self._next_process_tag()
        ends = ChannelEnds.make()
        try:
            socket.send_fds(sock, [cookie.encode()], ends.theirs)
        except OSError:
            ends.close_ours()
            raise
        finally:
            ends.close_theirs()
        return ends.launched(cookie, self._get_forkserver(), process)

    @property
    def isolation(self) -> str:
        """What holds of the isolation that is asked for, and what does not, in a line."""
        return self.sandbox.summary(self._warden.layers if self._warden is not None else ())

    @property
    def layers(self) -> list[Layer]:
        """The layers of the sandbox, including those that the forkserver has reported."""
        return [*self.sandbox.layers, *(self._warden.layers if self._warden is not None else ())]

    @property
    def hidden_environment(self) -> list[str]:
        """The names of the environment variables that cells do not get."""
        return self._passed().get(HIDDEN_ENVIRONMENT, "").split()

    def close(self) -> Forkserver | None:
        """Let the warden end, and everything with it; return it, if there is one."""
        warden, self._warden = self._warden, None
        if warden is not None:
            if warden.listener is not None:
                warden.listener.close()
            warden.control.close()
            if warden.fd is not None:
                os.close(warden.fd)
                warden.fd = None
        return warden

    def end_all(self) -> bool:
        """End everything in the sandbox at once; return whether there is one in which that can be done."""
        if self._warden is None or not self.sandbox.prefix:
            return False
        self._warden.kill()
        return True

    def _get_forkserver(self) -> Forkserver:
        """Return the warden; start it, by exec, if there is none."""
        if self._warden is not None and self._warden.process.poll() is None:
            return self._warden
        self.close()
        self.sandbox.check()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        said = os.memfd_create("capsule-warden")
        fd = theirs.fileno()
        cookie = f"{self.front_cookie}."
        command = [*self.sandbox.prefix, self.python, "-m", "capsule_worker", f"--warden={fd}", f"--cookie={cookie}"]
        if self.sandbox.confinement is not None:
            command.append(f"--confine={self.sandbox.confinement}")
        try:
            process = subprocess.Popen(  # noqa: S603  # the interpreter that the user chose
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                pass_fds=[fd],
                start_new_session=True,
                env=self.environment(),
            )
        except OSError:
            ours.close()
            os.close(said)
            raise
        finally:
            theirs.close()
        self._warden = Forkserver(process, ours, said)
        return self._warden

    def environment(self) -> dict[str, str]:
        """Return the environment of workers."""
        return self._passed() | {**self.variables, PROCESS_TAG: self._next_process_tag()}

    def _passed(self) -> dict[str, str]:
        """Return what workers get of our environment, and the names of what they do not."""
        if self.sandbox.profile == "open":
            return {name: value for name, value in os.environ.items() if name not in variables.SECRETS}
        passed, withheld = variables.split(os.environ, self.pass_environment)
        return passed | {HIDDEN_ENVIRONMENT: " ".join(withheld), PROFILE: self.sandbox.profile}

    def _next_process_tag(self) -> str:
        # All are of one length: workers, and their copies, write their own over their original's.
        self._count += 1
        return f"{self.front_cookie}.{self._count:08d}."


def _descends(pid: int, ancestor: int) -> bool:
    """Whether a process descends from another one, or is it; also if it has ended meanwhile."""
    with contextlib.suppress(OSError):
        while pid > 1 and pid != ancestor:
            with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123  # no need to import more
                pid = int(stat.read().rpartition(")")[2].split()[1])
        return pid == ancestor
    return True


def _pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    # Not Linux, or over the user's limit: the default size serves.
    with contextlib.suppress(OSError):
        fcntl.fcntl(writing, _F_SETPIPE_SZ, PIPE_SIZE)
    return reading, writing
