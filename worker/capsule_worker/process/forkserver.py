"""The forkserver: the parent of all workers of a kernel, which also ends the processes that they leave behind.

It is started once, by exec, before any code of the notebook runs. It imports the modules of workers, and no more;
workers are forks of it, share that memory, and are ready at once. It waits for them and for the standbys that they
fork (``PR_SET_CHILD_SUBREAPER``), and reports to the front how each has ended. When the front is gone, for whatever
reason, it ends all of them and then itself.

The front requests a worker by a datagram, a JSON object with the worker's ``process_tag``, its ``drain_timeout`` in
seconds and its ``limits``, together with the descriptors in ``PASSED_FDS``. The answer is ``{"started": TAG, "pid":
N}`` with a descriptor of the process (a pidfd), or ``{"refused": TAG, "reason": TEXT}``. The end of a child is
reported as ``{"ended": N, "status": S, "peak": KIB}``, the values of ``os.wait4``. Before all that the forkserver
reports its own process, ``{"forkserver": N}`` with a descriptor, and each layer of the sandbox, ``{"layer": NAME,
"why": TEXT}``, where TEXT is empty for a layer that is active.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from capsule_worker.isolation import resource_limits, self_sandboxing
from capsule_worker.process import orphan_cleanup

#: The descriptors that come with a request for a worker, in this order.
PASSED_FDS = (
    *("fd", "stdout", "stdout_writing", "stderr", "stderr_writing"),
    *("crash", "output_buffer", "writers", "standby"),
)
_PR_SET_CHILD_SUBREAPER, _PR_SET_DUMPABLE = 36, 4
#: Seconds that workers may take to leave; and seconds between two looks at them.
_LEAVE_TIMEOUT_SECONDS, _POLL_INTERVAL_SECONDS = 3.0, 0.005
_MAX_REQUEST_BYTES = 1 << 16


@dataclass
class WorkerStart:
    """What a worker starts with.

    Args:
        fds: descriptors by the names in ``PASSED_FDS``, without those that are 1 and 2 now.
        drain_timeout: seconds that the output of a cell may take to leave.
        started: ``time.monotonic()`` at which the worker was started.
    """

    fds: dict[str, int]
    drain_timeout: float
    started: float


def serve(
    control: socket.socket, process_tag: str, confinement: str | None, prepare: Callable[[], None]
) -> WorkerStart | None:
    """Start workers and wait for them until the front is gone; then end everything.

    Args:
        control: a socket to the front, for datagrams (``SOCK_SEQPACKET``).
        process_tag: the beginning of the tags of all workers.
        confinement: what to give up, a ``self_sandboxing.Confinement`` in JSON; None for nothing.
        prepare: imports the modules of workers, once all that is given up.

    Returns:
        In a worker, what it starts with; in the forkserver None, at its end.
    """
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Cells must not read the memory of this process, which talks to the front.
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _send_with_pidfd(control, {"forkserver": os.getpid()}, os.getpid())
    resource_limits.disable_core_dumps()
    if confinement is not None:
        _apply(control, self_sandboxing.Confinement.from_json(confinement))
    prepare()
    # The end of a child wakes the poll below.
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poller = select.poll()
    poller.register(control, select.POLLIN)
    poller.register(reading, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poller.poll()}
        if reading in ready:
            os.read(reading, 4096)
            _report_ended(control)
        if control.fileno() in ready:
            try:
                data, fds, *_ = socket.recv_fds(control, _MAX_REQUEST_BYTES, len(PASSED_FDS))
            except OSError:
                data, fds = b"", []
            if not data:
                _wait_for_workers()
                orphan_cleanup.end_everything(process_tag, spare=os.getpid())
                return None
            started, request = time.monotonic(), json.loads(data)
            if _fork_worker(control, request["process_tag"]):
                for fd in (reading, writing):
                    os.close(fd)
                control.close()
                resource_limits.impose(request["limits"])
                named = dict(zip(PASSED_FDS, fds, strict=True))
                return WorkerStart(_become_worker(request["process_tag"], named), request["drain_timeout"], started)
            for fd in fds:
                os.close(fd)


def _wait_for_workers() -> None:
    """Wait for workers, which leave by themselves when the front is gone, once their checkpoints are on disk."""
    deadline = time.monotonic() + _LEAVE_TIMEOUT_SECONDS
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(_POLL_INTERVAL_SECONDS)


def _apply(control: socket.socket, confinement: self_sandboxing.Confinement) -> None:
    """Apply the sandbox's layers to this process, and report each."""
    for layer, why in self_sandboxing.apply(confinement):
        if why and layer in confinement.required:
            raise SystemExit(f"the profile restricted does not work here, because {layer} are missing: {why}")
        _send(control, {"layer": layer, "why": why})


def _fork_worker(control: socket.socket, process_tag: str) -> bool:
    """Fork a worker, and report it; return whether this process is the worker."""
    try:
        child = os.fork()
    except OSError as error:
        _send(control, {"refused": process_tag, "reason": str(error)})
        return False
    if not child:
        return True
    _send_with_pidfd(control, {"started": process_tag, "pid": child}, child)
    return False


def _become_worker(process_tag: str, fds: dict[str, int]) -> dict[str, int]:
    """Turn this fork into a worker, and return the descriptors that are left."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Interrupts are for cells, which set a handler when they start (``InterruptGate``).
    signal.signal(signal.SIGINT, _ignore)
    os.setsid()
    orphan_cleanup.set_process_tag(process_tag)
    for name, standard in (("stdout_writing", 1), ("stderr_writing", 2)):
        fd = fds.pop(name)
        os.dup2(fd, standard)
        os.close(fd)
    return fds


def _ignore(*_: object) -> None:
    """Ignore a signal. Unlike SIG_IGN, child programs do not inherit this."""


def _report_ended(control: socket.socket) -> None:
    """Report all children that have ended."""
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _send(control, {"ended": pid, "status": status, "peak": usage.ru_maxrss})


def _send_with_pidfd(control: socket.socket, report: dict[str, object], pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    _send(control, report, pidfd)
    os.close(pidfd)


def _send(control: socket.socket, report: dict[str, object], *fds: int) -> None:
    # The front may be gone; the next read shows that.
    with contextlib.suppress(OSError):
        socket.send_fds(control, [json.dumps(report).encode()], list(fds))
