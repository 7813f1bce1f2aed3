"""The process that has the workers of a kernel for its children, and ends what they leave behind.

It is started once, by exec, before anything of the notebook's runs. It imports what workers are made of, and no more:
they are forks of it, share that memory, and are ready at once. It waits for them and for the copies of themselves that
they leave (``PR_SET_CHILD_SUBREAPER``), tells the front how each has ended, and when the front is gone, however it
went, it ends everything and then itself.

The front asks for a worker by a datagram: its cookie, the seconds for draining and its limits as JSON, with the
descriptors in ``HANDED``. It is answered ``{"started": COOKIE, "pid": N}`` with a descriptor of the process (a pidfd),
or ``{"refused": COOKIE, "reason": TEXT}``; and told of each child's end, ``{"ended": N, "status": S, "peak": KIB}``, as
``os.wait4`` has it. Before all that it is told the warden's own process, ``{"warden": N}`` with a descriptor, and what
the warden has given up: ``{"layer": NAME, "why": TEXT}``, where an empty text says that it has.
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

#: What comes with a request for a worker, in this order.
HANDED = ("fd", "stdout", "stdout_writing", "stderr", "stderr_writing", "crash", "journal", "writers", "standby")
_PR_SET_CHILD_SUBREAPER, _PR_SET_DUMPABLE = 36, 4
#: Seconds that workers may take to leave.
_LEAVING = 3.0
#: Bytes of the longest request.
_MOST = 1 << 16


@dataclass
class WorkerStart:
    """What a worker begins with.

    Args:
        fds: descriptors by the names in ``HANDED``, but for those that are 1 and 2 now.
        drain_timeout: seconds that a cell's output may take to leave.
        started: when it was started, by ``time.monotonic()``.
    """

    fds: dict[str, int]
    drain_timeout: float
    started: float


def watch(control: socket.socket, cookie: str, confine: str | None, prepare: Callable[[], None]) -> WorkerStart | None:
    """Start workers and wait for them, until the front is gone; then end everything.

    Args:
        control: a socket to the front, for datagrams (``SOCK_SEQPACKET``).
        cookie: the beginning of all workers' cookies.
        confine: what to give up, as ``Confinement.to_json`` has it; None for nothing.
        prepare: does what workers have in common, when all that is given up.

    Returns:
        In a worker, what it begins with; None in this process, at its end.
    """
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Cells are not to look into this process, which talks to the front.
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _tell_process(control, {"warden": os.getpid()}, os.getpid())
    resource_limits.leave_no_core()
    if confine is not None:
        _confine(control, self_sandboxing.Confinement.from_json(confine))
    prepare()
    # The end of a child wakes up the poll below.
    waking, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poller = select.poll()
    poller.register(control, select.POLLIN)
    poller.register(waking, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poller.poll()}
        if waking in ready:
            os.read(waking, 4096)
            _wait(control)
        if control.fileno() in ready:
            try:
                request, fds, *_ = socket.recv_fds(control, _MOST, len(HANDED))
            except OSError:
                request, fds = b"", []
            if not request:
                _let_leave()
                orphan_cleanup.end_everything(cookie, spare=os.getpid())
                return None
            started, asked = time.monotonic(), json.loads(request)
            if _start(control, asked["cookie"]):
                for fd in (waking, woken):
                    os.close(fd)
                control.close()
                resource_limits.impose(asked["limits"])
                handed = _settle_in(asked["cookie"], dict(zip(HANDED, fds)))  # noqa: B905  # 3.9 knows no strict
                return WorkerStart(handed, asked["drain_timeout"], started)
            for fd in fds:
                os.close(fd)


def _let_leave() -> None:
    """Wait for workers, which leave by themselves when the front is gone, with what they were saving on disk."""
    deadline = time.monotonic() + _LEAVING
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.005)


def _confine(control: socket.socket, what: self_sandboxing.Confinement) -> None:
    """Give things up, and tell which could be."""
    for layer, why in self_sandboxing.apply(what):
        if why and layer in what.required:
            raise SystemExit(f"the profile cannot be held here, since {layer} are missing: {why}")
        _tell(control, {"layer": layer, "why": why})


def _start(control: socket.socket, cookie: str) -> bool:
    """Fork a worker, and tell of it; return whether this is the worker."""
    try:
        child = os.fork()
    except OSError as error:
        _tell(control, {"refused": cookie, "reason": str(error)})
        return False
    if not child:
        return True
    _tell_process(control, {"started": cookie, "pid": child}, child)
    return False


def _settle_in(cookie: str, fds: dict[str, int]) -> dict[str, int]:
    """Become a worker, and return the descriptors that are left."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # An interrupt is for a cell, and each takes it as it begins (``InterruptGate``): before the first there is none.
    signal.signal(signal.SIGINT, _ignore)
    os.setsid()
    orphan_cleanup.set_process_tag(cookie)
    for name, standard in (("stdout_writing", 1), ("stderr_writing", 2)):
        fd = fds.pop(name)
        os.dup2(fd, standard)
        os.close(fd)
    return fds


def _ignore(*_: object) -> None:
    """Do nothing; programs that are started do not inherit it."""


def _wait(control: socket.socket) -> None:
    """Take notice of all children that have ended."""
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _tell(control, {"ended": pid, "status": status, "peak": usage.ru_maxrss})


def _tell_process(control: socket.socket, what: dict[str, object], pid: int) -> None:
    process = os.pidfd_open(pid)
    _tell(control, what, process)
    os.close(process)


def _tell(control: socket.socket, what: dict[str, object], *fds: int) -> None:
    # The front may be gone; that is met where it is read from.
    with contextlib.suppress(OSError):
        socket.send_fds(control, [json.dumps(what).encode()], list(fds))
