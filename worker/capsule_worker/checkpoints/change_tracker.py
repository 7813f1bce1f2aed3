"""What cells have changed since the latest checkpoint: names that were bound, and objects that code could reach."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from capsule_worker.checkpoints.analysis.background_activity import background_activity, hooks
from capsule_worker.checkpoints.analysis.delta import delta
from capsule_worker.checkpoints.analysis.name_usage import NameUsage
from capsule_worker.checkpoints.analysis.reachability import (
    EVERY_MODULE,
    GroupIndex,
    HiddenReferences,
    ReachableNames,
    reachable_names,
)
from capsule_worker.checkpoints.analysis.small_values import is_atom
from capsule_worker.checkpoints.analysis.user_names import user_names
from capsule_worker.checkpoints.pickling.class_registry import ClassRegistry
from capsule_worker.checkpoints.pickling.placeholder import variable_of
from capsule_worker.checkpoints.pickling.prepickled import PrepickledCache
from capsule_worker.checkpoints.writing import forked_writer
from capsule_worker.checkpoints.writing.job import CheckpointJob, SavedGroup, describe
from capsule_worker.checkpoints.writing.strategies import LastCheckpoint, PendingWrite
from capsule_worker.protocol import manifest as mf


class ChangeTracker:
    """Compares the namespace with the latest checkpoint. Everything here happens in the main thread.

    Args:
        shell: IPython's shell.
        loop: the loop on which cells run.
    """

    def __init__(self, shell: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._shell = shell
        self._namespace: dict[str, Any] = shell.user_ns
        self._loop = loop
        #: What the shell put into the namespace before any cell ran.
        self._first = {name: id(value) for name, value in self._namespace.items()}
        #: The latest checkpoint, on disk or about to be.
        self.last = LastCheckpoint(None, [], None, {})
        self.definitions = ClassRegistry()
        self.hidden = HiddenReferences()
        self._index: GroupIndex | None = None
        self._prepickled = PrepickledCache()
        #: The cell that bindings are attributed to.
        self.cell = mf.SavedCell(number=0)
        #: The cells that bound the names.
        self._cells: dict[str, mf.SavedCell] = {}
        #: The addresses of the values of the user's names.
        self._ids: dict[str, int] = {}
        #: Which values are immutable and small, and share nothing.
        self._plain: dict[str, bool] = {}
        #: Names that were bound since the latest checkpoint.
        self._changed: set[str] = set()
        #: What the source of each cell since the latest checkpoint uses.
        self._usages: list[NameUsage] = []
        #: Whether anything can have changed.
        self._everything = False
        #: What the cells before the latest job could reach.
        self._reachable: set[str] = set()
        #: Whether other code than cells could run when the latest job was made.
        self._was_active = False

    @property
    def is_up_to_date(self) -> bool:
        """Whether the latest checkpoint has everything that cells have changed."""
        return not (self._usages or self._changed or self._everything)

    @property
    def has_earlier_changes(self) -> bool:
        """Whether cells before the one that runs have changed something that no checkpoint has."""
        return bool(self._usages[:-1] or self._changed or self._everything)

    @property
    def has_new_bindings(self) -> bool:
        """Whether names were bound since the latest checkpoint."""
        return bool(self._changed)

    @property
    def is_only_use(self) -> bool:
        """Whether nothing but the code of cells can have changed anything since the latest checkpoint."""
        return not (self._changed or self._everything or self._was_active or self._is_active())

    def use(self, usage: NameUsage) -> None:
        """Record what code uses that is about to run."""
        self._usages.append(usage)

    def mark_everything(self) -> None:
        """Record that anything can have changed."""
        self._everything = True

    def note_bindings(self) -> bool:
        """Find out which names are bound to other objects than before; return whether any name is, or is gone."""
        namespace = self._namespace
        ids = {name: id(namespace[name]) for name in self.names()}
        before, self._ids = self._ids, ids
        if before == ids:
            return False
        for name, address in ids.items():
            if before.get(name) != address:
                self._changed.add(name)
                self._cells[name] = self.cell
        return True

    def names(self) -> list[str]:
        """Return the user's names."""
        namespace, first = self._namespace, self._first
        hidden = [name for name, address in first.items() if name in namespace and id(namespace[name]) == address]
        return user_names(namespace, hidden)

    def variables(self) -> dict[str, mf.Variable]:
        """Return the variables of the latest checkpoint, those that could not be saved included."""
        found = {name: variable for kept in self.last.groups for name, variable in kept.variables.items()}
        return found | {name: variable for name, (_, variable) in self.last.unsaved.items()}

    # -- the next checkpoint -------------------------------------------------------------------------------------

    def job(self, directory: Path, head: mf.Manifest, shell: dict[str, Any], waiting: set[str]) -> CheckpointJob:
        """Return what the next checkpoint is made of.

        Args:
            directory: the session's.
            head: the manifest as far as it is known.
            shell: the interpreter's own state.
            waiting: names that are not loaded yet.
        """
        namespace = self._namespace
        reached = self._reached()
        suspects = self._ids.keys() if reached is None else self._ids.keys() & {*self._changed, *reached}
        unsaveable = self._unsaveable(suspects, reached)
        for each in [*suspects, *(self._ids.keys() - self._plain.keys())]:
            self._plain[each] = is_atom(namespace[each])
        present = {each: self._plain[each] for each in self._ids}
        groups = self.last.groups
        change = delta([kept.group for kept in groups], present, self._changed | unsaveable.keys(), reached, waiting)
        required, kept_places = {}, list(change.kept)
        for uid in change.required:
            cls = self.definitions.get(uid)
            if cls is not None:
                required[uid] = cls
            else:
                kept_places += [place for place in change.stale if uid in groups[place].group.defines]
        stale = [groups[place] for place in change.stale]
        before = {frozenset([*kept.group.names, *kept.group.defines]): kept for kept in stale}
        if self.last.shell is not None:
            before[frozenset(self.last.shell.group.names)] = self.last.shell
        return CheckpointJob(
            directory=directory,
            head=head,
            namespace=namespace,
            dirty=[[each for each in names if each not in unsaveable] for names in self._without_modules(change.dirty)],
            kept=[groups[place] for place in kept_places],
            before=before,
            shell=shell,
            cells=dict(self._cells),
            definitions=self.definitions,
            plain=frozenset([each for each, plain in present.items() if plain]),
            same={
                each: variable
                for kept in stale
                if kept.group.plain
                for each, variable in kept.variables.items()
                if each not in suspects
            },
            unsaveable=unsaveable,
            required=required,
            ready=self._prepickled.prepare([namespace[each] for names in change.dirty for each in names]),
            reachable=self._reachable,
        )

    def take_usages(self) -> list[NameUsage]:
        """Return what the code uses whose changes are being saved, and begin anew."""
        usages, self._usages = self._usages, []
        self._changed, self._everything = set(), False
        return usages

    def give_back(self, usages: list[NameUsage]) -> None:
        """Have what could not be saved be saved with what follows.

        Args:
            usages: as `take_usages` returned them.
        """
        self._usages = usages + self._usages
        self._everything = True

    @contextlib.contextmanager
    def trial(self, usage: NameUsage) -> Iterator[None]:
        """Make jobs as if code had run that uses something, and forget it afterwards."""
        state = self._reachable, self._was_active, self._usages
        try:
            self._usages = [usage]
            self.note_bindings()
            yield
        finally:
            self._reachable, self._was_active, self._usages = state

    def _is_active(self) -> bool:
        """Whether other code than cells can be running, or is called with each cell."""
        return background_activity(self._loop) is not None or hooks(self._shell)

    def _without_modules(self, dirty: list[list[str]]) -> list[list[str]]:
        """Separate modules from what they are saved with: to import one takes time, and not every cell needs it."""
        separate = []
        for names in dirty:
            modules = [name for name in names if type(self._namespace[name]) is ModuleType]
            if len(names) > len(modules):
                separate.append([name for name in names if name not in modules] if modules else names)
            separate += [[name] for name in modules]
        return separate

    def _reached(self) -> set[str] | None:
        """Return the names whose objects the cells since the last checkpoint can have changed; None for all."""
        if self._index is None:
            self._index = GroupIndex(kept.group for kept in self.last.groups)
        try:
            found = reachable_names(self._usages, self._namespace, self._index, self.hidden, self.last.unsaved.keys())
        # Objects that raise whatever is done with them.
        except Exception as error:
            found = ReachableNames(None, describe(error), {EVERY_MODULE: set(self._ids)})
        for key, names in found.joins.items():
            self.hidden.join(key, names)
        self._reachable = found.names if found.names is not None else set(self._ids)
        # What ran at the checkpoint before may have continued until now.
        was_active, self._was_active = self._was_active, self._is_active()
        return None if self._everything or was_active or self._was_active else found.names

    def _unsaveable(self, suspects: Collection[str], reached: Collection[str] | None) -> dict[str, mf.Variable]:
        """Return the variables that need not be tried.

        Args:
            suspects: names whose values may have changed.
            reached: names that cells have reached; None for all.
        """
        found = {}
        for name in suspects:
            variable = variable_of(self._namespace[name])
            if variable is not None:
                found[name] = variable.model_copy(update={"name": name})
        for name, (address, variable) in self.last.unsaved.items():
            if name in found or name in self._changed or self._ids.get(name) != address:
                continue
            if (variable.reason or "").startswith(forked_writer.FAULT) or (reached is not None and name not in reached):
                found[name] = variable
        return found

    # -- the latest checkpoint -----------------------------------------------------------------------------------

    def accept(self, write: PendingWrite) -> None:
        """Build on a checkpoint that is written, or about to be.

        Args:
            write: one that has an outcome.
        """
        outcome = write.outcome
        assert outcome is not None
        unsaved = {
            name: (self._ids.get(name, 0), variable)
            for name, variable in outcome.unsaved.items()
            if name not in self._changed
        }
        before = self.last.groups
        self.last = LastCheckpoint(write.job.head.id, outcome.kept, outcome.shell, unsaved)
        self.definitions.learn([uid for kept in outcome.kept for uid in kept.group.defines])
        if self._index is not None:
            self._index.renew([kept.group for kept in before], [kept.group for kept in outcome.kept])
        for name in outcome.unsaved.keys() & write.job.reachable:
            # What cannot be looked into may hold everything that was reachable when it was made.
            self.hidden.join(f":{name}", write.job.reachable)

    def reconsider(self, write: PendingWrite) -> None:
        """Have saved with the next checkpoint what a copy of this process could not pickle, but this one can."""
        assert write.outcome is not None
        for name in write.outcome.unsaved.keys() - write.job.unsaveable.keys():
            value = self._namespace.get(name)
            tried = id(value) in write.job.ready
            if name in self._ids and not tried and self._prepickled.consider(value):
                self._changed.add(name)

    def go_back_to(self, last: LastCheckpoint) -> None:
        """Build on an earlier checkpoint: those after it have failed, or are another process's."""
        self.last, self._index = last, None

    # -- restoring -----------------------------------------------------------------------------------------------

    def start_from(self, manifest: mf.Manifest, groups: list[SavedGroup]) -> None:
        """Build on a checkpoint that is being restored as a whole.

        Args:
            manifest: the checkpoint.
            groups: its groups that are not damaged.
        """
        self.go_back_to(LastCheckpoint(manifest.id, groups, None, {}))
        self.hidden, self._plain = HiddenReferences(), {}
        for variable in manifest.variables:
            if variable.cell is not None:
                self._cells[variable.name] = variable.cell

    def compare_with_restored(self, failed: Collection[str]) -> None:
        """Record which variables differ from a checkpoint that was restored as a whole.

        Args:
            failed: names that could not be restored.
        """
        saved = {name for kept in self.last.groups for name in kept.group.names}
        self._ids = {name: id(self._namespace[name]) for name in self.names()}
        self._changed = self._ids.keys() - saved
        self._everything = bool(self._changed.difference(failed))
        self._usages = []

    def mark_restored(self, names: Iterable[str]) -> None:
        """Record that variables were bound to values from a checkpoint, in which others may share objects.

        Args:
            names: names of the variables.
        """
        self._changed.update(names)
        self._everything = True

    def add_loaded(self, names: Iterable[str]) -> None:
        """Record that variables of the latest checkpoint were loaded into the namespace.

        Args:
            names: names of the variables.
        """
        for name in names:
            if name in self._namespace and name not in self._ids:
                self._ids[name] = id(self._namespace[name])
