"""The worker's side of checkpoints: notes what cells change, saves it between cells, brings it back."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from capsule_worker.checkpoints.analysis.background_activity import background_activity, hooks
from capsule_worker.checkpoints.analysis.delta import delta
from capsule_worker.checkpoints.analysis.name_usage import NameUsage, name_usage
from capsule_worker.checkpoints.analysis.reachability import (
    EVERY_MODULE,
    GroupIndex,
    HiddenReferences,
    ReachableNames,
    reachable_names,
)
from capsule_worker.checkpoints.analysis.read_only_cells import is_read_only
from capsule_worker.checkpoints.analysis.small_values import are_small, is_atom
from capsule_worker.checkpoints.analysis.user_names import OUTPUT_NAMES, user_names
from capsule_worker.checkpoints.pickling.class_registry import ClassRegistry
from capsule_worker.checkpoints.pickling.placeholder import variable_of
from capsule_worker.checkpoints.pickling.prepickled import PrepickledCache
from capsule_worker.checkpoints.restorer import Restorer
from capsule_worker.checkpoints.shell_state import ShellState
from capsule_worker.checkpoints.storage.packs import DamagedError, StorageError
from capsule_worker.checkpoints.writing import forked_writer
from capsule_worker.checkpoints.writing.job import CheckpointJob
from capsule_worker.checkpoints.writing.strategies import ForkedWrite, InProcessWrite, LastCheckpoint, PendingWrite
from capsule_worker.checkpoints.writing.writer import Writer, describe
from capsule_worker.checkpoints.writing.writer_threads import WriterThreads
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol.messages import (
    CheckpointFailedMessage,
    CheckpointSavedMessage,
    ConfigureCheckpointsMessage,
    Message,
)

if TYPE_CHECKING:
    from capsule_worker.protocol.messages import WorkerCheckpointStatus

#: Variables that are not tried again while they stay what they are: the writer was lost over them.
FATAL = forked_writer.FAULT
#: Seconds after a restore, or after a cell, before variables are loaded that nobody has asked for.
_IDLE = 0.3
#: Seconds that a cell waits until what was changed before it is out of this process, at most.
_STAGE = 10.0
#: Seconds without a cell until a state is saved that differs from the latest checkpoint only in which cells have run;
#: and seconds until it is saved in any case.
_UNHURRIED, _AT_LAST = 0.05, 1.0
#: Checkpoints that may be staged and not on disk yet.
_MOST_COMMITS = 8
#: What is at risk is worth a copy of this process if it took this many times what the copy takes.
_RISK = 5.0
_OUTPUTS = frozenset({*OUTPUT_NAMES, "Out", "_oh"})


class Checkpointer:
    """Saves the namespace between cells. Everything here happens in the main thread.

    Args:
        shell: IPython's shell.
        loop: the loop on which cells run.
        send: sends a message to the front.
        warn: shows a line to the person at the client.
        writers: a pipe that writers hold open.
    """

    def __init__(
        self,
        shell: Any,
        loop: asyncio.AbstractEventLoop,
        send: Callable[[Message], object],
        warn: Callable[[str], None],
        writers: int,
    ) -> None:
        self._shell = shell
        self._namespace: dict[str, Any] = shell.user_ns
        self._loop = loop
        self._send = send
        self._warn = warn
        self._writers = writers
        self._state = ShellState(shell)
        self._definitions = ClassRegistry()
        #: What the shell put into the namespace before any cell ran.
        self._first = {name: id(value) for name, value in self._namespace.items()}
        #: None while no checkpoints are kept.
        self._keep: ConfigureCheckpointsMessage | None = None
        self._number = 1
        self._known = LastCheckpoint(None, [], None, {})
        self._index: GroupIndex | None = None
        self._links = HiddenReferences()
        self._preparations = PrepickledCache()
        self._scribe = WriterThreads()
        self._ids: dict[str, int] = {}
        #: Which values are immutable and small, and share nothing.
        self._plain: dict[str, bool] = {}
        self._cells: dict[str, mf.SavedCell] = {}
        self._changed: set[str] = set()
        #: What the cells before the latest job could reach.
        self._near: set[str] = set()
        self._touches: list[NameUsage] = []
        self._everything: bool = False
        #: Whether no cell has run in this process.
        self._new = True
        #: Seconds that cells took whose changes are in no checkpoint yet.
        self._at_risk = 0.0
        #: Seconds that a fork takes.
        self._fork_time = 0.0
        #: Whether code ran beside the cells when the latest job began.
        self._strange: bool = False
        self._restorer: Restorer | None = None
        #: Variables of which a person knows that they did not come back.
        self._told_lost: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._cell = mf.SavedCell(number=0)
        self._code = ""
        self._execution_id = ""
        self._write: PendingWrite | None = None
        #: Checkpoints that are staged and not on disk yet, oldest first; what is known builds on them already.
        self._commits: deque[InProcessWrite] = deque()
        self._warned = False
        #: Why the last checkpoint could not be written; None: it was.
        self._problem: str | None = None
        #: Why no copy of this process waits to take its place.
        self.standby: str | None = "none yet"
        #: Whether a cell is under way: one that awaits may be in the middle of anything while the loop runs.
        self._in_cell = False
        self._due = self._beginning = False
        #: Whether the cell that runs can change nothing that is saved.
        self._quiet = False
        #: Makes a checkpoint due that is in no hurry.
        self._unhurried: asyncio.TimerHandle | None = None
        #: When it has to be due, in the loop's seconds.
        self._at_last = 0.0

    # -- configuration ---------------------------------------------------------------------------------------

    def configure(self, message: ConfigureCheckpointsMessage) -> None:
        """Keep checkpoints from now on, as ``message`` says."""
        if self._keep is None:
            self._everything = True
            self._hold(Path(message.directory))
        self._keep = message
        self._number = message.number

    def _hold(self, directory: Path) -> None:
        """Show that somebody may write into a session's directory, until this process and its copies have ended."""
        try:
            lock = os.open(directory / mf.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            # Then another front may not wait for the latest checkpoint: it takes the one before.
            print(f"capsule-worker: {error}", file=sys.__stderr__)

    @property
    def is_enabled(self) -> bool:
        """Whether checkpoints are kept."""
        return self._keep is not None

    @property
    def head(self) -> str | None:
        """The latest checkpoint."""
        return self._known.head

    @property
    def is_due(self) -> bool:
        """Whether a checkpoint should be begun, outside of the loop."""
        return self._due and not self._in_cell

    @property
    def has_unsaved_work(self) -> bool:
        """Whether a checkpoint is due, or just being begun: what a cell has changed is in nobody else's hands yet."""
        return self.is_due or self._beginning or self._unhurried is not None

    @property
    def settled(self) -> bool:
        """Whether a copy of this process would have nothing to do: nothing is written or loaded now."""
        busy = self._write is not None or self._commits or self._restorer is not None or self._due
        return self._keep is not None and not busy and self._unhurried is None

    @property
    def should_fork_standby(self) -> bool:
        """Whether more is at risk than it costs to leave a copy of this process.

        That is so while a copy writes a checkpoint, for which the next one must wait, and cells go on.
        """
        waits = isinstance(self._write, ForkedWrite) and not self.is_up_to_date
        return waits and self._at_risk > _RISK * self._fork_time

    @property
    def is_up_to_date(self) -> bool:
        """Whether the latest checkpoint has all that cells have changed."""
        return not (self._touches or self._changed or self._everything)

    def renew(self, writers: int) -> None:
        """Go on in a copy of the process.

        Args:
            writers: as for the class.
        """
        self._writers = writers
        self._scribe = WriterThreads()
        writes = [*self._commits, *([self._write] if self._write is not None else [])]
        self._write = None
        self._commits.clear()
        for write in reversed(writes):
            # The original's. What became of it is not known here.
            write.close()
            self._known, self._index = write.before or self._known, None
            self._touches = write.touches + self._touches
            self._everything = True

    @property
    def synchronous(self) -> bool:
        """Whether a cell ends only when its checkpoint is on disk."""
        return self._keep is not None and self._keep.mode == "sync"

    # -- cells -----------------------------------------------------------------------------------------------

    def before_cell(self, source: str, code: str, number: int, execution_id: str) -> None:
        """Take notice of a cell that is about to run, and load what it may need.

        Args:
            source: its Python, as IPython has transformed it.
            code: as it was written.
            number: as in ``In [number]``.
            execution_id: the execution's.
        """
        self._in_cell = True
        if self._keep is None and self._restorer is None:
            return
        self._quiet = is_read_only(source, name_usage(source), self._namespace)
        if not self._quiet:
            # The cell may be the end of this process: what came before it is not to be lost with it.
            self._await_staged()
            self._save_unhurried()
            self._await_staged()
        lines = [line for line in code.splitlines() if line.strip()]
        self._cell = mf.SavedCell(number=number, line=lines[0][:200] if lines else "")
        self._code, self._execution_id = code, execution_id
        self._new = False
        self.before_code(source)

    def before_code(self, source: str) -> None:
        """Take notice of code that is about to run, and load what it may need.

        Args:
            source: Python.
        """
        if self._keep is None and self._restorer is None:
            return
        touched = name_usage(source)
        self._touches.append(touched)
        self._quiet = self._quiet and is_read_only(source, touched, self._namespace)
        if self._restorer is not None:
            self._load_for(touched)

    def _await_staged(self) -> None:
        if isinstance(self._write, InProcessWrite):
            self._write.staged.wait(_STAGE)

    def after_cell(self, seconds: float) -> None:
        """Take notice that the cell has ended, which took ``seconds``; a checkpoint is due."""
        self._in_cell = False
        if self._keep is None:
            return
        self._at_risk += seconds
        before = self._ids
        self._note()
        if self._quiet and before == self._ids and self._has_time():
            self._put_off()
            return
        # A cell that only asks about checkpoints is nothing to go back behind.
        self._due |= bool(self._changed) or not self._code.lstrip().startswith("%capsule")

    def _has_time(self) -> bool:
        """Whether nothing but the cell can have changed anything, and nobody waits for what is saved."""
        if self._changed or self._everything or self._due or self._strange or self.synchronous:
            return False
        return background_activity(self._loop) is None and not hooks(self._shell)

    def _put_off(self) -> None:
        """Have a checkpoint be due when no cell comes any more."""
        now = self._loop.time()
        if self._unhurried is None:
            self._at_last = now + _AT_LAST
        else:
            self._unhurried.cancel()
        self._unhurried = self._loop.call_at(min(now + _UNHURRIED, self._at_last), self._hurry)

    def _save_unhurried(self) -> None:
        """Begin a checkpoint that could wait until now."""
        if self._unhurried is not None:
            self.begin()

    def _hurry(self) -> None:
        """Have that saved which could wait."""
        self._unhurried = None
        self._due = True
        if not self._in_cell:
            self._loop.stop()

    def before_comm(self) -> None:
        """Load what is not loaded yet: an object that takes a message of the client's may need anything."""
        if not self._in_cell:
            self._load_rest()

    @property
    def incomplete(self) -> bool:
        """Whether variables that were there before a death are not loaded yet."""
        return self._restorer is not None

    def after_comm(self) -> None:
        """Take notice that code has run beside cells, for a message of the client's or in a subshell."""
        if self._keep is None:
            return
        # It can have changed anything.
        self._everything = True
        if not self._in_cell:
            self._note()
            self._due = True

    def _note(self) -> None:
        """Find out which names are bound to something else than before."""
        namespace = self._namespace
        ids = {name: id(namespace[name]) for name in self._names()}
        before = self._ids
        for name, address in ids.items():
            if before.get(name) != address:
                self._changed.add(name)
                self._cells[name] = self._cell
        self._ids = ids

    def _names(self) -> list[str]:
        namespace, first = self._namespace, self._first
        hidden = [name for name, address in first.items() if name in namespace and id(namespace[name]) == address]
        return user_names(namespace, hidden)

    # -- saving ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a checkpoint of what has changed, unless one is being written: then it begins after that."""
        if self._keep is None or not self._build_on_staged():
            return
        # In this order: another thread may be about to leave, if nothing is owed.
        self._beginning, self._due = True, False
        if self._unhurried is not None:
            self._unhurried.cancel()
            self._unhurried = None
        try:
            self._begin()
        # A fault of ours must cost checkpoints, and not the variables.
        except Exception as error:
            traceback.print_exc(file=sys.__stderr__)
            self._everything = True
            self._complain(error)
        finally:
            self._beginning = False

    def rehearse(self, source: str) -> None:
        """Do all that a cell which changes nothing brings about, up to where it would be written.

        Args:
            source: Python that changes nothing.
        """
        if not self.is_up_to_date:
            return
        state = self._number, self._near, self._strange, self._touches
        try:
            self._touches = [name_usage(source)]
            self._note()
            Writer(self._job(name=None, description="", tags=[]), everywhere=False).prepare(rewrite=False)
        finally:
            self._number, self._near, self._strange, self._touches = state

    def _begin(self) -> None:
        if self._restorer is not None:
            # Nothing changes what is not loaded; but a name is saved with its value only.
            self._adopt_loaded()
        self._start(self._job(name=None, description="", tags=[]))

    def save_now(self, name: str | None, description: str, tags: list[str], tell: Callable[[str], None]) -> mf.Manifest:
        """Make a checkpoint and return what is known of it when it is on disk.

        Args:
            name: a person's name for it.
            description: text.
            tags: words.
            tell: shows how far it has come, when it takes long.

        Raises:
            StorageError: no checkpoints are kept, or it cannot be written.
        """
        if self._keep is None:
            raise StorageError("no checkpoints are kept")
        self._save_unhurried()
        self.wait(tell)
        self._note()
        job = self._job(name=name, description=description, tags=tags)
        self._start(job)
        self.wait(tell)
        if self.head != job.head.id:
            raise StorageError(self._problem or "the checkpoint was not written")
        return job.head.model_copy(
            update={
                "variables": list(self._variables().values()),
                "groups": [kept.group for kept in self._known.groups],
            }
        )

    def wait(self, tell: Callable[[str], None] | None = None, seconds: float | None = None) -> bool:
        """Wait until what is being written is on disk, or has failed; return whether it is so.

        Args:
            tell: shows how far it has come, when it takes long.
            seconds: how long to wait; None for as long as it takes.
        """
        until = None if seconds is None else time.monotonic() + seconds
        for write in [*self._commits, *([self._write] if self._write is not None else [])]:
            while not write.wait(1.0 if until is None else max(0.0, min(1.0, until - time.monotonic()))):
                if until is not None and time.monotonic() >= until:
                    return False
                taken = time.time() - write.started
                if tell is not None and taken > 2:  # noqa: PLR2004  # what people call long
                    tell(f"saving: {write.written / 1e6:,.0f} MB in {taken:.0f} s")
            self._finish(write)
        return True

    def let_write(self, deadline: float) -> None:
        """Wait until the threads of this process have written what they are writing. For any thread.

        Args:
            deadline: by ``time.monotonic()``.
        """
        for write in [*list(self._commits), self._write]:
            if isinstance(write, InProcessWrite):
                write.wait(max(0.0, deadline - time.monotonic()))

    def _build_on_staged(self) -> bool:
        """Take for granted what a thread has staged; return whether nothing is in the way of another checkpoint."""
        write = self._write
        if write is None:
            return True
        if not isinstance(write, InProcessWrite) or write.outcome is None or len(self._commits) >= _MOST_COMMITS:
            return False
        write.before = self._known
        self._take(write)
        self._commits.append(write)
        self._write = None
        return True

    def catch_up(self) -> None:
        """Save what earlier cells left to be saved."""
        self.wait()
        if self._touches[:-1] or self._changed or self._everything:
            self._start(self._job(name=None, description="", tags=[]))
            self.wait()

    def close(self, seconds: float) -> None:
        """Save what is not saved yet, within a time; what is not done by then goes on without this process."""
        until = time.monotonic() + seconds
        if self._keep is None or not self.wait(seconds=seconds):
            return
        if self._touches or self._changed or self._everything:
            self._note()
            self.begin()
            self.wait(seconds=until - time.monotonic())

    def _job(self, name: str | None, description: str, tags: list[str]) -> CheckpointJob:
        keep = self._keep
        assert keep is not None
        namespace = self._namespace
        waiting = self._restorer.waiting() if self._restorer is not None else set()
        reached = self._reached()
        suspects = self._ids.keys() if reached is None else self._ids.keys() & {*self._changed, *reached}
        gone = self._gone(suspects, reached)
        for each in [*suspects, *(self._ids.keys() - self._plain.keys())]:
            self._plain[each] = is_atom(namespace[each])
        present = {each: self._plain[each] for each in self._ids}
        changed = self._changed | gone.keys()
        change = delta([kept.group for kept in self._known.groups], present, changed, reached, waiting)
        required, kept_places = {}, list(change.kept)
        for uid in change.required:
            cls = self._definitions.get(uid)
            if cls is not None:
                required[uid] = cls
            else:
                kept_places += [place for place in change.stale if uid in self._known.groups[place].group.defines]
        stale = [self._known.groups[place] for place in change.stale]
        before = {frozenset([*kept.group.names, *kept.group.defines]): kept for kept in stale}
        if self._known.shell is not None:
            before[frozenset(self._known.shell.group.names)] = self._known.shell
        now = time.time()
        head = mf.Manifest.model_construct(
            id=f"{int(now * 1000):011x}{os.urandom(4).hex()}",
            session=keep.session,
            parent=self.head,
            number=self._number,
            time=now,
            execution_count=self._cell.number,
            execution_id=self._execution_id,
            code=self._code,
            variables=[],
            groups=[],
            name=name,
            description=description,
            tags=tags,
        )
        self._number += 1
        return CheckpointJob(
            directory=Path(keep.directory),
            head=head,
            namespace=namespace,
            dirty=[[each for each in names if each not in gone] for names in self._apart(change.dirty)],
            kept=[self._known.groups[place] for place in kept_places],
            before=before,
            shell=self._state.take(),
            cells=dict(self._cells),
            definitions=self._definitions,
            plain=frozenset(each for each, plain in present.items() if plain),
            same={
                each: variable
                for kept in stale
                if kept.group.plain
                for each, variable in kept.variables.items()
                if each not in suspects
            },
            unsaveable=gone,
            required=required,
            ready=self._preparations.prepare(namespace[each] for names in change.dirty for each in names),
        )

    def _apart(self, dirty: list[list[str]]) -> list[list[str]]:
        """Part modules from what they are saved with: to import one takes time, and not every cell needs it."""
        parted = []
        for names in dirty:
            modules = [name for name in names if type(self._namespace[name]) is ModuleType]
            if len(names) > len(modules):
                parted.append([name for name in names if name not in modules])
            parted += [[name] for name in modules]
        return parted

    def _reached(self) -> set[str] | None:
        """Return the names whose objects the cells since the last checkpoint can have changed; None for all."""
        if self._index is None:
            self._index = GroupIndex(kept.group for kept in self._known.groups)
        try:
            found = reachable_names(
                self._touches, self._namespace, self._index, self._links, self._known.unsaved.keys()
            )
        # Objects that do not even let themselves be looked at.
        except Exception as error:
            found = ReachableNames(None, describe(error), {EVERY_MODULE: set(self._ids)})
        for key, names in found.joins.items():
            self._links.join(key, names)
        self._near = found.names if found.names is not None else set(self._ids)
        # What was there at the checkpoint before may have gone on until now.
        before, self._strange = self._strange, background_activity(self._loop) is not None or hooks(self._shell)
        return None if self._everything or before or self._strange else found.names

    def _gone(self, suspects: Collection[str], reached: Collection[str] | None) -> dict[str, mf.Variable]:
        """Return the variables that need not be tried.

        Args:
            suspects: names whose values may have changed.
            reached: names that cells have reached; None for all.
        """
        gone = {}
        for name in suspects:
            standing = variable_of(self._namespace[name])
            if standing is not None:
                gone[name] = standing.model_copy(update={"name": name})
        for name, (before, variable) in self._known.unsaved.items():
            if name in gone or name in self._changed or self._ids.get(name) != before:
                continue
            if (variable.reason or "").startswith(FATAL) or (reached is not None and name not in reached):
                gone[name] = variable
        return gone

    def _start(self, job: CheckpointJob) -> None:
        touches, self._touches = self._touches, []
        self._changed, self._everything, self._at_risk = set(), False, 0.0
        values = [job.namespace[name] for names in job.dirty for name in names]
        if not job.required and are_small(values, job.namespace):
            self._write_here(job, touches)
        elif self._commits and not self._all_committed():
            self._retry(touches)
        else:
            self._write_apart(job, touches)

    def _all_committed(self) -> bool:
        """Wait for the threads; return whether none has failed: a copy of this process cannot be told of it."""
        head = self.head
        self.wait()
        return self.head == head

    def _write_here(self, job: CheckpointJob, touches: list[NameUsage]) -> None:
        """Pickle at once, and have threads write it."""
        write = InProcessWrite(job, touches, self._near, self._commits[-1] if self._commits else None)
        self._watch(write)
        write.begin(self._scribe)

    def _write_apart(self, job: CheckpointJob, touches: list[NameUsage]) -> None:
        """Have a copy of this process pickle and write it."""
        began = time.perf_counter()
        try:
            write = ForkedWrite(job, touches, self._near)
        except OSError as error:
            self._retry(touches)
            self._complain(StorageError(f"no process can be started: {error.strerror}"))
            return
        self._fork_time = time.perf_counter() - began
        self._watch(write)

    def _watch(self, write: PendingWrite) -> None:
        self._write = write
        write.watch(self._loop, self._written)

    def _written(self, write: PendingWrite) -> None:
        """Go on when a checkpoint is done; begin the next one if something has changed meanwhile."""
        if write is not self._write and write not in self._commits:
            return  # somebody has waited for it
        self._finish(write)
        # After a failure the next cell is waited for: what is wrong with a disk takes its time.
        if not self.is_up_to_date and not self._warned:
            self._due = True
            self._loop.stop()

    def _finish(self, write: PendingWrite) -> None:
        """Take notice of how a write went."""
        granted = write in self._commits
        if isinstance(write, InProcessWrite) and granted:
            self._commits.remove(write)
        else:
            self._write = None
        try:
            write.outcome = write.collect()
        except Exception as error:
            self._undo(write)
            self._complain(error)
        else:
            if not granted:
                self._take(write)
            if isinstance(write, ForkedWrite):
                self._reconsider(write)
            self._send(
                CheckpointSavedMessage(
                    checkpoint_id=write.job.head.id,
                    number=write.job.head.number,
                    bytes_written=write.outcome.written,
                    duration=write.outcome.duration,
                )
            )
            self._problem = None
            if self._warned:
                self._warned = False
                self._warn("Checkpoints are written again.")
        write.close()

    def _take(self, write: PendingWrite) -> None:
        """Take note of what a checkpoint consists of."""
        outcome = write.outcome
        assert outcome is not None
        unsaved = {
            name: (self._ids.get(name, 0), variable)
            for name, variable in outcome.unsaved.items()
            if name not in self._changed
        }
        before = self._known.groups
        self._known = LastCheckpoint(write.job.head.id, outcome.kept, outcome.shell, unsaved)
        self._definitions.learn(uid for kept in outcome.kept for uid in kept.group.defines)
        if self._index is not None:
            self._index.renew([kept.group for kept in before], [kept.group for kept in outcome.kept])
        for name in outcome.unsaved.keys() & write.near:
            # What cannot be looked into holds what was near when it was made.
            self._links.join(f":{name}", write.near)

    def _reconsider(self, write: PendingWrite) -> None:
        """Have saved with the next checkpoint what a copy of this process could not pickle, but this one can."""
        assert write.outcome is not None
        for name in write.outcome.unsaved.keys() - write.job.unsaveable.keys():
            value = self._namespace.get(name)
            tried = id(value) in write.job.ready
            if name in self._ids and not tried and self._preparations.consider(value):
                self._changed.add(name)

    def _undo(self, write: PendingWrite) -> None:
        """Go back behind a checkpoint that failed, and behind those that were built on it."""
        if write.before is not None and not write.doomed:
            self._known, self._index = write.before, None
            for later in [*self._commits, *([self._write] if self._write is not None else [])]:
                later.doomed = True
        self._retry(write.touches)

    def _retry(self, touches: list[NameUsage]) -> None:
        """Have what was to be saved be saved with what comes next."""
        self._touches = touches + self._touches
        self._everything = True

    def _complain(self, error: Exception) -> None:
        """Warn, once."""
        text = self._problem = str(error) if isinstance(error, StorageError) else describe(error)
        if not self._warned:
            self._warned = True
            text = str(error) if isinstance(error, StorageError) else describe(error)
            self._send(CheckpointFailedMessage(reason=text))
            self._warn(
                f"No checkpoint was written: {text}. Cells go on; what they change is not saved until this is mended."
            )

    def _variables(self) -> dict[str, mf.Variable]:
        found = {name: variable for kept in self._known.groups for name, variable in kept.variables.items()}
        return found | {name: variable for name, (_, variable) in self._known.unsaved.items()}

    def status(self) -> WorkerCheckpointStatus:
        """Return what is known here of the checkpoints, cut to what a request may carry."""
        from capsule_worker.protocol.messages.requests import MAX_LIST, MAX_TEXT, WorkerCheckpointStatus

        unsaved = [(name, variable.reason or "") for name, (_, variable) in self._known.unsaved.items()]
        return WorkerCheckpointStatus(
            not_saved={name[:MAX_TEXT]: reason[:MAX_TEXT] for name, reason in unsaved[:MAX_LIST]},
            problem=self._problem[:MAX_TEXT] if self._problem is not None else None,
            no_standby=self.standby[:MAX_TEXT] if self.standby is not None else None,
        )

    # -- restoring -------------------------------------------------------------------------------------------

    def restore(
        self, manifest: mf.Manifest, wanted: Collection[str] | None, *, clear: bool, lazily: bool
    ) -> tuple[list[str], dict[str, str], list[str]]:
        """Bring a checkpoint back.

        Args:
            manifest: the checkpoint; its packs are in this session's directory.
            wanted: names; None for all, and for the interpreter's own state.
            clear: whether to remove all variables first.
            lazily: whether the rest may come when a cell needs it, or when there is nothing to do.

        Returns:
            The names that came or will come back, why others do not, and what else did not, in words.
        """
        assert self._keep is not None
        self._save_unhurried()
        self.wait()
        self._load_rest()
        if clear:
            for name in self._names():
                del self._namespace[name]
        if wanted is None:
            self._definitions.renew()
        restorer = Restorer(
            Path(self._keep.directory),
            manifest,
            self._namespace,
            self._definitions,
            wanted=wanted,
            fresh=wanted is None,
        )
        notes: list[str] = []
        names = [variable.name for variable in manifest.variables if wanted is None or variable.name in wanted]
        if wanted is None:
            notes = self._restore_all(restorer, manifest, lazily=lazily and background_activity(self._loop) is None)
        else:
            restorer.load_all()
            for variable in manifest.variables:
                if variable.name in wanted:
                    self._changed.add(variable.name)
            self._everything = True
        if restorer.done:
            restorer.close()
        restored = [name for name in names if name not in restorer.failed]
        return restored, restorer.failed, notes

    def _restore_all(self, restorer: Restorer, manifest: mf.Manifest, *, lazily: bool) -> list[str]:
        try:
            state = restorer.shell_state()
            notes = self._state.give_back(state)
        except (DamagedError, KeyError, TypeError, ValueError) as error:
            state, notes = None, [f"the interpreter's own state: {error}"]
        self._known, self._index = LastCheckpoint(manifest.id, restorer.all_kept(), None, {}), None
        self._links, self._plain = HiddenReferences(), {}
        for variable in manifest.variables:
            if variable.cell is not None:
                self._cells[variable.name] = variable.cell
        if self._new:
            self._cell = mf.SavedCell(number=manifest.execution_count)
            if state is not None:
                self._state.give_back_history(state)
        if lazily:
            self._told_lost = set(restorer.failed)
            self._restorer = restorer
            self._load_soon()
        else:
            restorer.load_all()
        known = {name for kept in self._known.groups for name in kept.group.names}
        self._ids = {name: id(self._namespace[name]) for name in self._names()}
        self._changed = self._ids.keys() - known
        self._everything = bool(self._changed - restorer.failed.keys())
        self._touches = []
        return notes

    def _load_for(self, touched: NameUsage) -> None:
        """Load what a cell may touch."""
        restorer = self._restorer
        assert restorer is not None
        if touched.anything is not None:
            self._load_rest()
            return
        names = set(touched.names)
        if names & _OUTPUTS:
            names.update(name for name in restorer.waiting() if name[:1] == "_" and name[1:].isdigit())
        index = GroupIndex(restorer.manifest.groups)
        found = reachable_names([touched], self._namespace, index, self._links, ())
        if found.names is None:
            self._load_rest()
            return
        restorer.load(names | found.names)
        self._adopt_loaded()
        self._load_soon()

    def _load_soon(self) -> None:
        """Load more when there has been nothing to do for a while."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(_IDLE, self._load_more)

    def _load_more(self) -> None:
        """Load one more group, and let whoever waits go first."""
        self._timer = None
        if self._restorer is not None:
            self._restorer.load_next()
            self._adopt_loaded()
        if self._restorer is not None:
            self._timer = self._loop.call_later(0, self._load_more)

    def _load_rest(self) -> None:
        if self._restorer is not None:
            self._restorer.load_all()
            self._adopt_loaded()

    def _adopt_loaded(self) -> None:
        """Take note of what is loaded."""
        restorer = self._restorer
        if restorer is None:
            return
        for kept in restorer.kept.values():
            for name in kept.group.names:
                if name in self._namespace and name not in self._ids:
                    self._ids[name] = id(self._namespace[name])
        self._state.fill_outputs()
        lost = restorer.failed.keys() - self._told_lost
        if lost:
            self._told_lost |= lost
            self._warn("not restored: " + "; ".join(f"{name}: {restorer.failed[name]}" for name in sorted(lost)))
        if restorer.done:
            restorer.close()
            self._restorer = None
