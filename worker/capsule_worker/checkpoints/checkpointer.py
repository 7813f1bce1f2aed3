"""The worker's side of checkpoints: records what cells change, saves it between cells, restores it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import time
import traceback
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capsule_worker.checkpoints.analysis.background_activity import background_activity
from capsule_worker.checkpoints.analysis.name_usage import name_usage
from capsule_worker.checkpoints.analysis.read_only_cells import is_read_only
from capsule_worker.checkpoints.change_tracker import ChangeTracker
from capsule_worker.checkpoints.lazy_restore import LazyRestore
from capsule_worker.checkpoints.pending_writes import PendingWrites
from capsule_worker.checkpoints.restorer import Restorer
from capsule_worker.checkpoints.schedule import Schedule
from capsule_worker.checkpoints.shell_state import ShellState
from capsule_worker.checkpoints.storage.pack_format import DamagedError, StorageError
from capsule_worker.checkpoints.writing.job import CheckpointJob
from capsule_worker.checkpoints.writing.writer import Writer
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol.messages import ConfigureCheckpointsMessage, Message

if TYPE_CHECKING:
    from capsule_worker.protocol.messages import WorkerCheckpointStatus

#: Characters of a cell's first line that a checkpoint keeps.
_MAX_LINE = 200


class Checkpointer:
    """Saves the namespace between cells. Everything here happens in the main thread.

    Args:
        shell: IPython's shell.
        loop: the loop on which cells run.
        send: sends a message to the front.
        warn: shows a line to the user.
    """

    def __init__(
        self,
        shell: Any,
        loop: asyncio.AbstractEventLoop,
        send: Callable[[Message], object],
        warn: Callable[[str], None],
    ) -> None:
        self._namespace: dict[str, Any] = shell.user_ns
        self._loop = loop
        self._state = ShellState(shell)
        self.schedule = Schedule()
        self.changes = ChangeTracker(shell, loop)
        self.writes = PendingWrites(self.changes, self.schedule, loop, send, warn)
        self.loading = LazyRestore(self._namespace, self.changes, self._state, loop, warn)
        #: None while no checkpoints are saved.
        self._configuration: ConfigureCheckpointsMessage | None = None
        #: Whether checkpoints are saved, and whether a cell ends only when its checkpoint is on disk.
        self.is_enabled = self.is_synchronous = False
        #: Why no copy of this process is ready to take over; None if one is.
        self.standby: str | None = "none yet"
        #: The number of the next checkpoint.
        self._number = 1
        #: Whether no cell has run in this process.
        self._is_new = True
        self._code = ""
        self._execution_id = ""
        #: Whether the cell that runs can change nothing that is saved.
        self._is_read_only = False
        #: Requests a checkpoint that was deferred.
        self._timer: asyncio.TimerHandle | None = None

    # -- configuration ---------------------------------------------------------------------------------------

    def configure(self, message: ConfigureCheckpointsMessage) -> None:
        """Save checkpoints from now on, as ``message`` says."""
        if self._configuration is None:
            self.changes.mark_everything()
            _lock_directory(Path(message.directory))
        self._configuration = message
        self.is_enabled, self.is_synchronous = True, message.mode == "sync"
        self._number = message.number

    @property
    def is_settled(self) -> bool:
        """Whether a copy of this process would have nothing to do: nothing is being written or loaded."""
        is_busy = self.schedule.is_requested or self.schedule.is_deferred or self.loading.is_active
        return self.is_enabled and self.writes.is_empty and not is_busy

    @property
    def should_fork_standby(self) -> bool:
        """Whether more work is at risk than a copy of this process costs.

        That is so if a copy writes a checkpoint, for which the next one must wait, while cells continue to run.
        """
        is_waiting = self.writes.is_forked and not self.changes.is_up_to_date
        return is_waiting and self.schedule.is_standby_worthwhile()

    def renew(self) -> None:
        """Continue in a copy of the process."""
        self.writes.abandon()

    # -- cells -----------------------------------------------------------------------------------------------

    def before_cell(self, source: str, code: str, number: int, execution_id: str) -> None:
        """Record a cell that is about to run, and load what it may need.

        Args:
            source: its Python, as IPython has transformed it.
            code: as it was written.
            number: as in ``In [number]``.
            execution_id: the execution's.
        """
        self.schedule.in_cell = True
        if not (self.is_enabled or self.loading.is_active):
            return
        self._is_read_only = is_read_only(source, name_usage(source), self._namespace)
        if not self._is_read_only:
            # The cell may end this process: what came before it must not be lost with it.
            self.writes.wait_until_staged()
            if self.schedule.is_deferred:
                self.begin()
                self.writes.wait_until_staged()
        lines = [line for line in code.splitlines() if line.strip()]
        self.changes.cell = mf.SavedCell(number=number, line=lines[0][:_MAX_LINE] if lines else "")
        self._code, self._execution_id = code, execution_id
        self._is_new = False
        self.before_code(source)

    def before_code(self, source: str) -> None:
        """Record code that is about to run, and load what it may need.

        Args:
            source: Python.
        """
        if not (self.is_enabled or self.loading.is_active):
            return
        usage = name_usage(source)
        self.changes.use(usage)
        self._is_read_only = self._is_read_only and is_read_only(source, usage, self._namespace)
        self.loading.load_for(usage)

    def after_cell(self, seconds: float) -> None:
        """Record that the cell has ended: a checkpoint is due, or deferred.

        Args:
            seconds: how long the cell took.
        """
        if not self.is_enabled:
            self.schedule.in_cell = False
            return
        is_unchanged = not self.changes.note_bindings()
        can_defer = self._is_read_only and is_unchanged and self._can_defer()
        # A cell that only asks about checkpoints is nothing to go back behind.
        should_save = self.changes.has_new_bindings or not self._code.lstrip().startswith("%capsule")
        when = self.schedule.end_cell(self._loop.time(), seconds, can_defer=can_defer, should_save=should_save)
        if when is not None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(when, self._request_deferred)

    def _can_defer(self) -> bool:
        """Whether no code but the cell can have changed anything, and no caller waits for the checkpoint."""
        return not (self.schedule.is_requested or self.is_synchronous) and self.changes.is_only_use

    def _request_deferred(self) -> None:
        self._timer = None
        self.schedule.request_deferred()
        if self.schedule.is_due:
            self._loop.stop()

    def before_comm(self) -> None:
        """Load what is not loaded yet: an object that handles a message of the client's may need anything."""
        if not self.schedule.in_cell:
            self.loading.load_all()

    def after_comm(self) -> None:
        """Record that other code than a cell has run, for a message of the client's or in a subshell."""
        if not self.is_enabled:
            return
        self.changes.mark_everything()
        if not self.schedule.in_cell:
            self.changes.note_bindings()
            self.schedule.request()

    # -- saving ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a checkpoint of what has changed; if one must be written first, it begins after that."""
        if self._configuration is None or not self.writes.build_on_staged():
            return
        self.schedule.begin()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            # Nothing changes what is not loaded; but a name is saved with its value only.
            self.loading.record_loaded()
            self.writes.start(self._job())
        # An internal error must cost checkpoints, and not the variables.
        except Exception as error:
            traceback.print_exc(file=sys.__stderr__)
            self.changes.mark_everything()
            self.writes.report(error, Path(self._configuration.directory))
        finally:
            self.schedule.end()

    def prewarm(self, source: str) -> None:
        """Do all that follows a cell which changes nothing, except writing.

        Args:
            source: Python that changes nothing.
        """
        if not self.changes.is_up_to_date:
            return
        number = self._number
        try:
            with self.changes.trial(name_usage(source)):
                Writer(self._job(), everywhere=False).prepare(rewrite=False)
        finally:
            self._number = number

    def save_now(self, name: str | None, description: str, tags: list[str], tell: Callable[[str], None]) -> mf.Manifest:
        """Make a checkpoint and return its manifest when it is on disk.

        Args:
            name: a name that the user gave it.
            description: text.
            tags: words.
            tell: shows how much is written, when it takes long.

        Raises:
            StorageError: no checkpoints are saved, or it cannot be written; the text is the reason alone.
        """
        if not self.is_enabled:
            raise StorageError("no checkpoints are saved")
        if self.schedule.is_deferred:
            self.begin()
        self.writes.wait(tell)
        self.changes.note_bindings()
        job = self._job(name, description, tags)
        self.writes.start(job)
        self.writes.wait(tell)
        if self.changes.last.head != job.head.id:
            # Only the reason: the caller says what could not be saved.
            raise StorageError(self.writes.failure or "it was not written")
        return job.head.model_copy(
            update={
                "variables": list(self.changes.variables().values()),
                "groups": [kept.group for kept in self.changes.last.groups],
            }
        )

    def catch_up(self) -> None:
        """Save what earlier cells have changed."""
        self.writes.wait()
        if self.changes.has_earlier_changes:
            self.writes.start(self._job())
            self.writes.wait()

    def close(self, seconds: float) -> None:
        """Save what is not saved yet. What is not done in time continues without this process.

        Args:
            seconds: how long to wait.
        """
        until = time.monotonic() + seconds
        if not self.is_enabled or not self.writes.wait(seconds=seconds):
            return
        if not self.changes.is_up_to_date:
            self.changes.note_bindings()
            self.begin()
            self.writes.wait(seconds=until - time.monotonic())

    def _job(self, name: str | None = None, description: str = "", tags: Collection[str] = ()) -> CheckpointJob:
        configuration = self._configuration
        assert configuration is not None
        now = time.time()
        head = mf.Manifest.model_construct(
            id=f"{int(now * 1000):011x}{os.urandom(4).hex()}",
            session=configuration.session,
            parent=self.changes.last.head,
            number=self._number,
            time=now,
            execution_count=self.changes.cell.number,
            execution_id=self._execution_id,
            code=self._code,
            variables=[],
            groups=[],
            name=name,
            description=description,
            tags=list(tags),
        )
        self._number += 1
        return self.changes.job(Path(configuration.directory), head, self._state.save(), self.loading.waiting())

    def status(self) -> WorkerCheckpointStatus:
        """Return what is known here of the checkpoints, cut to what a request may carry."""
        from capsule_worker.protocol.messages.requests import MAX_LIST, MAX_TEXT, WorkerCheckpointStatus

        unsaved = [(name, variable.reason or "") for name, (_, variable) in self.changes.last.unsaved.items()]
        problem = self.writes.failure
        return WorkerCheckpointStatus(
            not_saved={name[:MAX_TEXT]: reason[:MAX_TEXT] for name, reason in unsaved[:MAX_LIST]},
            problem=problem[:MAX_TEXT] if problem is not None else None,
            no_standby=self.standby[:MAX_TEXT] if self.standby is not None else None,
        )

    # -- restoring -------------------------------------------------------------------------------------------

    def restore(
        self, manifest: mf.Manifest, wanted: Collection[str] | None, *, clear: bool, lazily: bool
    ) -> tuple[list[str], dict[str, str], list[str]]:
        """Restore a checkpoint.

        Args:
            manifest: the checkpoint; its packs are in this session's directory.
            wanted: names; None for all, and for the interpreter's own state.
            clear: whether to remove all variables first.
            lazily: whether variables may be loaded when a cell needs them, or when there is nothing else to do.

        Returns:
            The names that are or will be restored, why others are not, and what else is not, as text.
        """
        assert self._configuration is not None
        if self.schedule.is_deferred:
            self.begin()
        self.writes.wait()
        self.loading.load_all()
        if clear:
            for name in self.changes.names():
                del self._namespace[name]
        if wanted is None:
            self.changes.definitions.renew()
        restorer = Restorer(
            Path(self._configuration.directory),
            manifest,
            self._namespace,
            self.changes.definitions,
            wanted=wanted,
            fresh=wanted is None,
        )
        notes: list[str] = []
        names = [variable.name for variable in manifest.variables if wanted is None or variable.name in wanted]
        if wanted is None:
            notes = self._restore_all(restorer, manifest, lazily=lazily and background_activity(self._loop) is None)
        else:
            restorer.load_all()
            self.changes.mark_restored(names)
        if restorer.done:
            restorer.close()
        restored = [name for name in names if name not in restorer.failed]
        return restored, restorer.failed, notes

    def _restore_all(self, restorer: Restorer, manifest: mf.Manifest, *, lazily: bool) -> list[str]:
        try:
            state = restorer.shell_state()
            notes = self._state.restore(state)
        except (DamagedError, KeyError, TypeError, ValueError) as error:
            state, notes = None, [f"the interpreter's own state: {error}"]
        self.changes.start_from(manifest, restorer.all_kept())
        if self._is_new:
            self.changes.cell = mf.SavedCell(number=manifest.execution_count)
            if state is not None:
                self._state.restore_history(state)
        if lazily:
            self.loading.start(restorer)
        else:
            restorer.load_all()
        self.changes.compare_with_restored(restorer.failed)
        return notes


def _lock_directory(directory: Path) -> None:
    """Show that a process may write into a session's directory, until this process and its copies have ended."""
    try:
        lock = os.open(directory / mf.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        # Then another front may not wait for the latest checkpoint: it takes the one before.
        print(f"capsule-worker: {error}", file=sys.__stderr__)
