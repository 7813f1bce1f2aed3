"""Writes the events that matter to an administrator to the log: those of level WARNING and above."""

from __future__ import annotations

import logging

from capsule_durable.telemetry.bus import EventBus
from capsule_durable.telemetry.events import (
    CheckpointFailed,
    EngineChanged,
    Event,
    LimitExceeded,
    StoreFailed,
    WorkerExited,
)

logger = logging.getLogger(__name__)


class LogObserver:
    """Logs failures. One that repeats itself is logged once.

    Args:
        bus: the events.
    """

    def __init__(self, bus: EventBus) -> None:
        self._last: dict[type[Event], str] = {}
        bus.subscribe(self, WorkerExited, CheckpointFailed, LimitExceeded, EngineChanged, StoreFailed)

    def on_event(self, event: Event) -> None:
        """Log an event."""
        match event:
            case WorkerExited():
                memory = event.peak_memory / 1e6
                logger.warning("the worker exited with status %d (peak memory %.0f MB)", event.returncode, memory)
            case LimitExceeded():
                logger.warning("execution %s exceeds %s: %s", event.execution_id, event.limit, event.value)
            case EngineChanged(durable=False):
                logger.warning("promises are stored in memory only (%s)", event.url)
            case CheckpointFailed():
                self._log_once(event, f"no checkpoint was saved: {event.reason}")
            case StoreFailed():
                self._log_once(event, f"the {event.store} store cannot be used: {event.reason}")
            case _:
                pass

    def _log_once(self, event: Event, text: str) -> None:
        if self._last.get(type(event)) != text:
            self._last[type(event)] = text
            logger.warning("%s", text)
