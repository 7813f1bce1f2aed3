"""Which variables are restored after a crash of the worker, and when a kernel starts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from capsule_durable.checkpoints import texts
from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.models import SessionRow
from capsule_durable.checkpoints.service import CheckpointService, CheckpointsUnavailable
from capsule_durable.errors import CapsuleError
from capsule_durable.storage.process_identity import has_same_boot
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol import messages as m

#: Seconds to wait for the writers of a kernel that was killed.
LAST_WRITERS_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class RecoveredState:
    """What a new worker begins with.

    Args:
        manifest: the checkpoint to restore; None if there is none, or if it has the state already.
        text: what to tell the user, in whole sentences.
        restored_to: the number of the cell after which that state was taken; None if nothing is restored.
        lost: the numbers of the cells whose changes are lost.
    """

    manifest: mf.Manifest | None
    text: str
    restored_to: int | None = None
    lost: list[int] = field(default_factory=list)


class Recovery:
    """Chooses the state to restore after a crash.

    Args:
        checkpoints: the kernel's checkpoints.
    """

    def __init__(self, checkpoints: CheckpointService) -> None:
        self._checkpoints = checkpoints

    async def after_death(self) -> RecoveredState:
        """Return the state to restore after a crash of the worker: the current checkpoint, or the newest that is whole.

        The dead worker's writers have ended.
        """
        try:
            return await self._checkpoints.run(self._after_death)
        except (CapsuleError, OSError) as error:
            return RecoveredState(None, f"Your variables are lost: {error}.")

    def _after_death(self, _: Catalogue, session: SessionRow) -> RecoveredState:
        manifest = self._checkpoints.latest_whole()
        if manifest is None:
            return RecoveredState(None, "There was no checkpoint yet, so there is nothing to restore.")
        self._note("checkpoint", manifest.execution_count)
        lost = self._checkpoints.restored_to(manifest)
        text = texts.after_crash(manifest, session.id, lost)
        return RecoveredState(manifest, text, manifest.execution_count, lost)

    def took_over(self, execution_count: int) -> RecoveredState:
        """Record that a standby takes the place of the worker.

        Args:
            execution_count: the number of the cell after which the standby was forked.
        """
        lost = self._checkpoints.cells.restore_to(execution_count)
        self._note("standby", execution_count)
        text = f"Your variables are restored to their state after In [{execution_count}]. You can continue."
        return RecoveredState(None, text, execution_count, lost)

    async def at_start(self) -> RecoveredState | None:
        """Return the state with which a kernel starts; None if it starts empty.

        It is the state of the same kernel's earlier process, if that was killed; or the state of the notebook's last
        session, if the settings say so.
        """
        try:
            return await self._checkpoints.run(self._at_start)
        except CheckpointsUnavailable:
            return None
        except (CapsuleError, OSError) as error:
            return RecoveredState(None, f"The variables of the kernel's earlier process are lost: {error}.")

    def _at_start(self, catalogue: Catalogue, session: SessionRow) -> RecoveredState | None:
        killed = catalogue.sessions.killed(session.id)
        if killed is None:
            return self._of_notebook(catalogue, session)
        finished = self._end(catalogue, killed)
        beginning = "The kernel was killed and has restarted."
        late = f"its last checkpoint was not finished after {LAST_WRITERS_SECONDS:g} s"
        if finished is None:
            resume = f"%capsule resume {killed.id} restores the one before"
            return RecoveredState(None, f"{beginning} Nothing is restored: {late}; {resume}.")
        if not finished:
            beginning = f"The kernel was killed and has restarted; {late}."
        return self._restore_from(catalogue, session, killed, beginning)

    def _of_notebook(self, catalogue: Catalogue, session: SessionRow) -> RecoveredState | None:
        """Return the state or the offer that another kernel's last session of the notebook leaves; None for neither."""
        resume = self._checkpoints.settings.resume
        if resume == "never" or not session.notebook:
            return None
        for one in catalogue.sessions.all():
            if one.notebook == session.notebook and one.ended is None and not catalogue.sessions.is_running(one):
                self._end(catalogue, one)
        previous = catalogue.sessions.previous(session.id)
        if previous is None or previous.kernel == session.kernel:
            return None
        with catalogue.sessions.access(previous) as access:
            if not access.allows("recover"):
                return None
        if resume == "auto":
            beginning = "This continues your last session of this notebook."
            return self._restore_from(catalogue, session, previous, beginning)
        entry = catalogue.head(previous.id) or catalogue.newest(previous.id)
        return RecoveredState(None, texts.offered(entry)) if entry is not None else None

    def _end(self, catalogue: Catalogue, session: SessionRow) -> bool | None:
        """List what a session has whose kernel was killed, and end it.

        Returns:
            Whether its last checkpoint is complete; None if its front or its writers may be running, so that it is left
            alone.
        """
        with catalogue.sessions.access(session, LAST_WRITERS_SECONDS) as access:
            if not access.allows("recover"):
                return None
            if not access.has_writers and session.identity is not None and has_same_boot(session.identity):
                catalogue.incoming.finish(session.id)
            catalogue.incoming.import_session(session.id)
            catalogue.sessions.end(session.id)
            return not access.has_writers

    def _restore_from(
        self, catalogue: Catalogue, session: SessionRow, earlier: SessionRow, beginning: str
    ) -> RecoveredState:
        """Return the current state of an earlier session."""
        entry = catalogue.head(earlier.id) or catalogue.newest(earlier.id)
        if entry is None:
            return RecoveredState(None, f"{beginning} It had no checkpoint, so its variables are lost.")
        manifest = self._checkpoints.fetch_entry(entry)
        catalogue.set_head(session.id, entry.id)
        self._note("checkpoint", manifest.execution_count)
        text = texts.from_another_session(manifest, session.id, beginning)
        return RecoveredState(manifest, text, manifest.execution_count)

    def _note(self, source: m.RestoreSource, execution_count: int) -> None:
        self._checkpoints.recovery = m.RecoveryStatus(source=source, time=time.time(), execution_count=execution_count)
