"""Pending requests leave exactly once, on every path."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

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


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def _register(
    pending: PendingRequests, request_id: str, loop: asyncio.AbstractEventLoop, capability: str = "execute"
) -> asyncio.Future:
    answer = loop.create_future()
    pending.register(request_id, answer, capability=capability, execution_id=f"execution of {request_id}", timeout=7)
    return answer


def test_an_answer_is_delivered_once_and_its_timer_is_cancelled(
    timers: Timers, loop: asyncio.AbstractEventLoop
) -> None:
    pending = PendingRequests(timers.call_later)
    answer = _register(pending, "a", loop)
    assert pending.settle("a", 1)
    assert not pending.settle("a", 2)
    assert not pending.fail("a", SessionClosed("late"))
    timers.fire_all()
    assert answer.result() == 1
    assert not timers.active
    assert len(pending) == 0


def test_an_answer_whose_asker_was_cancelled_changes_nothing(timers: Timers, loop: asyncio.AbstractEventLoop) -> None:
    pending = PendingRequests(timers.call_later)
    for deliver in (pending.settle, pending.fail):
        answer = _register(pending, "a", loop)
        answer.cancel()
        assert deliver("a", SessionClosed("late"))
        assert answer.cancelled()
    assert not timers.active


def test_an_unknown_answer_changes_nothing(timers: Timers) -> None:
    pending = PendingRequests(timers.call_later)
    assert not pending.settle("unknown", 1)
    pending.discard("unknown")


@pytest.mark.parametrize(("capability", "kind"), [("execute", ExecutionTimeout), ("complete", RequestTimeout)])
def test_a_timeout_names_the_request(
    timers: Timers, loop: asyncio.AbstractEventLoop, capability: str, kind: type
) -> None:
    pending = PendingRequests(timers.call_later)
    answer = _register(pending, "a", loop, capability)
    timers.fire_all()
    error = answer.exception()
    assert type(error) is kind
    assert error.execution_id == "execution of a"
    assert error.fields == {"capability": capability, "request_id": "a", "timeout": 7}
    assert not pending.settle("a", "late")


def test_the_same_id_cannot_be_pending_twice(timers: Timers, loop: asyncio.AbstractEventLoop) -> None:
    pending = PendingRequests(timers.call_later)
    _register(pending, "a", loop)
    with pytest.raises(ValueError, match="pending already"):
        _register(pending, "a", loop)


STEP = st.tuples(st.sampled_from(["register", "settle", "fail", "discard", "close", "time"]), st.sampled_from("abcd"))


@given(st.lists(STEP, max_size=60))
def test_each_request_ends_at_most_once_whatever_happens(loop: asyncio.AbstractEventLoop, steps: list) -> None:
    timers = Timers()
    pending, answers = PendingRequests(timers.call_later), []
    discarded = 0
    for action, request_id in steps:
        match action:
            case "register" if request_id not in pending:
                answers.append(_register(pending, request_id, loop))
            case "settle":
                pending.settle(request_id, 1)
            case "fail":
                pending.fail(request_id, SessionClosed("x"))
            case "discard":
                discarded += request_id in pending
                pending.discard(request_id)
            case "close":
                pending.fail_all(lambda execution_id: SessionClosed("x", execution_id))
            case "time":
                timers.fire_all()
        assert len(timers.active) == len(pending) <= pending.high_water_mark
    pending.fail_all(lambda execution_id: SessionClosed("x", execution_id))
    assert sum(answer.done() for answer in answers) == len(answers) - discarded
    for answer in answers:
        if answer.done():
            answer.exception()
    assert not timers.active
