"""A copy of this process that waits, and takes its place when it dies or when a cell is undone.

The copy is made by fork between two cells, when nobody waits for anything. It shares all memory with this process until
one of the two writes to it. It is not made where it would not be *sound*: where it would lack something that the
original has (threads, child processes), or where both would use one and the same thing (a connection, a GPU).
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

#: What the front hands to the copy that takes over, in this order.
HANDED = ("channel", "stdout", "stdout_writing", "stderr", "stderr_writing", "crash", "journal", "writers", "standby")
#: Bytes of memory that must be free, and the part of this process's memory, for a copy to be made: it needs none at
#: first, but every page that one of the two writes to is one page more.
_FREE, _FREE_PART = 256 << 20, 0.5
#: How often, and after how many seconds, to look whether threads have ended.
_LOOKS, _LOOK = 8, 0.0005
#: Threads by their names that are no loss.
_RENEWED = frozenset({"jemalloc_bg_thd"})
_GPUS = ("/dev/nvidia", "/dev/kfd", "/dev/dri")


class CannotFork(Exception):
    """A copy would not be as good as the original; the text says why."""


@dataclass
class TakeoverFds:
    """What a copy needs to take over.

    Args:
        fds: descriptors by the names in ``HANDED``.
    """

    fds: dict[str, int]


@dataclass
class _Snapshot:
    """What a fork does not carry over."""

    random: Any
    positions: list[tuple[int, int]]


def fork_standby(
    front: socket.socket,
    note: dict[str, Any],
    own: Collection[int],
    quiet: AbstractContextManager[Any],
    let_go: Callable[[], None],
) -> TakeoverFds | None:
    """Leave a copy of this process behind.

    Args:
        front: where the front learns of it.
        note: what the front is told.
        own: descriptors that are not the notebook's.
        quiet: entered while the process is copied: no thread of ours is in the middle of anything then.
        let_go: closes, in the copy, what the original has to itself.

    Returns:
        None; in the copy what it needs, when it takes over.

    Raises:
        Unsound: no copy was made.
        OSError: no process can be started.
    """
    if children.others():
        raise CannotFork("child processes run")
    threads = _threads()
    if threads > threading.active_count() and threads >= _Pools.least:
        raise CannotFork(_Pools.reason)
    kept = _look_at_files(own)
    _look_at_memory()
    snapshot = _Snapshot(random.getstate(), kept)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, quiet:
        child = orphan_cleanup.fork_writer()
        if not child:
            return _become_copy(ours, theirs, let_go, snapshot)
        children.expect(child)
        # OpenBLAS ends its threads at a fork and starts them when they are needed again; others do not.
        if _threads_stay():
            ours.close()  # the copy ends
            _Pools.least = threads
            raise CannotFork(_Pools.reason)
        socket.send_fds(front, [msgpack.packb(note)], [ours.fileno()])
    return None


class _Pools:
    """Threads of libraries that did not end at a fork: with that many there is no need to try again."""

    reason = "a library has threads of its own"
    least = 1 << 30


def _threads() -> int:
    """Return how many threads there are, but for those that their libraries start again after a fork."""
    count = 0
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has just ended
            count += (task / "comm").read_text().strip() not in _RENEWED
    return count


def _threads_stay() -> bool:
    """Whether there are threads that Python does not know; those that are about to end are waited for."""
    for _ in range(_LOOKS):
        if _threads() <= threading.active_count():
            return False
        time.sleep(_LOOK)
    return True


def _become_copy(
    ours: socket.socket, theirs: socket.socket, let_go: Callable[[], None], snapshot: _Snapshot
) -> TakeoverFds:
    try:
        # Nobody's child, so that code which waits for any child of its own does not meet it.
        if os.fork():
            os._exit(0)
        os.setsid()
        ours.close()
        # When memory runs out this is the first to go.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
        let_go()
        process = os.pidfd_open(os.getpid())
        socket.send_fds(theirs, [str(os.getpid()).encode()], [process])
        os.close(process)
        data, fds, *_ = socket.recv_fds(theirs, 4096, len(HANDED))
        if not data or len(fds) != len(HANDED):
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
    return TakeoverFds(dict(zip(HANDED, fds, strict=True)))


def _end() -> NoReturn:
    os._exit(1)


def _look_at_files(own: Collection[int]) -> list[tuple[int, int]]:
    """Return the positions of the files that are being read.

    Raises:
        Unsound: something is open that two processes cannot use.
    """
    positions = []
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208  # numbers, not paths
        fd = int(entry)
        if fd in own:
            continue
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            continue  # the listing itself
        if stat.S_ISSOCK(mode):
            raise CannotFork("a connection is open")
        if stat.S_ISCHR(mode) and str(Path(f"/proc/self/fd/{fd}").readlink()).startswith(_GPUS):
            raise CannotFork("a GPU is in use")
        if stat.S_ISREG(mode) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            positions.append((fd, os.lseek(fd, 0, os.SEEK_CUR)))
    return positions


def _look_at_memory() -> None:
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
            if free < max(_FREE, resident * _FREE_PART):
                raise CannotFork(f"only {free / 1e9:.1f} GB of memory are free")
            return


def renew_loop(loop: Any) -> None:
    """Let a loop go on in a copy of the process that it was made in.

    Copies share what the kernel watches for them (epoll), and the pipe by which a loop wakes itself. asyncio has no
    public way to part them.

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
    """Return the descriptors that a loop has for itself."""
    private: Any = loop
    return {private._ssock.fileno(), private._csock.fileno(), private._selector.fileno()}
