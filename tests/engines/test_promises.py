"""Promises: created once, settled once, reported to each listener."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from resonate.error import ServerError
from resonate.send import PromiseSearchResult
from resonate.types import PromiseCreateReq, PromiseSettleReq, Value

from tests.support.engines import BEGINNING, FAR, NAMES, Engine, close_engine, in_process_lacks, open_engine
from tests.support.worker import settle

pytestmark = pytest.mark.asyncio


async def test_a_promise_is_what_it_was_made_of(engine: Engine) -> None:
    made = await engine.create("a", origin="a", colour="red")
    assert (made.id, made.state, made.timeout_at, made.created_at, made.settled_at) == (
        "a",
        "pending",
        FAR,
        BEGINNING,
        None,
    )
    assert made.tags == {"resonate:origin": "a", "resonate:colour": "red"}
    assert made.param == Value(data="cGFyYW0=")
    assert made.value == Value()
    assert await engine.sender.promise_get("a") == made


async def test_a_promise_is_made_once(engine: Engine) -> None:
    made = await engine.create("a")
    engine.clock.advance(5)
    assert await engine.create("a", FAR + 1, colour="red") == made


@pytest.mark.parametrize("state", ["resolved", "rejected", "rejected_canceled"])
async def test_a_promise_is_settled_once(engine: Engine, state: str) -> None:
    await engine.create("a")
    engine.clock.advance(5)
    settled = await engine.settle("a", "Zmlyc3Q=", state)
    assert (settled.state, settled.value, settled.settled_at) == (state, Value(data="Zmlyc3Q="), BEGINNING + 5)
    engine.clock.advance(5)
    assert await engine.settle("a", "c2Vjb25k", "rejected") == settled
    assert await engine.sender.promise_get("a") == settled
    assert await engine.create("a") == settled


async def test_an_unknown_promise_is_not_found(engine: Engine) -> None:
    for request in (
        engine.sender.promise_get("a"),
        engine.settle("a"),
        engine.sender.promise_register_listener("a", engine.address),
    ):
        with pytest.raises(ServerError) as caught:
            await request
        assert caught.value.code == 404


async def test_a_promise_that_is_made_too_late_is_settled_from_the_beginning(engine: Engine) -> None:
    late = await engine.create("a", BEGINNING - 5)
    assert (late.state, late.created_at, late.settled_at) == ("rejected_timedout", BEGINNING - 5, BEGINNING - 5)
    assert (await engine.create("b", BEGINNING, timer="true")).state == "resolved"
    assert (await engine.settle("a", "dmFsdWU=")) == late


async def test_a_promise_that_timed_out_is_settled_at_its_timeout(engine: Engine) -> None:
    await engine.create("a", BEGINNING + 10)
    engine.clock.advance(50)
    found = await engine.settle("a", "dmFsdWU=")
    assert (found.state, found.settled_at, found.value) == ("rejected_timedout", BEGINNING + 10, Value())


@pytest.mark.parametrize("state", ["resolved", "rejected", "rejected_canceled"])
async def test_a_listener_is_told_once(engine: Engine, state: str) -> None:
    await engine.create("a")
    for _ in range(2):
        pending = await engine.sender.promise_register_listener("a", engine.address)
        assert pending.state == "pending"
    settled = await engine.settle("a", "dmFsdWU=", state)
    await settle()
    assert engine.told() == [settled]
    await engine.settle("a")
    await engine.pass_time(100_000)
    assert engine.told() == []


async def test_a_late_listener_is_told_at_once(engine: Engine) -> None:
    await engine.create("a")
    settled = await engine.settle("a", "dmFsdWU=")
    assert await engine.sender.promise_register_listener("a", engine.address) == settled
    await settle()
    assert engine.told() == []


@in_process_lacks("sends a message of it that the SDK cannot read")
async def test_a_listener_is_told_of_a_timeout(engine: Engine) -> None:
    await engine.create("a", BEGINNING + 10, target=engine.target)
    await engine.sender.promise_register_listener("a", engine.address)
    await engine.pass_time(9)
    assert engine.told() == []
    await engine.pass_time(5)
    (told,) = engine.told()
    assert (told.id, told.state, told.settled_at) == ("a", "rejected_timedout", BEGINNING + 10)


@in_process_lacks("ends promises without a target only when they are touched")
async def test_every_promise_ends_by_itself(engine: Engine) -> None:
    await engine.create("a", BEGINNING + 10)
    await engine.create("b", BEGINNING + 20, timer="true")
    for name in "ab":
        await engine.sender.promise_register_listener(name, engine.address)
    await engine.pass_time(10)
    assert [(told.id, told.state) for told in engine.told()] == [("a", "rejected_timedout")]
    await engine.pass_time(10)
    assert [(told.id, told.state) for told in engine.told()] == [("b", "resolved")]


async def test_unknown_and_invalid_requests_are_refused(engine: Engine) -> None:
    for kind, data in (("promise.paint", {}), ("promise.get", {}), ("promise.get", {"id": ""}), ("task.create", {})):
        with pytest.raises(ServerError) as caught:
            await engine.sender._send_envelope(kind, data, allow_409=False)
        assert 400 <= caught.value.code < 600


@in_process_lacks("resolves a promise that is settled to a state which does not exist")
async def test_a_promise_is_not_settled_to_a_state_that_does_not_exist(engine: Engine) -> None:
    await engine.create("a")
    for state in ("pending", "rejected_timedout", "happy"):
        with pytest.raises(ServerError) as caught:
            await engine.settle("a", state=state)
        assert caught.value.code == 400
    assert (await engine.sender.promise_get("a")).state == "pending"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("name", NAMES)
@hypothesis_settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(JSON, JSON, st.dictionaries(st.text(), st.text(), max_size=3)), max_size=4))
async def test_stored_values_are_returned_unchanged(
    tmp_path_factory: pytest.TempPathFactory, name: str, kept: list[tuple[object, object, dict[str, str]]]
) -> None:
    engine = await open_engine(name, tmp_path_factory.mktemp("engine"))
    try:
        for number, (param, value, tags) in enumerate(kept):
            request = PromiseCreateReq(id=f"a:{number}", timeout_at=FAR, param=Value(data=param), tags=tags)
            await engine.sender.promise_create(request)
            await engine.sender.promise_settle(
                PromiseSettleReq(id=f"a:{number}", state="resolved", value=Value(headers={"h": "1"}, data=value))
            )
            found = await engine.sender.promise_get(f"a:{number}")
            assert (found.param.data, found.value.data, found.value.headers, found.tags) == (
                param,
                value,
                {"h": "1"},
                tags,
            )
    finally:
        await close_engine(engine)


async def test_large_values_are_kept(engine: Engine) -> None:
    large = json.dumps(["x" * 1000] * 4000)
    await engine.create("a")
    await engine.settle("a", large)
    assert (await engine.sender.promise_get("a")).value.data == large


async def search_all(engine: Engine, limit: int | None = None, **conditions: object) -> list[str]:
    """Return the ids of all that a search finds, page by page."""
    found: list[str] = []
    cursor = None
    while True:
        page: PromiseSearchResult = await engine.sender.promise_search(
            conditions.get("state"), conditions.get("tags"), limit, cursor
        )
        assert limit is None or len(page.promises) <= limit
        found += [promise.id for promise in page.promises]
        cursor = page.cursor
        if cursor is None:
            return found


@in_process_lacks("finds nothing")
async def test_promises_are_found_by_state_and_tags(engine: Engine) -> None:
    for number in range(25):
        await engine.create(f"p{number}", colour=["red", "blue"][number % 2], **{'a"b': "c"})
        if number < 10:
            await engine.settle(f"p{number}", state=["resolved", "rejected"][number // 5])
    everything = [f"p{number}" for number in range(25)]
    for limit in (None, 1, 7, 25, 1000):
        assert await search_all(engine, limit) == everything
        assert await search_all(engine, limit, state="pending") == everything[10:]
        assert await search_all(engine, limit, state="rejected") == everything[5:10]
        assert await search_all(engine, limit, tags={"resonate:colour": "blue"}) == everything[1::2]
        assert await search_all(engine, limit, state="pending", tags={"resonate:colour": "blue"}) == everything[11::2]
    assert await search_all(engine, tags={'resonate:a"b': "c"}) == everything
    assert await search_all(engine, tags={"resonate:colour": "green"}) == []


async def test_a_search_that_makes_no_sense_is_refused(engine: Engine) -> None:
    for arguments in (("no state", None, None, None), (None, None, 0, None), (None, None, None, "no cursor")):
        with pytest.raises(ServerError) as caught:
            await engine.sender.promise_search(*arguments)
        assert caught.value.code == 400


async def test_a_long_search_continues_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsule_durable.engines.embedded.promises.MAX_READ", 10)
    engine = await open_engine("embedded", tmp_path)
    for number in range(60):
        await engine.create(f"p{number}", colour="blue" if number % 20 == 7 else "red")
    assert await search_all(engine, 2, tags={"resonate:colour": "blue"}) == ["p7", "p27", "p47"]
    await close_engine(engine)
