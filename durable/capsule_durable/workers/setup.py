"""Prepares each new worker: checkpoint configuration, variables, comms and breakpoints."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from capsule_durable.checkpoints.recovery import RecoveredState, Recovery
from capsule_durable.checkpoints.service import CheckpointService
from capsule_durable.errors import ExecutionFailed
from capsule_durable.messaging.comm_registry import CommRegistry
from capsule_durable.messaging.debug_state import DebugRelay
from capsule_durable.messaging.notices import Notices
from capsule_durable.messaging.session import Session
from capsule_durable.telemetry.bus import EventBus
from capsule_durable.telemetry.events import WorkerStarted
from capsule_durable.workers.variables import RESTORE_TIMEOUT, WorkerVariables
from capsule_worker.protocol import messages as m

logger = logging.getLogger(__name__)


class WorkerSetup:
    """Gives a new worker the state that the one before had.

    Args:
        session: sends to the worker.
        checkpoints: the checkpoints of the kernel.
        recovery: determines the variables of the first worker.
        variables: restores variables.
        comms: the comms that the client knows.
        debug: the client's debugger.
        notices: tells the user what was restored or lost.
        bus: gets ``WorkerStarted``.
        session_id: the session, for events.
    """

    def __init__(
        self,
        session: Session,
        checkpoints: CheckpointService,
        recovery: Recovery,
        variables: WorkerVariables,
        comms: CommRegistry,
        debug: DebugRelay,
        notices: Notices,
        bus: EventBus,
        session_id: str,
    ) -> None:
        self._session = session
        self._checkpoints = checkpoints
        self._recovery = recovery
        self._variables = variables
        self._comms = comms
        self._debug = debug
        self._notices = notices
        self._bus = bus
        self._session_id = session_id
        #: Set when it is known what the first worker gets.
        self._is_known = asyncio.Event()
        #: The state that the next worker gets.
        self.recovered: RecoveredState | None = None
        #: What the current worker has reported of itself; None until the first worker is ready.
        self.ready: m.ReadyMessage | None = None

    async def inherit(self, *, wanted: bool) -> RecoveredState | None:
        """Return the state that the first worker gets from earlier processes, and tell the user.

        Workers are prepared after this. It needs no worker.

        Args:
            wanted: whether the session gets anything at all.
        """
        try:
            if wanted:
                self.recovered = await self._recovery.at_start()
                if self.recovered is not None:
                    self._notices.add(self.recovered.text)
        # A kernel without its variables is better than none.
        except Exception:
            logger.exception("the state of an earlier process could not be read")
        finally:
            self._is_known.set()
        return self.recovered

    async def prepare(self, ready: m.ReadyMessage) -> None:
        """Prepare a worker; it runs cells when this is done.

        Args:
            ready: what the worker has reported of itself.

        Raises:
            TransportClosed: the worker has ended.
        """
        self.ready = ready
        await self._is_known.wait()
        configuration = await self._checkpoints.configure()
        self._bus.publish(WorkerStarted(session_id=self._session_id, pid=ready.pid, python=ready.python_version))
        if configuration is not None:
            self._session.send(configuration)
            recovered, self.recovered = self.recovered, None
            if recovered is not None and recovered.manifest is not None:
                await self._variables.restore(recovered.manifest)
        with contextlib.suppress(ExecutionFailed):
            lost = await self._comms.close_lost(RESTORE_TIMEOUT)
            if lost:
                what = "a widget, or another comm," if lost == 1 else f"{lost} widgets, or other comms,"
                self._notices.add(f"{what} ended with the process: run the cells that show them again")
            await self._debug.restore(RESTORE_TIMEOUT)
