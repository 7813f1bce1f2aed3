"""Starts worker processes, and nothing else.

Standard library only, so that the first worker can be on its way while the front is still importing; and of that no
``dataclasses``, which take 20 ms (with ``inspect``, and a program to be compiled for each class).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from capsule_durable.config.limits import Limits
from capsule_durable.sandbox import env_filter as variables
from capsule_durable.sandbox.policy import Layer, Sandbox
from capsule_durable.workers.channels import ChannelEnds, Process, WorkerHandle

if TYPE_CHECKING:
    from capsule_durable.workers.forkserver_client import ForkserverEvents

#: The environment variable that marks all processes that a worker starts; see capsule_worker.process.orphan_cleanup.
PROCESS_TAG = "CAPSULE_PROCESS_TAG"
#: Environment variables for ``capsule_worker.isolation.error_hints``: the names of the variables that cells do not get,
#: and the profile.
HIDDEN_ENVIRONMENT, PROFILE = "CAPSULE_HIDDEN_ENVIRONMENT", "CAPSULE_ISOLATION"


class LaunchRefused(OSError):
    """No worker may be started, because the configuration is wrong. The message says what to correct."""


class Forkserver:
    """The parent process of the workers; see ``capsule_worker.process.forkserver``.

    Args:
        process: the process.
        control: a socket to it.
        output: a file with what it wrote.
    """

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, output: int) -> None:
        self.process = process
        self.control = control
        self.output = output
        #: The layers of the isolation that it has reported.
        self.layers: list[Layer] = []
        #: A descriptor of it, once it has reported that: ``process`` may be a program that started it.
        self.fd: int | None = None
        #: Reads what it reports.
        self.events: ForkserverEvents | None = None

    def kill(self) -> None:
        """Kill the process. If it is the first of a namespace, all other processes in there end with it."""
        if self.fd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.fd, signal.SIGKILL)

    def text(self) -> str:
        """Return the output of the process."""
        return os.pread(self.output, 1 << 16, 0).decode("utf-8", "replace")


class Launcher:
    """Starts workers that share an interpreter and a working directory.

    Args:
        python: the interpreter of the environment in which cells run.
        drain_timeout: seconds that a cell's output may take to leave the worker.
        sandbox: separates them from the kernel.
        session: the id that the kernel's session is to have, if its directory exists already.
        pass_environment: variables that cells get besides the default ones, as names and patterns.
        limits: what a worker and all processes that it starts may use.
        variables: environment variables that only workers get.
        refusal: why no worker may be started; empty if workers may.
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
        refusal: str = "",
    ) -> None:
        self.python = python
        self.drain_timeout = drain_timeout
        self.sandbox = sandbox or Sandbox("open")
        self.session = session
        self.pass_environment = pass_environment
        self.limits = limits or Limits()
        self.variables = variables or {}
        self._refusal = refusal
        #: The start of the process tag of every worker of this front.
        self.front_tag = os.urandom(16).hex()
        self._count = 0
        self._forkserver: Forkserver | None = None

    def launch(self) -> WorkerHandle:
        """Start a worker, in a session of its own. Call it from the main thread.

        Raises:
            LaunchRefused: the launcher was made to refuse.
            OSError: the interpreter cannot be started; ``SandboxRefused`` if the sandbox cannot be applied.
        """
        if self._refusal:
            raise LaunchRefused(self._refusal)
        forkserver = self._get_forkserver()
        process_tag = self._next_process_tag()
        ends = ChannelEnds.make()
        limits = self.limits.enforced_by_system(has_user_namespace=bool(self.sandbox.prefix))
        request = {"process_tag": process_tag, "drain_timeout": self.drain_timeout, "limits": limits}
        try:
            socket.send_fds(forkserver.control, [json.dumps(request).encode()], ends.worker_ends)
        except OSError:
            # It has just ended. The caller learns that when it waits for the process of the worker.
            pass
        finally:
            ends.close_worker_ends()
        return ends.handle(process_tag, forkserver)

    def promote(self, sock: socket.socket, process: Process) -> WorkerHandle:
        """Let a standby take over.

        Args:
            sock: connected to the standby.
            process: its process.

        Raises:
            OSError: it has ended.
        """
        process_tag = self._next_process_tag()
        ends = ChannelEnds.make()
        try:
            socket.send_fds(sock, [process_tag.encode()], ends.worker_ends)
        except OSError:
            ends.close_front_ends()
            raise
        finally:
            ends.close_worker_ends()
        return ends.handle(process_tag, self._get_forkserver(), process)

    @property
    def isolation(self) -> str:
        """Which layers of the requested isolation are active and which are not, in a line."""
        return self.sandbox.summary(self._forkserver.layers if self._forkserver is not None else ())

    @property
    def layers(self) -> list[Layer]:
        """The layers of the sandbox, including those that the forkserver has reported."""
        return [*self.sandbox.layers, *(self._forkserver.layers if self._forkserver is not None else ())]

    @property
    def hidden_environment(self) -> list[str]:
        """The names of the environment variables that cells do not get."""
        return self._passed().get(HIDDEN_ENVIRONMENT, "").split()

    def close(self) -> Forkserver | None:
        """Let the forkserver end, with all processes that it started; return it, if it was running."""
        forkserver, self._forkserver = self._forkserver, None
        if forkserver is not None:
            if forkserver.events is not None:
                forkserver.events.close()
            forkserver.control.close()
            if forkserver.fd is not None:
                os.close(forkserver.fd)
                forkserver.fd = None
        return forkserver

    def end_all(self) -> bool:
        """Kill all processes in the sandbox at once; return whether the sandbox allows that."""
        if self._forkserver is None or not self.sandbox.prefix:
            return False
        self._forkserver.kill()
        return True

    def _get_forkserver(self) -> Forkserver:
        """Return the forkserver; start it if it does not run."""
        if self._forkserver is not None and self._forkserver.process.poll() is None:
            return self._forkserver
        self.close()
        self.sandbox.check()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        output = os.memfd_create("capsule-forkserver")
        fd = theirs.fileno()
        process_tag = f"{self.front_tag}."
        command = [
            *self.sandbox.prefix,
            self.python,
            "-m",
            "capsule_worker",
            f"--control={fd}",
            f"--process-tag={process_tag}",
        ]
        if self.sandbox.confinement is not None:
            command.append(f"--confinement={self.sandbox.confinement}")
        try:
            process = subprocess.Popen(  # noqa: S603  # the interpreter that the user chose
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[fd],
                start_new_session=True,
                env=self.environment(),
            )
        except OSError:
            ours.close()
            os.close(output)
            raise
        finally:
            theirs.close()
        self._forkserver = Forkserver(process, ours, output)
        return self._forkserver

    def environment(self) -> dict[str, str]:
        """Return the environment of workers."""
        return self._passed() | {**self.variables, PROCESS_TAG: self._next_process_tag()}

    def _passed(self) -> dict[str, str]:
        """Return the part of our environment that workers get, and the names of the rest."""
        if self.sandbox.profile == "open":
            return {name: value for name, value in os.environ.items() if name not in variables.SECRETS}
        passed, hidden = variables.split(os.environ, self.pass_environment)
        return passed | {HIDDEN_ENVIRONMENT: " ".join(hidden), PROFILE: self.sandbox.profile}

    def _next_process_tag(self) -> str:
        # All have one length: a standby writes its own tag over that of the worker that it was forked from.
        self._count += 1
        return f"{self.front_tag}.{self._count:08d}."
