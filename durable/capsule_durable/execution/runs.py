"""A run: a notebook that is executed from its beginning under an id, by several processes if necessary.

The next process with the same id gets the same cells. Cells that have succeeded are replayed. At the first that has
not, or that was changed, the variables are restored and cells run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from capsule_durable import ids
from capsule_durable.history.cells import CellRecord
from capsule_durable.history.recorder import HistoryStores
from capsule_durable.history.runs import RunCell, source_of


@dataclass(frozen=True)
class RunStepStart:
    """A cell of a run is to run.

    Args:
        step: the cell.
        inputs: names its inputs, whichever attempt asks for them.
        restore: the checkpoint behind the cell before it, if the variables are not those in any case.
        notice: a text for the user about the cell; None for nothing.
    """

    step: RunCell
    inputs: str
    restore: str | None
    notice: str | None


class RunCoordinator:
    """The course of a run in this process.

    Args:
        stores: the history.
        run: its id.
        owner: the identity of this process, as text.
        options: what the run is started with; must be JSON.

    Raises:
        RunTaken: another process that lives executes it.
        StoreError: the record cannot be used; so do all methods.
    """

    def __init__(self, stores: HistoryStores, run: str, owner: str, options: Mapping[str, Any] | None = None) -> None:
        self._cells, self._runs, self.id, self._owner = stores.cells, stores.runs, run, owner
        self._runs.lock(run, owner, options)
        self._steps = self._runs.steps(run)
        known = self._runs.get(run)
        self._turn = known.executions if known is not None else 0
        self._number = 0
        #: Whether a cell has run in this process.
        self._live = False

    def next(self, code: str) -> CellRecord | RunStepStart:
        """Return the recorded outcome of the next cell, or how it starts if it has none.

        Args:
            code: the code of the cell.
        """
        number, source = self._number + 1, source_of(code)
        known = self._steps[number - 1] if number <= len(self._steps) else None
        if not self._live and known is not None and known.checkpoint is not None and known.source == source:
            recorded = self._cells.cell(known.execution_id)
            if recorded is not None:
                self._number = number
                return recorded
        restore, notice = None, None
        if not self._live:
            self._live = True
            restore = self._steps[number - 2].checkpoint if number > 1 else None
            notice = self._notice(number, known, source)
        inputs = f"{ids.slug(self.id)}-{number}-{source.hex()[:12]}"
        return RunStepStart(self._begin(number, source), inputs, restore, notice)

    def again(self, begin: RunStepStart) -> RunStepStart:
        """Return another attempt at a cell.

        Args:
            begin: the attempt that has failed.
        """
        step = self._begin(begin.step.number, begin.step.source)
        return RunStepStart(step, begin.inputs, self.before(step.number), None)

    def before(self, number: int) -> str | None:
        """Return the checkpoint behind the cell before a cell; None for the first.

        Args:
            number: the position of the cell in the run, counted from 1.
        """
        return self._steps[number - 2].checkpoint if number > 1 else None

    def succeeded(self, begin: RunStepStart, checkpoint: str) -> None:
        """Record a cell that has succeeded, and the checkpoint of the state after it.

        Args:
            begin: the attempt.
            checkpoint: id of the checkpoint.
        """
        step = begin.step
        self._runs.finish(self.id, step.number, checkpoint)
        self._steps[step.number - 1] = replace(step, checkpoint=checkpoint)
        self._number = step.number

    def renew(self) -> None:
        """Renew the lease of this process on the run."""
        self._runs.renew(self.id, self._owner)

    def close(self) -> None:
        """Let another process continue the run."""
        self._runs.release(self.id, self._owner)

    def _begin(self, number: int, source: bytes) -> RunCell:
        # Counted on, also where a cell was changed and changed back: an execution is never given another's outcome.
        self._turn += 1
        step = RunCell(number, source, f"{ids.slug(self.id)}-{number}-{self._turn}", self._turn, None)
        self._runs.begin(self.id, step)
        self._steps[number - 1 :] = [step]
        return step

    def _notice(self, number: int, known: RunCell | None, source: bytes) -> str | None:
        if known is None:
            return None if number == 1 else f"run {self.id!r} continues at cell {number}"
        if known.source != source:
            behind = len(self._steps) - number
            rest = f" and the {behind} behind it run" if behind else " runs"
            return f"cell {number} of run {self.id!r} was changed: it{rest} again"
        return f"run {self.id!r} continues at cell {number}, which was not finished"
