"""The log gets failures only, and each of those that repeat themselves once."""

from __future__ import annotations

import logging

import pytest

from capsule_durable.telemetry.bus import EventBus
from capsule_durable.telemetry.events import (
    CellStarted,
    CheckpointFailed,
    EngineChanged,
    LimitExceeded,
    StoreFailed,
    WorkerExited,
)
from capsule_durable.telemetry.log_observer import LogObserver

pytestmark = pytest.mark.fast


@pytest.fixture
def bus() -> EventBus:
    bus = EventBus()
    LogObserver(bus)
    return bus


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (WorkerExited(session_id="s", returncode=-9, peak_memory=209_000_000), "status -9 (peak memory 209 MB)"),
        (CheckpointFailed(session_id="s", reason="disk full"), "no checkpoint was saved: disk full"),
        (LimitExceeded(session_id="s", execution_id="e", limit="cpu_limit", value="9 s"), "exceeds cpu_limit: 9 s"),
        (EngineChanged(session_id="s", url="memory:", durable=False), "in memory only (memory:)"),
        (StoreFailed(session_id="s", store="engine", reason="read-only"), "the engine store cannot be used: read-only"),
    ],
)
def test_failures_are_warnings(bus: EventBus, caplog: pytest.LogCaptureFixture, event: object, text: str) -> None:
    bus.publish(event)  # type: ignore[arg-type]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert text in caplog.text


def test_success_is_not_logged(bus: EventBus, caplog: pytest.LogCaptureFixture) -> None:
    bus.publish(CellStarted(session_id="s", execution_id="e", execution_count=1, cell_id=None))
    bus.publish(EngineChanged(session_id="s", url="embedded:", durable=True))
    assert not caplog.records


def test_a_failure_that_repeats_itself_is_logged_once(bus: EventBus, caplog: pytest.LogCaptureFixture) -> None:
    for reason in ("disk full", "disk full", "read-only", "disk full"):
        bus.publish(StoreFailed(session_id="s", store="history", reason=reason))
    assert len(caplog.records) == 3
