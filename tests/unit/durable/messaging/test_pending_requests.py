"""Pending requests leave exactly once, on every path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule_durable.errors import ExecutionTimeout, RequestTimeout, SessionClosed
from capsule_durable.messaging.pending_requests import PendingRequests


class Timers:
    """Timers that fire when told to."""

    def __init__(self) -> None:
        self.active: dict[int, object] = {}
        self._count = 0

    def call_later(self, _seconds: float, function):
        self._count += 1
        number = self._count
        self.active[number] = function
        timers = self

        class Timer:
            def cancel(self) -> None:
                timers.active.pop(number, None)

        return Timer()

    def fire_all(self) -> None:
        for function in list(self.active.values()):
            function()


@pytest.fixture
def timers() -> Timers:
    return Timers()


def _expect(correlator: PendingRequests, request_id: str, told: list, capability: str = "execute") -> None:
    correlator.register(
        request_id,
        capability=capability,
        execution_id=f"execution of {request_id}",
        timeout=7,
        settle=lambda answer: told.append((request_id, answer)),
        fail=lambda error: told.append((request_id, error)),
    )


def test_an_answer_is_delivered_once_and_its_timer_is_cancelled(timers: Timers) -> None:
    correlator, told = PendingRequests(timers.call_later), []
    _expect(correlator, "a", told)
    assert correlator.settle("a", 1)
    assert not correlator.settle("a", 2)
    assert not correlator.fail("a", SessionClosed("late"))
    timers.fire_all()
    assert told == [("a", 1)]
    assert not timers.active
    assert len(correlator) == 0


def test_an_unknown_answer_changes_nothing(timers: Timers) -> None:
    correlator = PendingRequests(timers.call_later)
    assert not correlator.settle("nobody", 1)
    correlator.discard("nobody")


@pytest.mark.parametrize(("capability", "kind"), [("execute", ExecutionTimeout), ("complete", RequestTimeout)])
def test_a_timeout_says_what_was_asked_for(timers: Timers, capability: str, kind: type) -> None:
    correlator, told = PendingRequests(timers.call_later), []
    _expect(correlator, "a", told, capability)
    timers.fire_all()
    ((_, error),) = told
    assert type(error) is kind
    assert error.execution_id == "execution of a"
    assert error.fields == {"capability": capability, "request_id": "a", "timeout": 7}
    assert not correlator.settle("a", "late")


def test_the_same_id_cannot_be_pending_twice(timers: Timers) -> None:
    correlator = PendingRequests(timers.call_later)
    _expect(correlator, "a", [])
    with pytest.raises(ValueError, match="pending already"):
        _expect(correlator, "a", [])


STEP = st.tuples(st.sampled_from(["expect", "settle", "fail", "discard", "close", "time"]), st.sampled_from("abcd"))


@given(st.lists(STEP, max_size=60))
def test_whatever_happens_each_request_is_told_at_most_once_and_nothing_stays(steps) -> None:
    timers = Timers()
    correlator, told, expected = PendingRequests(timers.call_later), [], 0
    discarded = 0
    for action, request_id in steps:
        match action:
            case "expect" if request_id not in correlator:
                _expect(correlator, request_id, told)
                expected += 1
            case "settle":
                correlator.settle(request_id, 1)
            case "fail":
                correlator.fail(request_id, SessionClosed("x"))
            case "discard":
                discarded += request_id in correlator
                correlator.discard(request_id)
            case "close":
                correlator.fail_all(lambda execution_id: SessionClosed("x", execution_id))
            case "time":
                timers.fire_all()
        assert len(timers.active) == len(correlator) <= correlator.high_water_mark
    correlator.fail_all(lambda execution_id: SessionClosed("x", execution_id))
    assert len(told) == expected - discarded
    assert not timers.active
