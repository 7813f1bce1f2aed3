"""Forks a standby: a process that waits, and takes the place of the worker when it dies or when a cell is undone.

The fork happens between two cells, while the worker is idle. Both processes share all memory until one of them writes
to it. There is no fork where the standby would lack something that the original has (threads, child processes), or
where both would use the same thing (a connection, a GPU).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import selectors
import socket
import stat
import threading
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import msgpack  # type: ignore[import-untyped]

from capsule_worker.process import children, orphan_cleanup

#: The descriptors that the front passes to the standby that takes over, in this order.
PASSED_FDS = (
    *("channel", "stdout", "stdout_writing", "stderr", "stderr_writing"),
    *("crash", "output_buffer", "writers", "standby"),
)
#: Memory that must be free for a fork: bytes, and a share of this process's memory. A fork needs none at first, but
#: one page for every page that one of the two processes writes to.
_MIN_FREE_BYTES, _MIN_FREE_SHARE = 256 << 20, 0.5
#: How often to look whether threads have ended, and seconds between two looks.
_LOOKS, _POLL_INTERVAL_SECONDS = 8, 0.0005
#: Threads, by name, that their libraries start again after a fork.
_RESTARTED_THREADS = frozenset({"jemalloc_bg_thd"})
#: The beginnings of the paths of GPUs.
_GPU_PATHS = ("/dev/nvidia", "/dev/kfd", "/dev/dri")


class CannotFork(Exception):
    """A standby would not be as good as this process; the text says why."""


@dataclass
class TakeoverFds:
    """What a standby takes over with.

    Args:
        fds: descriptors by the names in ``PASSED_FDS``.
    """

    fds: dict[str, int]


@dataclass
class _Snapshot:
    """What a fork does not keep apart, or does not keep.

    Args:
        random: the state of the random numbers; Python seeds them again in a fork.
        positions: descriptors of files that are being read, and the positions in them, which both processes share.
    """

    random: Any
    positions: list[tuple[int, int]]


def fork_standby(
    front: socket.socket,
    note: dict[str, Any],
    own: Collection[int],
    quiet: AbstractContextManager[Any],
    close_inherited: Callable[[], None],
) -> TakeoverFds | None:
    """Fork a standby, which waits until the front asks it to take over.

    Args:
        front: the socket by which the front learns of the standby.
        note: what the front is told: the state that the standby has.
        own: descriptors that belong to the worker and not to the notebook.
        quiet: entered during the fork, so that none of our threads is in the middle of anything.
        close_inherited: closes, in the standby, what only the original uses.

    Returns:
        None; in the standby what it needs, when it takes over.

    Raises:
        CannotFork: there is no standby.
        OSError: no process can be started.
    """
    if children.has_others():
        raise CannotFork("child processes run")
    threads = _threads()
    if threads > threading.active_count() and threads >= _Pools.min_threads:
        raise CannotFork(_Pools.reason)
    positions = _check_files(own)
    _check_memory()
    snapshot = _Snapshot(random.getstate(), positions)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, quiet:
        child = orphan_cleanup.fork_writer()
        if not child:
            return _become_standby(ours, theirs, close_inherited, snapshot)
        children.register(child)
        # OpenBLAS ends its threads at a fork and starts them again when needed; other libraries do not.
        if _threads_stay():
            ours.close()  # this ends the standby
            _Pools.min_threads = threads
            raise CannotFork(_Pools.reason)
        socket.send_fds(front, [msgpack.packb(note)], [ours.fileno()])
    return None


class _Pools:
    """The number of threads with which a fork failed, since a library did not end its own. It is not tried again."""

    reason = "a library has threads of its own"
    min_threads = 1 << 30


def _threads() -> int:
    """Return the number of threads, without those that their libraries start again after a fork."""
    count = 0
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has just ended
            count += (task / "comm").read_text().strip() not in _RESTARTED_THREADS
    return count


def _threads_stay() -> bool:
    """Return whether there are threads that Python did not start, after a wait for those that are about to end."""
    for _ in range(_LOOKS):
        if _threads() <= threading.active_count():
            return False
        time.sleep(_POLL_INTERVAL_SECONDS)
    return True


def _become_standby(
    ours: socket.socket, theirs: socket.socket, close_inherited: Callable[[], None], snapshot: _Snapshot
) -> TakeoverFds:
    """Wait in the fork until the front asks it to take over, or end."""
    try:
        # The standby must not be a child of the worker, whose code may wait for any child.
        if os.fork():
            os._exit(0)
        os.setsid()
        ours.close()
        # When memory runs out, the system ends the standby first.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
        close_inherited()
        process = os.pidfd_open(os.getpid())
        socket.send_fds(theirs, [str(os.getpid()).encode()], [process])
        os.close(process)
        data, fds, *_ = socket.recv_fds(theirs, 4096, len(PASSED_FDS))
        if not data or len(fds) != len(PASSED_FDS):
            os._exit(0)
        orphan_cleanup.set_process_tag(data.decode())
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("0")
        random.setstate(snapshot.random)
        for fd, position in snapshot.positions:
            with contextlib.suppress(OSError):
                os.lseek(fd, position, os.SEEK_SET)
    except BaseException:
        _end()
    return TakeoverFds(dict(zip(PASSED_FDS, fds, strict=True)))


def _end() -> NoReturn:
    os._exit(1)


def _check_files(own: Collection[int]) -> list[tuple[int, int]]:
    """Return the descriptors of files that are being read, and the positions in them.

    Raises:
        CannotFork: something is open that two processes cannot use.
    """
    positions = []
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208  # numbers, not paths
        fd = int(entry)
        if fd in own:
            continue
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            continue  # the directory that is being listed
        if stat.S_ISSOCK(mode):
            raise CannotFork("a connection is open")
        if stat.S_ISCHR(mode) and str(Path(f"/proc/self/fd/{fd}").readlink()).startswith(_GPU_PATHS):
            raise CannotFork("a GPU is in use")
        if stat.S_ISREG(mode) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            positions.append((fd, os.lseek(fd, 0, os.SEEK_CUR)))
    return positions


def _check_memory() -> None:
    """Raise CannotFork if too little memory is free."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
            if free < max(_MIN_FREE_BYTES, resident * _MIN_FREE_SHARE):
                raise CannotFork(f"only {free / 1e9:.1f} GB of memory is free")
            return


def renew_thread_id() -> None:
    """Correct the system's id of the main thread, which a fork inherits from its parent. Libraries compare it."""
    main: Any = threading.main_thread()
    main._set_native_id()


def renew_loop(loop: Any) -> None:
    """Let a loop continue in a fork of the process that made it.

    A fork shares the epoll object of a loop, and the sockets by which it wakes itself. asyncio has no public function
    that separates them.

    Args:
        loop: the standard library's ``SelectorEventLoop``; it is not running.
    """
    before = loop._selector
    own = (loop._ssock.fileno(), loop._csock.fileno())
    watched = [key for key in before.get_map().values() if key.fd not in own]
    loop._ssock.close()
    loop._csock.close()
    before.close()
    loop._internal_fds -= 1
    loop._selector = selectors.DefaultSelector()
    loop._make_self_pipe()
    for key in watched:
        loop._selector.register(key.fileobj, key.events, key.data)


def sockets_of(loop: asyncio.AbstractEventLoop) -> set[int]:
    """Return the descriptors that a loop uses itself.

    Args:
        loop: the standard library's ``SelectorEventLoop``.
    """
    private: Any = loop
    return {private._ssock.fileno(), private._csock.fileno(), private._selector.fileno()}
