"""When a checkpoint is begun, and when a standby is worth its cost. Pure: the clock is an argument."""

from __future__ import annotations

#: Seconds without a cell until a checkpoint is due that differs from the latest one only in which cells have run; and
#: seconds after which it is due in any case.
DEFER_SECONDS, MAX_DEFER_SECONDS = 0.05, 1.0
#: A standby is worth a fork if the cells whose changes are unsaved took this many times what a fork takes.
MIN_RISK_RATIO = 5.0


class Schedule:
    """Decides when a checkpoint is due.

    The checkpoint of a cell that changed something is due when the cell ends. That of a cell which only read values can
    be deferred: the next cell need not wait for it.
    """

    def __init__(self) -> None:
        #: Whether a cell is running: one that awaits may be in the middle of anything while the loop runs.
        self.in_cell = False
        #: Whether a checkpoint is being begun.
        self.is_beginning = False
        self._is_requested = False
        #: When a deferred checkpoint has to be due, in the loop's seconds; None if none is deferred.
        self._deadline: float | None = None
        #: Seconds that cells took whose changes are in no checkpoint yet.
        self._at_risk = 0.0
        #: Seconds that a fork takes.
        self.fork_seconds = 0.0

    @property
    def is_requested(self) -> bool:
        """Whether a checkpoint should be begun when no cell is running."""
        return self._is_requested

    @property
    def is_deferred(self) -> bool:
        """Whether a checkpoint is to be begun later, unless another one is begun before."""
        return self._deadline is not None

    @property
    def is_due(self) -> bool:
        """Whether a checkpoint should be begun now, outside of the loop."""
        return self._is_requested and not self.in_cell

    @property
    def has_unsaved_work(self) -> bool:
        """Whether a checkpoint is due, deferred or being begun: only this process has what cells have changed."""
        # In this order: see `begin`.
        return self.is_due or self.is_beginning or self._deadline is not None

    def request(self) -> None:
        """Make a checkpoint due as soon as no cell is running."""
        self._is_requested = True

    def end_cell(self, now: float, seconds: float, *, can_defer: bool, should_save: bool) -> float | None:
        """Record the end of a cell; return when `request_deferred` is to be called, None if nothing is deferred.

        Args:
            now: the loop's time in seconds; so is the time that is returned.
            seconds: how long the cell took.
            can_defer: whether the cell changed nothing that is saved, and no caller waits for the checkpoint.
            should_save: whether there is anything to save.
        """
        self.in_cell = False
        self._at_risk += seconds
        if can_defer:
            if self._deadline is None:
                self._deadline = now + MAX_DEFER_SECONDS
            return min(now + DEFER_SECONDS, self._deadline)
        self._is_requested = self._is_requested or should_save
        return None

    def request_deferred(self) -> None:
        """Make the deferred checkpoint due."""
        self._deadline = None
        self._is_requested = True

    def begin(self) -> None:
        """Record that a checkpoint is being begun; `end` follows."""
        # In this order: another thread may be about to end this process if there is no unsaved work.
        self.is_beginning, self._is_requested = True, False
        self._deadline = None

    def end(self) -> None:
        """Record that a checkpoint was begun, or could not be."""
        self.is_beginning = False

    def reset_risk(self) -> None:
        """Record that everything that cells have changed is being saved."""
        self._at_risk = 0.0

    def is_standby_worthwhile(self) -> bool:
        """Whether the cells whose changes are unsaved took much longer than a fork."""
        return self._at_risk > MIN_RISK_RATIO * self.fork_seconds
