"""Tasks: offered to a listener, held by one process at a time, given to another when their owner is gone."""

from __future__ import annotations

import pytest
from resonate.error import ServerError
from resonate.send import Redirect, TaskRef
from resonate.types import PromiseRegisterCallbackData, PromiseSettleReq, Value

from tests.support.engines import BEGINNING, FAR, TTL, Engine, creation, in_process_lacks
from tests.support.worker import settle

pytestmark = pytest.mark.asyncio


def settlement(promise_id: str, value: str = "ZG9uZQ==") -> PromiseSettleReq:
    return PromiseSettleReq(id=promise_id, state="resolved", value=Value(data=value))


def waiting_for(task_id: str, *promises: str) -> list[PromiseRegisterCallbackData]:
    return [PromiseRegisterCallbackData(awaited=promise_id, awaiter=task_id) for promise_id in promises]


async def refused(request: object) -> int:
    """Return the code with which a request is refused."""
    with pytest.raises(ServerError) as caught:
        await request
    return caught.value.code


async def test_a_promise_with_a_target_is_offered_as_a_task(engine: Engine) -> None:
    made = await engine.create("a", target=engine.target)
    await settle()
    ((task_id, version),) = engine.offers()
    taken = await engine.sender.task_acquire(task_id, version, "p1", TTL)
    assert (taken.task.id, taken.task.state, taken.promise, taken.preload) == ("a", "acquired", made, [])
    assert (taken.task.pid, taken.task.ttl) == ("p1", TTL)


async def test_a_promise_without_a_target_is_not_a_task(engine: Engine) -> None:
    await engine.create("a")
    await engine.pass_time(100_000)
    assert engine.offers() == []
    assert await refused(engine.sender.task_acquire("a", 0, "p1", TTL)) in {404, 409}


async def test_a_task_is_taken_once(engine: Engine) -> None:
    await engine.create("a", target=engine.target)
    task_id, version = await engine.acquire_offered()
    assert await refused(engine.sender.task_acquire(task_id, version, "p2", TTL)) == 409
    assert await refused(engine.sender.task_acquire("b", 0, "p2", TTL)) == 404
    await engine.pass_time(1)
    assert engine.offers() == []


async def test_a_task_can_be_made_and_taken_at_once(engine: Engine) -> None:
    request = creation("a", target=engine.target)
    taken = await engine.sender.task_create("p1", TTL, request)
    assert (taken.task.state, taken.promise.state, taken.preload) == ("acquired", "pending", [])
    assert await engine.sender.task_create_or_conflict("p2", TTL, request) == "conflict"
    await settle()
    assert engine.offers() == []
    await engine.sender.task_fulfill("a", taken.task.version, settlement("a"))
    over = await engine.sender.task_create("p2", TTL, request)
    assert (over.task.state, over.promise.state) == ("fulfilled", "resolved")


async def test_a_task_that_waits_to_be_taken_can_be_taken_by_its_id(engine: Engine) -> None:
    await engine.create("a", target=engine.target)
    taken = await engine.sender.task_create("p1", TTL, creation("a", target=engine.target))
    assert taken.task.state == "acquired"
    ((task_id, version),) = engine.offers() or [("a", 0)]
    assert await refused(engine.sender.task_acquire(task_id, version, "p2", TTL)) == 409


async def test_task_create_refuses_a_promise_that_is_not_a_task(engine: Engine) -> None:
    await engine.create("a")
    assert await engine.sender.task_create_or_conflict("p1", TTL, creation("a")) == "conflict"


async def test_a_task_that_is_made_too_late_is_over(engine: Engine) -> None:
    taken = await engine.sender.task_create("p1", TTL, creation("a", BEGINNING - 1, target=engine.target))
    assert (taken.task.state, taken.promise.state) == ("fulfilled", "rejected_timedout")


async def test_the_owner_of_a_task_creates_and_settles_its_steps(engine: Engine) -> None:
    version = await engine.begin("a")
    made = await engine.sender.task_fence_create("a", version, creation("a:1", parent="a"))
    assert made.promise.state == "pending"
    settled = await engine.sender.task_fence_settle("a", version, settlement("a:1"))
    assert settled.promise.state == "resolved"
    again = await engine.sender.task_fence_create("a", version, creation("a:1", parent="a"))
    assert again.promise == settled.promise


async def test_a_process_that_does_not_own_a_task_changes_nothing(engine: Engine) -> None:
    version = await engine.begin("a")
    await engine.create("b", target=engine.target)
    assert await refused(engine.sender.task_fence_create("a", version + 1, creation("a:1"))) == 409
    assert await refused(engine.sender.task_fence_settle("a", version - 1, settlement("a"))) == 409
    assert await refused(engine.sender.task_fence_create("b", 0, creation("b:1"))) == 409
    assert await refused(engine.sender.task_fence_create("c", 0, creation("c:1"))) == 404
    assert await refused(engine.sender.promise_get("a:1")) == 404
    assert (await engine.sender.promise_get("a")).state == "pending"


@in_process_lacks("looks at versions in task.fence only")
async def test_old_versions_are_refused_everywhere(engine: Engine) -> None:
    version = await engine.begin("a")
    await engine.create("a:1")
    await engine.create("b", target=engine.target)
    for old in (version - 1, version + 1):
        assert await refused(engine.sender.task_suspend("a", old, waiting_for("a", "a:1"))) == 409
        assert await refused(engine.sender.task_release("a", old)) == 409
        assert await refused(engine.sender.task_fulfill("a", old, settlement("a"))) == 409
    await settle()
    ((task_id, offered),) = engine.offers()
    assert await refused(engine.sender.task_acquire(task_id, offered + 1, "p1", TTL)) == 409
    assert (await engine.sender.promise_get("a")).state == "pending"
    await engine.sender.task_fulfill("a", version, settlement("a"))


async def test_a_task_ends_with_its_promise(engine: Engine) -> None:
    version = await engine.begin("a")
    await engine.sender.promise_register_listener("a", engine.address)
    settled = await engine.sender.task_fulfill("a", version, settlement("a"))
    await settle()
    assert (settled.state, settled.value.data) == ("resolved", "ZG9uZQ==")
    assert engine.told() == [settled]
    for request in (
        engine.sender.task_fulfill("a", version, settlement("a")),
        engine.sender.task_release("a", version),
        engine.sender.task_suspend("a", version, []),
        engine.sender.task_fence_create("a", version, creation("a:1")),
        engine.sender.task_acquire("a", version, "p1", TTL),
    ):
        assert await refused(request) == 409
    await engine.pass_time(100_000)
    assert engine.offers() == []


async def test_a_promise_that_is_settled_from_elsewhere_ends_its_task(engine: Engine) -> None:
    version = await engine.begin("a")
    await engine.create("b", target=engine.target)
    for name in "ab":
        await engine.settle(name)
    assert await refused(engine.sender.task_fulfill("a", version, settlement("a", "bGF0ZQ=="))) == 409
    await settle()
    engine.offers()
    assert await refused(engine.sender.task_acquire("b", 0, "p1", TTL)) == 409
    await engine.pass_time(100_000)
    assert engine.offers() == []


async def test_a_suspended_task_continues_when_its_promise_is_settled(engine: Engine) -> None:
    version = await engine.begin("a")
    for name in ("a:1", "a:2"):
        await engine.sender.task_fence_create("a", version, creation(name, parent="a", branch="a"))
    assert await engine.sender.task_suspend("a", version, waiting_for("a", "a:1", "a:2")) == "suspended"
    await engine.pass_time(10 * TTL)
    assert engine.offers() == []
    await engine.settle("a:2", "dmFsdWU=")
    await settle()
    ((task_id, offered),) = engine.offers()
    taken = await engine.sender.task_acquire(task_id, offered, "p1", TTL)
    assert taken.task.id == "a"
    assert {step.id: step.state for step in taken.preload} == {"a:1": "pending", "a:2": "resolved"}
    await engine.settle("a:1")
    await settle()
    assert engine.offers() == []


async def test_a_task_whose_wish_is_fulfilled_already_is_not_suspended(engine: Engine) -> None:
    version = await engine.begin("a")
    for name in ("a:1", "a:2"):
        await engine.sender.task_fence_create("a", version, creation(name, parent="a", branch="a"))
    await engine.settle("a:2")
    on = await engine.sender.task_suspend("a", version, waiting_for("a", "a:1", "a:2"))
    assert isinstance(on, Redirect)
    assert {step.id: step.state for step in on.preload} == {"a:1": "pending", "a:2": "resolved"}
    await engine.sender.task_fulfill("a", version, settlement("a"))


async def test_a_promise_that_timed_out_is_not_waited_for(engine: Engine) -> None:
    version = await engine.begin("a")
    await engine.create("a:1", BEGINNING + 10)
    engine.clock.advance(10)
    assert isinstance(await engine.sender.task_suspend("a", version, waiting_for("a", "a:1")), Redirect)


@in_process_lacks("lets a task wait for what does not exist, and so indefinitely")
async def test_a_task_cannot_wait_for_an_unknown_promise(engine: Engine) -> None:
    version = await engine.begin("a")
    assert await refused(engine.sender.task_suspend("a", version, waiting_for("a", "a:1"))) == 422


async def test_a_task_that_is_released_is_offered_again(engine: Engine) -> None:
    version = await engine.begin("a")
    await engine.sender.task_release("a", version)
    assert await refused(engine.sender.task_fulfill("a", version, settlement("a"))) == 409
    await engine.pass_time(1000)
    task_id, _ = await engine.acquire_offered()
    assert task_id == "a"


@in_process_lacks("offers it again at once, and so thousands of times a second if its error stays")
async def test_a_task_that_is_released_is_offered_after_a_pause(engine: Engine) -> None:
    version = await engine.begin("a")
    await engine.sender.task_release("a", version)
    await settle()
    assert engine.offers() == []


async def test_a_task_whose_owner_is_silent_goes_to_another(engine: Engine) -> None:
    version = await engine.begin("a")
    await engine.pass_time(TTL - 1)
    assert engine.offers() == []
    await engine.pass_time(1)
    task_id, newer = await engine.acquire_offered()
    assert (task_id, newer > version) == ("a", True)
    assert await refused(engine.sender.task_fence_create("a", version, creation("a:1"))) == 409
    await engine.sender.task_fence_create("a", newer, creation("a:1"))


async def test_an_owner_that_is_heard_of_keeps_its_tasks(engine: Engine) -> None:
    versions = {name: await engine.begin(name) for name in "ab"}
    for _ in range(4):
        await engine.pass_time(TTL - 1)
        await engine.sender.task_heartbeat("p1", [TaskRef(id=name, version=v) for name, v in versions.items()])
    await engine.pass_time(1)
    assert engine.offers() == []
    for name, version in versions.items():
        await engine.sender.task_fulfill(name, version, settlement(name))


async def test_only_an_owner_prolongs_its_lease(engine: Engine) -> None:
    version = await engine.begin("a")
    engine.clock.advance(TTL - 1)
    await engine.sender.task_heartbeat("p2", [TaskRef(id="a", version=version)])
    await engine.sender.task_heartbeat("p1", [TaskRef(id="a", version=version + 1), TaskRef(id="b", version=0)])
    await engine.pass_time(1)
    assert [task_id for task_id, _ in engine.offers()] == ["a"]


async def test_an_offer_that_no_process_takes_is_repeated(engine: Engine) -> None:
    await engine.create("a", target=engine.target)
    await settle()
    first = engine.offers()
    await engine.pass_time(1000)
    assert engine.offers() == []
    await engine.pass_time(30_000)
    assert engine.offers() == first


async def test_a_task_can_be_for_later(engine: Engine) -> None:
    await engine.create("a", target=engine.target, delay=str(BEGINNING + 10_000))
    await engine.pass_time(9_999)
    assert engine.offers() == []
    await engine.pass_time(1)
    assert engine.offers() == [("a", 0)]


@in_process_lacks("makes a task of it, which the SDK drops again and again")
async def test_a_timer_is_not_a_task(engine: Engine) -> None:
    await engine.create("a", BEGINNING + 10, target=engine.target, timer="true")
    await engine.pass_time(5)
    assert engine.offers() == []
    await engine.pass_time(5)
    assert (await engine.sender.promise_get("a")).state == "resolved"


async def test_a_timer_wakes_the_task_that_waits_for_it(engine: Engine) -> None:
    version = await engine.begin("a")
    await engine.create("a:1", BEGINNING + 10, target=engine.target, timer="true")
    engine.offers()
    assert await engine.sender.task_suspend("a", version, waiting_for("a", "a:1")) == "suspended"
    await engine.pass_time(10)
    assert [task_id for task_id, _ in engine.offers() if task_id == "a"] == ["a"]


async def test_a_task_that_timed_out_is_not_offered(engine: Engine) -> None:
    version = await engine.begin("a", BEGINNING + 10)
    await engine.create("a:1")
    await engine.sender.task_suspend("a", version, waiting_for("a", "a:1"))
    await engine.pass_time(10)
    await engine.settle("a:1")
    await engine.pass_time(100_000)
    assert engine.offers() == []
    assert (await engine.sender.promise_get("a")).state == "rejected_timedout"


async def test_two_tasks_may_wait_for_one_promise(engine: Engine) -> None:
    await engine.create("x", FAR)
    for name in "ab":
        version = await engine.begin(name)
        assert await engine.sender.task_suspend(name, version, waiting_for(name, "x")) == "suspended"
    await engine.settle("x")
    await settle()
    assert sorted(task_id for task_id, _ in engine.offers()) == ["a", "b"]
