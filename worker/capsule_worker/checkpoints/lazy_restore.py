"""Loads the variables of a restored checkpoint when a cell needs them, or when there is nothing else to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from capsule_worker.checkpoints.analysis.name_usage import NameUsage
from capsule_worker.checkpoints.analysis.reachability import GroupIndex, reachable_names
from capsule_worker.checkpoints.analysis.user_names import OUTPUT_NAMES
from capsule_worker.checkpoints.change_tracker import ChangeTracker
from capsule_worker.checkpoints.restorer import Restorer
from capsule_worker.checkpoints.shell_state import ShellState

#: Seconds after a restore, or after a cell, before variables are loaded that no cell has asked for.
IDLE_SECONDS = 0.3
_OUTPUTS = frozenset({*OUTPUT_NAMES, "Out", "_oh"})


class LazyRestore:
    """Loads the groups of one checkpoint, one after the other.

    Args:
        namespace: the notebook's globals.
        changes: told what was loaded.
        state: fills in the outputs that were loaded.
        loop: the loop on which cells run.
        warn: shows a line to the user.
    """

    def __init__(
        self,
        namespace: dict[str, Any],
        changes: ChangeTracker,
        state: ShellState,
        loop: asyncio.AbstractEventLoop,
        warn: Callable[[str], None],
    ) -> None:
        self._namespace = namespace
        self._changes = changes
        self._state = state
        self._loop = loop
        self._warn = warn
        self._restorer: Restorer | None = None
        self._timer: asyncio.TimerHandle | None = None
        #: Variables of which the user knows that they could not be restored.
        self._reported: set[str] = set()

    @property
    def is_active(self) -> bool:
        """Whether variables of a checkpoint are not loaded yet."""
        return self._restorer is not None

    def start(self, restorer: Restorer) -> None:
        """Load what a restorer has to load from now on, little by little."""
        self._reported = set(restorer.failed)
        self._restorer = restorer
        self._load_soon()

    def waiting(self) -> set[str]:
        """Return the names that are not loaded yet."""
        return self._restorer.waiting() if self._restorer is not None else set()

    def load_for(self, usage: NameUsage) -> None:
        """Load what code may need that is about to run."""
        restorer = self._restorer
        if restorer is None:
            return
        if usage.anything is not None:
            self.load_all()
            return
        names = set(usage.names)
        if names & _OUTPUTS:
            names.update(name for name in restorer.waiting() if name[:1] == "_" and name[1:].isdigit())
        index = GroupIndex(restorer.manifest.groups)
        found = reachable_names([usage], self._namespace, index, self._changes.hidden, ())
        if found.names is None:
            self.load_all()
            return
        restorer.load(names | found.names)
        self.record_loaded()
        self._load_soon()

    def load_next(self) -> None:
        """Load one more group; the next one follows when the loop has done what else is to be done."""
        self._timer = None
        if self._restorer is not None:
            self._restorer.load_next()
            self.record_loaded()
        if self._restorer is not None:
            self._timer = self._loop.call_later(0, self.load_next)

    def load_all(self) -> None:
        """Load everything that is not loaded yet."""
        if self._restorer is not None:
            self._restorer.load_all()
            self.record_loaded()

    def record_loaded(self) -> None:
        """Record what is loaded, and report what could not be."""
        restorer = self._restorer
        if restorer is None:
            return
        for kept in restorer.kept.values():
            self._changes.add_loaded(kept.group.names)
        self._state.fill_outputs()
        lost = restorer.failed.keys() - self._reported
        if lost:
            self._reported |= lost
            self._warn("not restored: " + "; ".join(f"{name}: {restorer.failed[name]}" for name in sorted(lost)))
        if restorer.done:
            restorer.close()
            self._restorer = None

    def _load_soon(self) -> None:
        """Load more when there has been nothing to do for a while."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(IDLE_SECONDS, self.load_next)
