"""The engine that stores promises now: the configured one, or one in memory while that cannot be used."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, Literal

from resonate.error import ConnectorError, ResonateError
from resonate.types import Value

from capsule_durable.engines.base import Engine
from capsule_durable.engines.memory import MemoryEngine
from capsule_durable.errors import EngineUnavailable
from capsule_durable.execution import functions
from capsule_durable.messaging.notices import Notices
from capsule_durable.storage.errors import StoreError
from capsule_durable.telemetry.bus import EventBus
from capsule_durable.telemetry.events import EngineChanged, StoreFailed

logger = logging.getLogger(__name__)

#: Seconds after which an engine that could not be used is tried again.
RETRY_SECONDS = 30.0
#: Seconds between attempts to settle a promise: the first delay and the longest; each delay doubles the one before.
_FIRST_DELAY_SECONDS, _LAST_DELAY_SECONDS = 0.05, 1.0


class FailoverEngine:
    """Opens the configured engine; falls back to memory where its store cannot be used, and tries again later.

    Args:
        open_engine: opens it; raises ``StoreError`` or ``EngineUnavailable`` if it cannot be used.
        notices: tells the user what is not recorded.
        bus: gets ``EngineChanged`` and ``StoreFailed``.
        session_id: the session, for events.
        close_timeout: seconds that an engine may take to close.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        open_engine: Callable[[], Engine],
        notices: Notices,
        bus: EventBus,
        session_id: str,
        close_timeout: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open = open_engine
        self._notices = notices
        self._bus = bus
        self._session_id = session_id
        self._close_timeout = close_timeout
        self._clock = clock
        self._dependencies: tuple[object, ...] = ()
        #: When to try the configured engine again, by the clock; None while it is in use.
        self.retry_at: float | None = None
        self.current: Engine
        try:
            self.current = open_engine()
        except (StoreError, EngineUnavailable) as error:
            self._report(error)
            self.current = MemoryEngine()

    def start(self, *dependencies: object) -> None:
        """Start the engine.

        Args:
            dependencies: what durable functions get from their context, by type; later engines get the same.
        """
        self._dependencies = dependencies
        self._start(self.current)

    async def retry_if_due(self) -> None:
        """Return to the configured engine if it was unusable long enough ago and can be used again."""
        if self.retry_at is None or self._clock() < self.retry_at:
            return
        try:
            engine = self._open()
        except (StoreError, EngineUnavailable):
            self.retry_at = self._clock() + RETRY_SECONDS
            return
        self.retry_at = None
        await self._change(engine)
        self._notices.add("Results are being recorded again.")

    async def fall_back(self, error: Exception) -> None:
        """Continue with an engine in memory.

        Args:
            error: why the current engine cannot be used.
        """
        self._report(error)
        await self._change(MemoryEngine())

    async def settle(self, how: Literal["resolve", "reject", "cancel"], promise_id: str, record: Any = None) -> bool:
        """Settle a promise, after several attempts if necessary; return whether it is settled.

        Args:
            how: which way.
            promise_id: the promise.
            record: its value.
        """
        settle, delay = getattr(self.current.resonate.promises, how), _FIRST_DELAY_SECONDS
        while True:
            try:
                await settle(promise_id, Value(data=record))
            except ResonateError as error:
                if delay <= _LAST_DELAY_SECONDS and _is_retryable(error):
                    await asyncio.sleep(delay)
                    delay *= 2
                    continue
                logger.error("promise %s could not be settled: %s", promise_id, error)  # noqa: TRY400  # not ours
                return False
            return True

    async def close(self) -> None:
        """Close the current engine."""
        await self._close(self.current)

    def _report(self, error: Exception) -> None:
        self.retry_at = self._clock() + RETRY_SECONDS
        self._bus.publish(StoreFailed(session_id=self._session_id, store="engine", reason=str(error)))
        self._notices.add(
            f"Results are not being recorded: {error}. Cells still run, but their outputs cannot be recovered if the"
            " kernel dies."
        )

    async def _change(self, engine: Engine) -> None:
        before, self.current = self.current, engine
        self._start(engine)
        self._bus.publish(EngineChanged(session_id=self._session_id, url=engine.url, durable=engine.durable))
        await self._close(before)

    def _start(self, engine: Engine) -> None:
        for dependency in self._dependencies:
            engine.resonate.with_dependency(dependency)
        functions.register(engine.resonate)
        engine.start()

    async def _close(self, engine: Engine) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(engine.close(), self._close_timeout)


def _is_retryable(error: ResonateError) -> bool:
    """Return whether the same request may succeed soon."""
    return isinstance(error, ConnectorError) and getattr(error.error, "retryable", False)
