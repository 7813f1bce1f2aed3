"""Checkpoints that are being written: by threads of this process, or by a copy of it."""

# ruff: noqa: D102  # what a method does is said where it is abstract
from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from capsule_worker.checkpoints.analysis.name_usage import NameUsage
from capsule_worker.checkpoints.storage.pack_format import StorageError
from capsule_worker.checkpoints.writing import forked_writer
from capsule_worker.checkpoints.writing.job import (
    CheckpointJob,
    Outcome,
    SavedGroup,
    describe,
    dump_outcome,
    load_outcome,
)
from capsule_worker.checkpoints.writing.publish import finish_staged, lease_packs
from capsule_worker.checkpoints.writing.writer import Writer
from capsule_worker.checkpoints.writing.writer_threads import WriterThreads
from capsule_worker.protocol import manifest as mf


@dataclass(frozen=True)
class LastCheckpoint:
    """What is known of the latest checkpoint."""

    head: str | None
    groups: list[SavedGroup]
    shell: SavedGroup | None
    #: Variables that could not be saved, with the addresses of their values.
    unsaved: dict[str, tuple[int, mf.Variable]]


class PendingWrite(ABC):
    """A checkpoint that is being written.

    Args:
        job: what is to be written.
        usages: what the code of the cells since the checkpoint before uses.
    """

    def __init__(self, job: CheckpointJob, usages: list[NameUsage]) -> None:
        self.job = job
        self.usages = usages
        self.started = time.time()
        #: The checkpoint, if it does not fail.
        self.outcome: Outcome | None = None
        #: What was known before it, where more was built on it before it was done.
        self.before: LastCheckpoint | None = None
        #: Whether one that it builds on has failed.
        self.doomed = False

    @property
    def written(self) -> int:
        """Bytes so far, as far as they are known."""
        return 0

    @abstractmethod
    def watch(self, loop: asyncio.AbstractEventLoop, tell: Callable[[PendingWrite], None]) -> None:
        """Have a function called on an event loop when the checkpoint is on disk or has failed.

        Args:
            loop: the event loop.
            tell: called with this write.
        """

    @abstractmethod
    def unwatch(self) -> None:
        """Call no function when it is done or has failed."""

    @abstractmethod
    def wait(self, seconds: float | None) -> bool:
        """Wait until the checkpoint is on disk or has failed; return whether that is so.

        Args:
            seconds: how long to wait at most; None for no limit.
        """

    @abstractmethod
    def collect(self) -> Outcome:
        """Return the checkpoint, when it is done.

        Raises:
            Exception: it failed.
        """

    def close(self) -> None:
        """Release what it holds."""
        self.unwatch()


class InProcessWrite(PendingWrite):
    """One that is pickled at once, and written by threads.

    Args:
        job: see `PendingWrite`; so is ``usages``.
        previous: the one that it builds on, if that may still fail.
    """

    def __init__(self, job: CheckpointJob, usages: list[NameUsage], previous: InProcessWrite | None) -> None:
        super().__init__(job, usages)
        self._writer = Writer(job, everywhere=False)
        self._previous = previous
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tell: Callable[[PendingWrite], None] | None = None
        #: Set when the end of this process does not matter to it any more.
        self.staged = threading.Event()
        self._done = threading.Event()
        self._error: Exception | None = None

    def begin(self, scribe: WriterThreads) -> None:
        """Take the state; have it written."""
        try:
            self._writer.prepare(rewrite=False)
        except Exception as error:
            self._writer.discard()
            self._error = error
            self.staged.set()
            self._end()
        else:
            scribe.write(self._stage, self._commit)

    def _stage(self) -> None:
        """Hand it to the system. Runs in a thread."""
        try:
            self.outcome = self._writer.stage()
        except Exception as error:
            self._error = error
        self.staged.set()

    def _commit(self) -> None:
        """Bring it to the disk, unless the one that it builds on failed. Runs in a thread, in turn."""
        previous, self._previous = self._previous, None
        try:
            if previous is not None and previous._error is not None:  # noqa: SLF001  # its own kind
                self._error = previous._error  # noqa: SLF001
            if self._error is None:
                self._writer.commit()
        except Exception as error:
            self._error = error
        if self._error is not None:
            self._writer.discard()
        self._end()

    def _end(self) -> None:
        self._done.set()
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._report)

    def _report(self) -> None:
        """Report the end, unless `unwatch` was called meanwhile. Runs on the loop."""
        if self._tell is not None:
            self._tell(self)

    def watch(self, loop: asyncio.AbstractEventLoop, tell: Callable[[PendingWrite], None]) -> None:
        self._loop, self._tell = loop, tell

    def wait(self, seconds: float | None) -> bool:
        return self._done.wait(seconds)

    def collect(self) -> Outcome:
        if self._error is not None:
            raise self._error
        assert self.outcome is not None
        return self.outcome

    def unwatch(self) -> None:
        self._loop = self._tell = None


class ForkedWrite(PendingWrite):
    """One that a copy of this process pickles and writes.

    Args:
        job: see `PendingWrite`; so is ``usages``.

    Raises:
        OSError: no process can be started.
    """

    def __init__(self, job: CheckpointJob, usages: list[NameUsage]) -> None:
        super().__init__(job, usages)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._progress = forked_writer.Progress()
        self._result = os.memfd_create("capsule-outcome")
        #: Becomes readable when no process has the other end open any more.
        self._done, writing = os.pipe()
        try:
            forked_writer.fork_guardian(self._guard)
        except OSError:
            self.close()
            raise
        finally:
            os.close(writing)

    def _guard(self) -> NoReturn:
        """Ensure that it is written. Runs in a copy of this process."""
        os.close(self._done)
        blamed: dict[str, str] = {}
        try:
            with lease_packs(self.job):
                if not forked_writer.watch(self._progress, lambda: self._write(blamed), blamed.__setitem__):
                    self._fail("the process that writes checkpoints failed")
                elif self._progress.staged:
                    # Whether its writer had done so before it ended is not known.
                    finish_staged(self.job)
        except StorageError as error:
            self._fail(str(error))
        os._exit(0)

    def _write(self, blamed: dict[str, str]) -> None:
        """Write it, and leave the outcome where the original finds it. Runs in a copy of the copy."""
        writer = Writer(self.job, self._progress.step, blamed)
        try:
            writer.prepare(rewrite=True)
            outcome = writer.stage()
            _store(self._result, b"\1" + dump_outcome(outcome, self.job))
            # From now on it is not repeated: others might have seen it.
            self._progress.stage()
            writer.commit()
            self._progress.finish()
        # Errors of the user's objects are handled where they are pickled: this one is the disk's, or internal.
        except Exception as error:
            self._fail(str(error) if isinstance(error, StorageError) else describe(error))
            self._progress.finish()
            writer.discard()

    def _fail(self, text: str) -> None:
        _store(self._result, b"\0" + text.encode("utf-8", "replace"))

    @property
    def written(self) -> int:
        return self._progress.look()[1]

    def watch(self, loop: asyncio.AbstractEventLoop, tell: Callable[[PendingWrite], None]) -> None:
        self._loop = loop
        loop.add_reader(self._done, tell, self)

    def wait(self, seconds: float | None) -> bool:
        poller = select.poll()
        poller.register(self._done, select.POLLIN)
        return bool(poller.poll(None if seconds is None else seconds * 1000))

    def collect(self) -> Outcome:
        data = os.pread(self._result, os.fstat(self._result).st_size, 0)
        if data[:1] != b"\1":
            raise StorageError(data[1:].decode("utf-8", "replace") or "the writer of checkpoints was killed")
        with _no_collection():
            return load_outcome(data[1:], self.job)

    def unwatch(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._done)

    def close(self) -> None:
        super().close()
        os.close(self._done)
        os.close(self._result)
        self._progress.close()


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python from looking through all objects of the notebook because a few thousand are made here."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _store(fd: int, data: bytes) -> None:
    os.ftruncate(fd, 0)
    at = 0
    while at < len(data):
        at += os.pwrite(fd, data[at:], at)
