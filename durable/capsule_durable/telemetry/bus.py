"""Delivers events to their observers, on the loop of the front."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from capsule_durable.telemetry.events import EVENT_TYPES, Event

logger = logging.getLogger(__name__)

#: Seconds; an observer that takes longer for one event is reported, since the loop waits for it.
SLOW_OBSERVER = 0.05


class Observer(Protocol):
    """A subscriber. It must not block, and it cannot change anything."""

    def on_event(self, event: Event) -> None:
        """Handle an event."""


class EventBus:
    """Shows each event to the observers that subscribed to its type, in the order of their subscriptions.

    No control flow may depend on it: an observer that raises is logged, once for each type of event, and skipped.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._observers: dict[type[Event], list[Observer]] = {kind: [] for kind in EVENT_TYPES}
        #: Observers that raised, each with the type of the event.
        self._failed: set[tuple[int, type[Event]]] = set()

    def subscribe(self, observer: Observer, *types: type[Event]) -> None:
        """Show an observer all later events of some types.

        Args:
            observer: the observer.
            types: the types of events; without any, all types.
        """
        for kind in types or EVENT_TYPES:
            self._observers[kind].append(observer)

    def publish(self, event: Event) -> None:
        """Show an event to its observers before this returns. Never raises."""
        kind = type(event)
        for observer in tuple(self._observers[kind]):
            started = self._clock()
            try:
                observer.on_event(event)
            except Exception:
                if (id(observer), kind) not in self._failed:
                    self._failed.add((id(observer), kind))
                    logger.exception("observer %r raised on a %s event", observer, kind.__name__)
            elapsed = self._clock() - started
            if elapsed > SLOW_OBSERVER:
                logger.warning("observer %r took %.0f ms on a %s event", observer, elapsed * 1000, kind.__name__)
