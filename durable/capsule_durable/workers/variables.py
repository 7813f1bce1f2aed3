"""The variables of the current worker: saved and restored as checkpoints."""

from __future__ import annotations

from capsule_durable.checkpoints.service import CheckpointService
from capsule_durable.checkpoints.texts import not_restored
from capsule_durable.errors import ExecutionFailed
from capsule_durable.messaging.notices import Notices
from capsule_durable.messaging.session import Session
from capsule_durable.telemetry.bus import EventBus
from capsule_durable.telemetry.events import VariablesRestored
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol import messages as m

#: Seconds that the worker may take to save or restore its variables.
RESTORE_TIMEOUT = 600.0


class WorkerVariables:
    """Has the current worker save and restore its variables.

    Args:
        session: sends to the worker.
        checkpoints: the checkpoints of the kernel.
        notices: tells the user which variables were not restored.
        bus: gets ``VariablesRestored``.
        session_id: the session, for events.
    """

    def __init__(
        self, session: Session, checkpoints: CheckpointService, notices: Notices, bus: EventBus, session_id: str
    ) -> None:
        self._session = session
        self._checkpoints = checkpoints
        self._notices = notices
        self._bus = bus
        self._session_id = session_id

    async def save(self, description: str) -> str | None:
        """Save the variables and return the checkpoint; None if checkpoints are off.

        Args:
            description: what the checkpoint is for.

        Raises:
            ExecutionFailed: the worker cannot save them.
        """
        if not await self._checkpoints.is_enabled():
            return None
        message = m.CheckpointMessage(id=self._session.next_request_id(), description=description)
        checkpoint: str = (await self._session.ask(message, RESTORE_TIMEOUT)).checkpoint_id
        return checkpoint

    async def restore_to(self, checkpoint: str) -> None:
        """Restore the variables to the state of a checkpoint; variables that it does not have are deleted.

        Args:
            checkpoint: id of the checkpoint, of any session.

        Raises:
            CapsuleError: the checkpoint does not exist any more, or the worker cannot restore it.
        """
        await self.restore(await self._checkpoints.fetch(checkpoint), clear=True)

    async def restore(self, manifest: mf.Manifest, *, clear: bool = False) -> None:
        """Restore variables; tell the user which ones failed, except those that the checkpoint does not have.

        Args:
            manifest: the checkpoint.
            clear: whether to delete the variables that exist now.

        Raises:
            ExecutionFailed: the worker cannot restore them; only with ``clear``.
        """
        message = m.RestoreMessage(id=self._session.next_request_id(), manifest=mf.dump(manifest), clear_existing=clear)
        try:
            reply = await self._session.ask(message, RESTORE_TIMEOUT)
        except ExecutionFailed as error:
            self._notices.add(f"the variables could not be restored: {error}")
            if clear:
                raise
            return
        self._bus.publish(
            VariablesRestored(session_id=self._session_id, checkpoint_id=manifest.id, failed=dict(reply.failed))
        )
        announced = {each.name for each in manifest.variables if each.reason is not None}
        failed = {name: reason for name, reason in reply.failed.items() if name not in announced}
        problem = not_restored(manifest, failed, self._checkpoints.session_id or "")
        problems = [*([problem] if problem else []), *(f"Not restored: {note}." for note in reply.notes)]
        if problems:
            self._notices.add(" ".join(problems))
