"""The inputs of cells: promises, answers, secrets, and the events that they cause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from resonate.types import Value

from capsule_durable import ids
from capsule_durable.engines.memory import MemoryEngine
from capsule_durable.errors import InputCancelled
from capsule_durable.telemetry.events import InputAnswered, InputRequested
from capsule_durable.telemetry.events import InputCancelled as Cancelled
from tests.support.bridge import ConnectedBridge
from tests.support.waiting import DEADLINE
from tests.support.worker import settle

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def setup() -> AsyncIterator[ConnectedBridge]:
    built = ConnectedBridge(MemoryEngine())
    yield built
    await asyncio.wait_for(built.close(), DEADLINE)
    assert built.inputs.pending == 0
    await built.engine.close()


def ask(setup: ConnectedBridge, execution_id: str, *, password: bool = False) -> asyncio.Future[str]:
    return asyncio.ensure_future(setup.inputs.ask(execution_id, "who?", password))


async def question(setup: ConnectedBridge):
    return await asyncio.wait_for(setup.questions.get(), DEADLINE)


async def test_an_input_of_a_closed_execution_is_refused(setup: ConnectedBridge) -> None:
    for _ in range(2):
        with pytest.raises(InputCancelled, match="has ended"):
            await setup.inputs.ask("e1", "who?", False)
        setup.inputs.open("e1", "e1")
        setup.inputs.close("e1", cancel=True)
    assert setup.log.events == []


async def test_the_client_answers_and_the_events_name_it(setup: ConnectedBridge) -> None:
    setup.inputs.open("e1", "e1")
    asked = ask(setup, "e1")
    shown = await question(setup)
    assert setup.inputs.pending == 1
    setup.inputs.answer(shown, "me")
    assert await asyncio.wait_for(asked, DEADLINE) == "me"
    assert setup.inputs.pending == 0
    input_id = ids.execution_input("e1", 1)
    (requested,), (answered,) = setup.log.of(InputRequested), setup.log.of(InputAnswered)
    assert (requested.input_id, requested.execution_id, requested.password) == (input_id, "e1", False)
    assert (answered.input_id, answered.source) == (input_id, "client")


@pytest.mark.parametrize("record", ["me", {"value": "me"}], ids=["text", "record"])
async def test_another_process_answers_and_the_events_say_so(setup: ConnectedBridge, record: object) -> None:
    setup.inputs.open("e1", "e1")
    asked = ask(setup, "e1")
    await question(setup)
    await setup.engine.promises.resolve(ids.execution_input("e1", 1), Value(data=record))
    assert await asyncio.wait_for(asked, DEADLINE) == "me"
    (answered,) = setup.log.of(InputAnswered)
    assert answered.source == "external"


async def test_another_attempt_gets_the_answer_that_was_given_meanwhile(setup: ConnectedBridge) -> None:
    setup.inputs.open("e1", "cell")
    first = ask(setup, "e1")
    shown = await question(setup)
    setup.inputs.close("e1", cancel=False)
    setup.inputs.answer(shown, "me")
    setup.inputs.open("e2", "cell")
    assert await asyncio.wait_for(ask(setup, "e2"), DEADLINE) == "me"
    assert await asyncio.wait_for(first, DEADLINE) == "me"
    assert setup.questions.empty()


async def test_each_attempt_asks_for_its_password(setup: ConnectedBridge) -> None:
    for execution_id in ("e1", "e2"):
        setup.inputs.open(execution_id, "cell")
        asked = ask(setup, execution_id, password=True)
        setup.inputs.answer(await question(setup), f"secret of {execution_id}")
        assert await asyncio.wait_for(asked, DEADLINE) == f"secret of {execution_id}"
        setup.inputs.close(execution_id, cancel=False)
    assert not setup.inputs._secrets


async def test_a_password_is_answered_from_another_terminal_only_while_it_waits(setup: ConnectedBridge) -> None:
    input_id = ids.execution_input("e1", 1)
    assert not setup.inputs.answer_secret(input_id, "early")
    setup.inputs.open("e1", "e1")
    asked = ask(setup, "e1", password=True)
    await question(setup)
    assert setup.inputs.answer_secret(input_id, "hunter2")
    assert await asyncio.wait_for(asked, DEADLINE) == "hunter2"
    assert not setup.inputs.answer_secret(input_id, "late")
    record = await setup.engine.promises.get(input_id)
    assert list(record.value.data) == ["secret"]


async def test_closing_cancels_the_inputs_that_wait(setup: ConnectedBridge) -> None:
    setup.inputs.open("e1", "e1")
    waiting = [ask(setup, "e1") for _ in range(2)]
    for _ in waiting:
        await question(setup)
    setup.inputs.close("e1", cancel=True)
    assert setup.inputs.pending == 0
    for each in waiting:
        with pytest.raises(InputCancelled, match="not answered"):
            await asyncio.wait_for(each, DEADLINE)
    await settle()
    assert {event.input_id for event in setup.log.of(Cancelled)} == {ids.execution_input("e1", n) for n in (1, 2)}
