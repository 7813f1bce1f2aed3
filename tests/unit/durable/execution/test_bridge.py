"""Durable functions, bridge and engine together, with a scripted worker at the other end."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from resonate.types import Value

from capsule_durable import ids
from capsule_durable.engines.memory import MemoryEngine
from capsule_durable.errors import (
    ExecutionTimeout,
    InternalError,
    OutputDrainTimeout,
    SessionClosed,
    WorkerDied,
    WorkerUnavailable,
)
from capsule_durable.execution.bridge import MAX_OUTCOME
from capsule_durable.messaging.capabilities import InputPrompt
from capsule_worker.protocol import messages as m
from tests.support.bridge import ConnectedBridge
from tests.support.waiting import DEADLINE
from tests.support.worker import settle

pytestmark = pytest.mark.asyncio

#: How many executions of five kinds; a multiple of five.
EXECUTIONS = int(os.environ.get("CAPSULE_TEST_EXECUTIONS") or 2_000)


class MemoryBridge(ConnectedBridge):
    """A bridge on the engine in memory."""

    def __init__(self) -> None:
        super().__init__(MemoryEngine())

    def stored(self) -> str:
        """Return everything that the engine knows, as text, values decoded."""
        state = self.engine.network.state
        decode = self.engine.resonate._codec.decode
        values = [
            [promise_id, str(record.param), str(record.value)]
            + [
                repr(decode(Value(headers=None, data=part["data"])))
                for part in (record.param, record.value)
                if part and part.get("data")
            ]
            for promise_id, record in ((i, _Plain(p.to_record())) for i, p in state.promises.items())
        ]
        return json.dumps(values)

    async def close(self) -> None:
        await super().close()
        await self.engine.resonate.stop()


class _Plain:
    def __init__(self, record: dict) -> None:
        self.param, self.value = record.get("param"), record.get("value")


@pytest_asyncio.fixture
async def setup() -> AsyncIterator[MemoryBridge]:
    built = MemoryBridge()
    yield built
    await asyncio.wait_for(built.close(), DEADLINE)
    assert built.bridge.pending == 0
    assert len(built.session.questions) == 0


async def test_a_result_resolves_the_execution_under_its_id(setup: MemoryBridge) -> None:
    cell = setup.start("e1")
    sent = await setup.worker.receive()
    assert (sent.id, sent.code) == ("e1", "1")
    assert setup.bridge.pending == 1
    setup.worker.result("e1", execution_time=0.5)
    result = await asyncio.wait_for(cell, DEADLINE)
    assert (result.status, result.execution_time) == ("ok", 0.5)
    assert await setup.engine.result_of(ids.execution("e1")) == result.model_dump(mode="json")


async def test_an_execution_is_sent_once_though_its_function_is_replayed(setup: MemoryBridge) -> None:
    cell = setup.start("e1")
    await setup.worker.receive()
    setup.worker.result("e1")
    await asyncio.wait_for(cell, DEADLINE)
    again = await asyncio.wait_for(setup.start("e1"), DEADLINE)
    assert again == await cell
    await settle()
    assert not setup.worker.end._inbox.messages


async def test_an_error_rejects_with_our_error_and_its_notes(setup: MemoryBridge) -> None:
    cell = setup.start("e1")
    await setup.worker.receive()
    setup.worker.send(
        m.ErrorMessage(execution_id="e1", error_type="OutputDrainTimeout", message="stuck", traceback=["__py_pickle"])
    )
    with pytest.raises(OutputDrainTimeout, match="stuck") as caught:
        await asyncio.wait_for(cell, DEADLINE)
    assert caught.value.__notes__[0] == "execution id: e1"
    assert '"type": "OutputDrainTimeout"' in caught.value.__notes__[1]
    assert '"__py_pickle":' not in setup.stored()


async def test_an_error_of_unknown_type_is_an_internal_one(setup: MemoryBridge) -> None:
    cell = setup.start("e1")
    await setup.worker.receive()
    setup.worker.send(m.ErrorMessage(execution_id="e1", error_type="__import__", message="x"))
    with pytest.raises(InternalError):
        await asyncio.wait_for(cell, DEADLINE)


async def test_a_timeout_says_what_when_and_how_long(setup: MemoryBridge) -> None:
    cell = setup.start("e1", timeout=0.05)
    with pytest.raises(ExecutionTimeout) as caught:
        await asyncio.wait_for(cell, DEADLINE)
    assert caught.value.execution_id == "e1"
    assert caught.value.fields == {"capability": "execute", "request_id": "e1", "timeout": 0.05}
    setup.worker.result("e1")  # late
    await settle()
    assert not setup.reader.done()


async def test_late_repeated_and_forged_results_change_nothing(setup: MemoryBridge) -> None:
    setup.worker.result("e2")  # before it was even sent
    cell = setup.start("e1")
    await setup.worker.receive()
    setup.worker.result("another")
    setup.worker.result("e1", execution_count=7)
    setup.worker.result("e1", execution_count=8)
    setup.worker.send(m.ErrorMessage(execution_id="e1", error_type="Busy", message="late"))
    assert (await asyncio.wait_for(cell, DEADLINE)).execution_count == 7
    await settle()
    assert setup.bridge.pending == 0
    assert not setup.reader.done()


async def test_a_worker_that_dies_fails_its_cell_and_the_next_one_works(setup: MemoryBridge) -> None:
    cell = setup.start("e1")
    await setup.worker.receive()
    setup.worker.end.close()
    await setup.reader
    setup.process.die(last_words="last words")
    with pytest.raises(WorkerDied, match=r"killed\. Nothing is restored") as caught:
        await asyncio.wait_for(cell, DEADLINE)
    assert caught.value.fields["peak_memory"] == 1 << 20
    assert setup.shown == [("e1", "last words")]
    setup.attach()
    cell = setup.start("e2")
    await setup.worker.receive()
    setup.worker.result("e2")
    assert (await asyncio.wait_for(cell, DEADLINE)).status == "ok"


async def test_a_cell_is_rejected_with_the_reason_why_there_is_no_worker(setup: MemoryBridge) -> None:
    setup.no_worker = WorkerUnavailable("install it")
    with pytest.raises(WorkerUnavailable, match="install it") as caught:
        await asyncio.wait_for(setup.start("e1"), DEADLINE)
    assert caught.value.execution_id == "e1"


async def test_a_cell_that_is_too_large_to_send_says_so(setup: MemoryBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsule_worker.protocol.codec.MAX_FRAME", 10)
    with pytest.raises(InternalError, match="cannot be sent"):
        await asyncio.wait_for(setup.start("e1"), DEADLINE)


async def test_closing_rejects_what_is_pending(setup: MemoryBridge) -> None:
    cell = setup.start("e1")
    await setup.worker.receive()
    await setup.bridge.close()
    with pytest.raises(SessionClosed):
        await asyncio.wait_for(cell, DEADLINE)
    with pytest.raises(SessionClosed):
        await asyncio.wait_for(setup.start("e2"), DEADLINE)


async def test_an_outcome_is_bounded(setup: MemoryBridge) -> None:
    cell = setup.start("e1")
    await setup.worker.receive()
    setup.worker.result("e1", payload=[{"source": "page", "data": "x" * MAX_OUTCOME}], user_expressions={"a": {}})
    result = await asyncio.wait_for(cell, DEADLINE)
    assert result.payload == []
    assert result.user_expressions["a"]["ename"] == "OutcomeTooLarge"


async def _ask(setup: MemoryBridge, execution_id: str, *, password: bool = False) -> tuple[asyncio.Future, InputPrompt]:
    cell = setup.start(execution_id)
    await setup.worker.receive()
    setup.worker.send(m.InputMessage(id="7", execution_id=execution_id, prompt="who?", password=password))
    question = await asyncio.wait_for(setup.questions.get(), DEADLINE)
    assert (question.execution_id, question.prompt, question.password) == (execution_id, "who?", password)
    return cell, question


async def _finish(setup: MemoryBridge, cell: asyncio.Future, execution_id: str) -> None:
    setup.worker.result(execution_id)
    await asyncio.wait_for(cell, DEADLINE)


async def test_an_input_is_answered_by_the_client(setup: MemoryBridge) -> None:
    cell, question = await _ask(setup, "e1")
    assert setup.bridge.pending == 2
    setup.inputs.answer(question, "me")
    assert await setup.worker.receive() == m.InputResponseMessage(input_id="7", value="me")
    await _finish(setup, cell, "e1")


async def test_an_input_is_answered_from_elsewhere_by_its_promise(setup: MemoryBridge) -> None:
    cell, question = await _ask(setup, "e1")
    await setup.engine.resonate.promises.resolve(ids.execution_input("e1", 1), Value(data={"value": "them"}))
    assert (await setup.worker.receive()).value == "them"
    setup.inputs.answer(question, "too late")
    await settle()
    await _finish(setup, cell, "e1")


async def test_a_password_is_in_no_promise(setup: MemoryBridge) -> None:
    cell, question = await _ask(setup, "e1", password=True)
    setup.inputs.answer(question, "hunter2")
    assert (await setup.worker.receive()).value == "hunter2"
    assert "hunter2" not in setup.stored()
    assert "secret" in setup.stored()
    assert not setup.inputs._secrets
    await _finish(setup, cell, "e1")


async def test_an_input_ends_with_its_cell(setup: MemoryBridge) -> None:
    cell, _ = await _ask(setup, "e1")
    await _finish(setup, cell, "e1")
    response = await setup.worker.receive()
    assert response.value is None
    assert "not answered" in response.error
    assert setup.bridge.pending == 0


async def test_an_input_for_a_cell_that_has_ended_is_refused(setup: MemoryBridge) -> None:
    setup.worker.send(m.InputMessage(id="9", execution_id="gone", prompt="?"))
    assert "has ended" in (await setup.worker.receive()).error


@pytest.mark.slow
async def test_nothing_is_left_after_many_mixed_executions(setup: MemoryBridge) -> None:
    outcomes = {"ok": 0, "error": 0, "rejected": 0, "died": 0, "asked": 0}
    kinds = list(outcomes)
    for n in range(EXECUTIONS):
        execution_id, kind = f"e{n}", kinds[n % len(kinds)]
        cell = setup.start(execution_id)
        await setup.worker.receive()
        if kind == "asked":
            setup.worker.send(m.InputMessage(id=str(n), execution_id=execution_id, prompt="?"))
            question = await setup.questions.get()
            if n % 2:
                setup.inputs.answer(question, "x")
                await setup.worker.receive()
        if kind in {"ok", "asked"}:
            setup.worker.result(execution_id)
        elif kind == "error":
            setup.worker.result(execution_id, status="error", ename="E", evalue="e")
        elif kind == "rejected":
            setup.worker.send(m.ErrorMessage(execution_id=execution_id, error_type="InternalError", message="x"))
        else:
            setup.worker.end.close()
            await setup.reader
            setup.process.die()
            setup.attach()
        try:
            await cell
        except (InternalError, WorkerDied):
            pass
        outcomes[kind] += 1
        if kind == "asked" and not n % 2:
            await setup.worker.receive()  # why there is no answer
    await settle()
    assert set(outcomes.values()) == {EXECUTIONS // 5}
    assert setup.bridge.pending == 0
    assert setup.bridge.high_water_mark == 1
    assert len(setup.session.questions) == 0
    assert not setup.session._routes
    assert not setup.inputs._executions
    assert len(setup.engine.network.state.promises) < 200
    assert len(asyncio.all_tasks()) < 10
