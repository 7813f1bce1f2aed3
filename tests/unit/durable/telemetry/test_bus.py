"""The event bus: which observer gets which events, and what one that fails or is slow costs the others."""

from __future__ import annotations

import dataclasses
import logging
from itertools import chain, repeat
from typing import Any

import pytest

from capsule_durable.telemetry.bus import SLOW_OBSERVER, EventBus
from capsule_durable.telemetry.events import (
    EVENT_TYPES,
    CellEnded,
    Event,
    KernelSessionEnded,
    StoreFailed,
    VariablesRestored,
)

pytestmark = pytest.mark.fast

ENDED = KernelSessionEnded(session_id="s", reason="shutdown")
FAILED = StoreFailed(session_id="s", store="history", reason="no space left on device")


class Seen:
    """An observer that remembers events, and raises if it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.events: list[Event] = []
        self._error = error

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        if self._error is not None:
            raise self._error


def test_an_observer_sees_only_the_types_that_it_asked_for() -> None:
    bus, some, every = EventBus(), Seen(), Seen()
    bus.subscribe(some, StoreFailed, CellEnded)
    bus.subscribe(every)
    bus.publish(ENDED)
    bus.publish(FAILED)
    assert some.events == [FAILED]
    assert every.events == [ENDED, FAILED]


def test_an_observer_that_raises_is_logged_once_per_type_and_does_not_disturb_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus, bad, good = EventBus(), Seen(ValueError("broken")), Seen()
    for observer in (bad, good):
        bus.subscribe(observer)
    for event in (FAILED, FAILED, ENDED, FAILED):
        bus.publish(event)
    assert good.events == bad.events == [FAILED, FAILED, ENDED, FAILED]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert ["StoreFailed" in caplog.messages[0], "KernelSessionEnded" in caplog.messages[1]] == [True, True]


@pytest.mark.parametrize(("seconds", "reports"), [(SLOW_OBSERVER * 2, 1), (SLOW_OBSERVER / 2, 0)])
def test_a_slow_observer_is_reported(caplog: pytest.LogCaptureFixture, seconds: float, reports: int) -> None:
    times = chain([0.0, seconds], repeat(seconds))
    bus = EventBus(clock=lambda: next(times))
    bus.subscribe(Seen(), KernelSessionEnded)
    bus.publish(ENDED)
    assert sum("ms on a KernelSessionEnded event" in text for text in caplog.messages) == reports


def test_an_observer_that_subscribes_meanwhile_sees_the_next_event() -> None:
    bus, late = EventBus(), Seen()

    class Subscriber:
        def on_event(self, event: Event) -> None:
            if not late.events:
                bus.subscribe(late, type(event))

    bus.subscribe(Subscriber(), KernelSessionEnded)
    bus.publish(ENDED)
    assert late.events == []
    bus.publish(ENDED)
    assert late.events == [ENDED]


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_events_are_frozen_and_have_the_common_fields(kind: type[Event]) -> None:
    names = [field.name for field in dataclasses.fields(kind)]
    assert names[:3] == ["at", "session_id", "execution_id"]
    fields: dict[str, Any] = {"session_id": "s", **dict.fromkeys(names[3:], ())}
    event = kind(**fields)
    assert not hasattr(event, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.session_id = "t"  # type: ignore[misc]
    assert event.at > 0


def test_an_observer_cannot_change_an_event_or_what_it_was_made_from() -> None:
    failed = {"gen": "a generator"}
    event = VariablesRestored(session_id="s", checkpoint_id="c", failed=failed)
    with pytest.raises(TypeError):
        event.failed["other"] = "changed"  # type: ignore[index]
    failed.clear()
    assert event.failed == {"gen": "a generator"}
