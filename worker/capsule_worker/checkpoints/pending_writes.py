"""The checkpoints that are being written, and what is done when one is on disk or has failed."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from capsule_worker.checkpoints.analysis.name_usage import NameUsage
from capsule_worker.checkpoints.analysis.small_values import are_small
from capsule_worker.checkpoints.change_tracker import ChangeTracker
from capsule_worker.checkpoints.schedule import Schedule
from capsule_worker.checkpoints.storage.pack_format import StorageError
from capsule_worker.checkpoints.writing.job import CheckpointJob, describe
from capsule_worker.checkpoints.writing.strategies import ForkedWrite, InProcessWrite, PendingWrite
from capsule_worker.checkpoints.writing.writer_threads import WriterThreads
from capsule_worker.protocol.messages import CheckpointFailedMessage, CheckpointSavedMessage, Message

#: Seconds that a cell waits, at most, until what was changed before it is out of this process.
_STAGE_SECONDS = 10.0
#: Checkpoints that may be staged and not on disk yet.
_MAX_COMMITS = 8
#: Seconds after which the progress of a write is reported.
_LONG_SECONDS = 2.0


class PendingWrites:
    """Starts checkpoints and collects their outcomes, in the main thread.

    At most one write is not staged. Those that are staged are taken for granted: the next one builds on them before
    they are on disk.

    Args:
        changes: told what was written; gets back what could not be.
        schedule: asked for another checkpoint where one is done and cells have changed more.
        loop: the loop on which cells run.
        send: sends a message to the front.
        warn: shows a line to the user.
    """

    def __init__(
        self,
        changes: ChangeTracker,
        schedule: Schedule,
        loop: asyncio.AbstractEventLoop,
        send: Callable[[Message], object],
        warn: Callable[[str], None],
    ) -> None:
        self._changes = changes
        self._schedule = schedule
        self._loop = loop
        self._send = send
        self._warn = warn
        self._threads = WriterThreads()
        self._write: PendingWrite | None = None
        #: Checkpoints that are staged and not on disk yet, oldest first; the latest state builds on them already.
        self._commits: deque[InProcessWrite] = deque()
        #: Why the latest checkpoint could not be written; None if it could.
        self.failure: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is being written."""
        return self._write is None and not self._commits

    @property
    def is_forked(self) -> bool:
        """Whether a copy of this process writes a checkpoint; the next one must wait for it."""
        return isinstance(self._write, ForkedWrite)

    def start(self, job: CheckpointJob) -> None:
        """Start to write a checkpoint: in threads if its values are small, otherwise in a copy of this process."""
        usages = self._changes.take_usages()
        try:
            self._start(job, usages)
        except BaseException:
            self._changes.give_back(usages)
            raise

    def _start(self, job: CheckpointJob, usages: list[NameUsage]) -> None:
        self._schedule.reset_risk()
        values = [job.namespace[name] for names in job.dirty for name in names]
        if not job.required and are_small(values, job.namespace):
            write = InProcessWrite(job, usages, self._commits[-1] if self._commits else None)
            self._watch(write)
            write.begin(self._threads)
        elif self._commits and not self._all_committed():
            self._changes.give_back(usages)
        else:
            began = time.perf_counter()
            try:
                forked = ForkedWrite(job, usages)
            except OSError as error:
                self._changes.give_back(usages)
                self.report(StorageError(f"no process can be started: {error.strerror}"), job.directory)
                return
            self._schedule.fork_seconds = time.perf_counter() - began
            self._watch(forked)

    def build_on_staged(self) -> bool:
        """Take for granted what a thread has staged; return whether another checkpoint can be started."""
        write = self._write
        if write is None:
            return True
        if not isinstance(write, InProcessWrite) or write.outcome is None or len(self._commits) >= _MAX_COMMITS:
            return False
        if write.doomed:  # it builds on one that has failed, and fails, too
            return False
        write.before = self._changes.last
        self._changes.accept(write)
        self._commits.append(write)
        self._write = None
        return True

    def wait(self, report: Callable[[str], None] | None = None, seconds: float | None = None) -> bool:
        """Wait until what is being written is on disk, or has failed; return whether it is so.

        Args:
            report: shows how much is written, when it takes long.
            seconds: how long to wait; None for as long as it takes.
        """
        until = None if seconds is None else time.monotonic() + seconds
        for write in self._all():
            while not write.wait(1.0 if until is None else max(0.0, min(1.0, until - time.monotonic()))):
                if until is not None and time.monotonic() >= until:
                    return False
                taken = time.time() - write.started
                if report is not None and taken > _LONG_SECONDS:
                    report(f"saving: {write.written / 1e6:,.0f} MB in {taken:.0f} s")
            self._finish(write)
        return True

    def wait_until_staged(self) -> None:
        """Wait until the end of this process does not end what its threads write."""
        if isinstance(self._write, InProcessWrite):
            self._write.staged.wait(_STAGE_SECONDS)

    def wait_for_threads(self, deadline: float) -> None:
        """Wait until the threads of this process have written what they are writing. May be called in any thread.

        Args:
            deadline: by ``time.monotonic()``.
        """
        for write in self._all():
            if isinstance(write, InProcessWrite):
                write.wait(max(0.0, deadline - time.monotonic()))

    def abandon(self) -> None:
        """Leave what is being written to the process that this one is a copy of."""
        self._threads = WriterThreads()
        writes = self._all()
        self._write = None
        self._commits.clear()
        for write in reversed(writes):
            # This process does not learn how it ends.
            write.close()
            self._changes.go_back_to(write.before or self._changes.last)
            self._changes.give_back(write.usages)

    def report(self, error: Exception, directory: Path) -> None:
        """Warn that a checkpoint could not be written, once until one is written again.

        Args:
            error: why.
            directory: the session's.
        """
        is_known, is_storage = self.failure is not None, isinstance(error, StorageError)
        self.failure = str(error) if is_storage else describe(error)
        if not is_known:
            where = f" ({directory})" if is_storage else ""
            advice = "Free space or set CAPSULE_HOME; saving" if is_storage else "Saving"
            self._send(CheckpointFailedMessage(reason=self.failure))
            self._warn(
                f"Saving failed: {self.failure}{where}. Your cells keep running, but changes since "
                f"In [{self._changes.cell.number}] would be lost in a crash. {advice} resumes by itself."
            )

    def _all(self) -> list[PendingWrite]:
        """Return everything that is being written, oldest first."""
        return [*self._commits, *([self._write] if self._write is not None else [])]

    def _all_committed(self) -> bool:
        """Wait for the threads; return whether none has failed: a copy of this process could not be told of it."""
        head = self._changes.last.head
        self.wait()
        return self._changes.last.head == head

    def _watch(self, write: PendingWrite) -> None:
        self._write = write
        write.watch(self._loop, self._written)

    def _written(self, write: PendingWrite) -> None:
        """Finish a checkpoint that is done; begin the next one if something has changed meanwhile."""
        if write is not self._write and write not in self._commits:
            return  # `wait` has finished it
        self._finish(write)
        # After a failure the next checkpoint waits for the next cell: a disk that is full stays so for a while.
        if not self._changes.is_up_to_date and self.failure is None:
            self._schedule.request()
            self._loop.stop()

    def _finish(self, write: PendingWrite) -> None:
        """Record how a write ended."""
        is_accepted = write in self._commits
        if isinstance(write, InProcessWrite) and is_accepted:
            self._commits.remove(write)
        else:
            self._write = None
        try:
            write.outcome = write.collect()
        except Exception as error:
            self._roll_back(write)
            self.report(error, write.job.directory)
        else:
            if not is_accepted:
                self._changes.accept(write)
            if isinstance(write, ForkedWrite):
                self._changes.reconsider(write)
            self._send(
                CheckpointSavedMessage(
                    checkpoint_id=write.job.head.id,
                    number=write.job.head.number,
                    bytes_written=write.outcome.written,
                    duration=write.outcome.duration,
                )
            )
            if self.failure is not None:
                self.failure = None
                self._warn("Saving works again.")
        write.close()

    def _roll_back(self, write: PendingWrite) -> None:
        """Go back behind a checkpoint that failed, and behind those that were built on it."""
        if write.before is not None and not write.doomed:
            self._changes.go_back_to(write.before)
            for later in self._all():
                later.doomed = True
        self._changes.give_back(write.usages)
