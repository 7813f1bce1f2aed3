"""Durable functions, bridge and engine together, with a scripted worker at the other end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from resonate.types import Value

from capsule_durable import ids
from capsule_durable.engines.base import MemoryEngine
from capsule_durable.errors import (
    ExecutionTimeout,
    InternalError,
    OutputDrainTimeout,
    SessionClosed,
    WorkerDied,
    WorkerUnavailable,
)
from capsule_durable.execution import functions
from capsule_durable.execution.bridge import MAX_OUTCOME, Bridge
from capsule_durable.messaging.capabilities import Capabilities, Question
from capsule_durable.messaging.session import Session
from capsule_worker.protocol import messages as m

from .harness import DEADLINE, Scripted, settle

pytestmark = pytest.mark.asyncio


class House:
    """Engine, session and bridge, and a worker in the test's hands."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.questions: asyncio.Queue[Question] = asyncio.Queue()
        self.capabilities = Capabilities(
            stream=lambda *_: None, display=lambda *_: None, prompt=self.questions.put_nowait
        )
        self.no_worker: WorkerUnavailable | None = None
        self.bridge = Bridge(
            self.engine,
            self.capabilities,
            self._worker_ready,
        )
        self.session = Session("s", self.capabilities, self.bridge.ask)
        self.bridge.connect(self.session)
        for dependency in (self.session, self.bridge, self.capabilities):
            self.engine.resonate.with_dependency(dependency)
        functions.register(self.engine.resonate)
        self.engine.resonate.start()
        self.attach()

    def attach(self) -> None:
        self.worker = Scripted()
        self.reader = self.session.attach(self.worker.front)

    async def _worker_ready(self) -> None:
        if self.no_worker is not None:
            raise self.no_worker

    def start(self, execution_id: str, timeout: float = 60.0) -> asyncio.Future[m.ResultMessage]:
        request = m.ExecuteMessage(id=execution_id, code="1", allow_stdin=True)
        return asyncio.ensure_future(functions.run_cell(self.engine.resonate, self.bridge, request, timeout))

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
        await self.bridge.close()
        await self.session.close()
        await self.engine.resonate.stop()


class _Plain:
    def __init__(self, record: dict) -> None:
        self.param, self.value = record.get("param"), record.get("value")


@pytest_asyncio.fixture
async def house() -> AsyncIterator[House]:
    built = House()
    yield built
    await asyncio.wait_for(built.close(), DEADLINE)
    assert built.bridge.pending == 0
    assert len(built.session.questions) == 0


async def test_a_result_resolves_the_execution_under_its_id(house: House) -> None:
    cell = house.start("e1")
    sent = await house.worker.receive()
    assert (sent.id, sent.code) == ("e1", "1")
    assert house.bridge.pending == 1
    house.worker.result("e1", execution_time=0.5)
    result = await asyncio.wait_for(cell, DEADLINE)
    assert (result.status, result.execution_time) == ("ok", 0.5)
    assert await house.engine.result_of(ids.execution("e1")) == result.model_dump(mode="json")


async def test_an_execution_is_sent_once_though_its_function_is_replayed(house: House) -> None:
    cell = house.start("e1")
    await house.worker.receive()
    house.worker.result("e1")
    await asyncio.wait_for(cell, DEADLINE)
    again = await asyncio.wait_for(house.start("e1"), DEADLINE)
    assert again == await cell
    await settle()
    assert len(house.worker.end._inbox) == 0


async def test_an_error_rejects_with_our_error_and_its_notes(house: House) -> None:
    cell = house.start("e1")
    await house.worker.receive()
    house.worker.send(
        m.ErrorMessage(execution_id="e1", error_type="OutputDrainTimeout", message="stuck", traceback=["__py_pickle"])
    )
    with pytest.raises(OutputDrainTimeout, match="stuck") as caught:
        await asyncio.wait_for(cell, DEADLINE)
    assert caught.value.__notes__[0] == "execution id: e1"
    assert '"type": "OutputDrainTimeout"' in caught.value.__notes__[1]
    assert '"__py_pickle":' not in house.stored()


async def test_an_error_of_unknown_type_is_an_internal_one(house: House) -> None:
    cell = house.start("e1")
    await house.worker.receive()
    house.worker.send(m.ErrorMessage(execution_id="e1", error_type="__import__", message="x"))
    with pytest.raises(InternalError):
        await asyncio.wait_for(cell, DEADLINE)


async def test_a_timeout_says_what_when_and_how_long(house: House) -> None:
    cell = house.start("e1", timeout=0.05)
    with pytest.raises(ExecutionTimeout) as caught:
        await asyncio.wait_for(cell, DEADLINE)
    assert caught.value.execution_id == "e1"
    assert caught.value.fields == {"capability": "execute", "request_id": "e1", "timeout": 0.05}
    house.worker.result("e1")  # late
    await settle()
    assert not house.reader.done()


async def test_late_repeated_and_forged_results_change_nothing(house: House) -> None:
    house.worker.result("e2")  # before it was even sent
    cell = house.start("e1")
    await house.worker.receive()
    house.worker.result("another")
    house.worker.result("e1", execution_count=7)
    house.worker.result("e1", execution_count=8)
    house.worker.send(m.ErrorMessage(execution_id="e1", error_type="Busy", message="late"))
    assert (await asyncio.wait_for(cell, DEADLINE)).execution_count == 7
    await settle()
    assert house.bridge.pending == 0
    assert not house.reader.done()


async def test_the_death_of_the_worker_rejects_what_it_ran_and_the_next_one_works(house: House) -> None:
    cell = house.start("e1")
    await house.worker.receive()
    house.worker.end.close()
    await house.reader
    assert house.bridge.worker_died(lambda execution_id: WorkerDied("killed", execution_id)) == 1
    with pytest.raises(WorkerDied):
        await asyncio.wait_for(cell, DEADLINE)
    house.attach()
    cell = house.start("e2")
    await house.worker.receive()
    house.worker.result("e2")
    assert (await asyncio.wait_for(cell, DEADLINE)).status == "ok"


async def test_a_cell_is_told_why_there_is_no_worker(house: House) -> None:
    house.no_worker = WorkerUnavailable("install it")
    with pytest.raises(WorkerUnavailable, match="install it") as caught:
        await asyncio.wait_for(house.start("e1"), DEADLINE)
    assert caught.value.execution_id == "e1"


async def test_a_cell_that_is_too_large_to_send_says_so(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsule_worker.protocol.codec.MAX_FRAME", 10)
    with pytest.raises(InternalError, match="cannot be sent"):
        await asyncio.wait_for(house.start("e1"), DEADLINE)


async def test_closing_rejects_what_is_pending(house: House) -> None:
    cell = house.start("e1")
    await house.worker.receive()
    await house.bridge.close()
    with pytest.raises(SessionClosed):
        await asyncio.wait_for(cell, DEADLINE)
    with pytest.raises(SessionClosed):
        await asyncio.wait_for(house.start("e2"), DEADLINE)


async def test_an_outcome_is_bounded(house: House) -> None:
    cell = house.start("e1")
    await house.worker.receive()
    house.worker.result("e1", payload=[{"source": "page", "data": "x" * MAX_OUTCOME}], user_expressions={"a": {}})
    result = await asyncio.wait_for(cell, DEADLINE)
    assert result.payload == []
    assert result.user_expressions["a"]["ename"] == "OutcomeTooLarge"


async def _ask(house: House, execution_id: str, *, password: bool = False) -> tuple[asyncio.Future, Question]:
    cell = house.start(execution_id)
    await house.worker.receive()
    house.worker.send(m.InputMessage(id="7", execution_id=execution_id, prompt="who?", password=password))
    question = await asyncio.wait_for(house.questions.get(), DEADLINE)
    assert (question.execution_id, question.prompt, question.password) == (execution_id, "who?", password)
    return cell, question


async def _finish(house: House, cell: asyncio.Future, execution_id: str) -> None:
    house.worker.result(execution_id)
    await asyncio.wait_for(cell, DEADLINE)


async def test_an_input_is_answered_by_the_client(house: House) -> None:
    cell, question = await _ask(house, "e1")
    assert house.bridge.pending == 2
    house.bridge.answer(question, "me")
    assert await house.worker.receive() == m.InputResponseMessage(input_id="7", value="me")
    await _finish(house, cell, "e1")


async def test_an_input_is_answered_from_elsewhere_by_its_promise(house: House) -> None:
    cell, question = await _ask(house, "e1")
    await house.engine.resonate.promises.resolve(ids.execution_input("e1", 1), Value(data={"value": "them"}))
    assert (await house.worker.receive()).value == "them"
    house.bridge.answer(question, "too late")
    await settle()
    await _finish(house, cell, "e1")


async def test_a_password_is_in_no_promise(house: House) -> None:
    cell, question = await _ask(house, "e1", password=True)
    house.bridge.answer(question, "hunter2")
    assert (await house.worker.receive()).value == "hunter2"
    assert "hunter2" not in house.stored()
    assert "secret" in house.stored()
    assert not house.bridge._secrets
    await _finish(house, cell, "e1")


async def test_an_input_ends_with_its_cell(house: House) -> None:
    cell, _ = await _ask(house, "e1")
    await _finish(house, cell, "e1")
    response = await house.worker.receive()
    assert response.value is None
    assert "not answered" in response.error
    assert house.bridge.pending == 0


async def test_nobody_can_ask_for_a_cell_that_has_ended(house: House) -> None:
    house.worker.send(m.InputMessage(id="9", execution_id="gone", prompt="?"))
    assert "has ended" in (await house.worker.receive()).error


async def test_nothing_is_left_after_10_000_mixed_executions(house: House) -> None:
    outcomes = {"ok": 0, "error": 0, "rejected": 0, "died": 0, "asked": 0}
    kinds = list(outcomes)
    for n in range(10_000):
        execution_id, kind = f"e{n}", kinds[n % len(kinds)]
        cell = house.start(execution_id)
        await house.worker.receive()
        if kind == "asked":
            house.worker.send(m.InputMessage(id=str(n), execution_id=execution_id, prompt="?"))
            question = await house.questions.get()
            if n % 2:
                house.bridge.answer(question, "x")
                await house.worker.receive()
        if kind in {"ok", "asked"}:
            house.worker.result(execution_id)
        elif kind == "error":
            house.worker.result(execution_id, status="error", ename="E", evalue="e")
        elif kind == "rejected":
            house.worker.send(m.ErrorMessage(execution_id=execution_id, error_type="InternalError", message="x"))
        else:
            house.worker.end.close()
            await house.reader
            house.bridge.worker_died(lambda execution_id: WorkerDied("x", execution_id))
            house.attach()
        try:
            await cell
        except (InternalError, WorkerDied):
            pass
        outcomes[kind] += 1
        house.engine.retire(ids.execution(execution_id))
        if kind == "asked" and not n % 2:
            await house.worker.receive()  # why there is no answer
    await settle()
    assert set(outcomes.values()) == {2000}
    assert house.bridge.pending == 0
    assert house.bridge.high_water_mark == 1
    assert len(house.session.questions) == 0
    assert not house.session._routes
    assert not house.bridge._input_counts
    assert len(house.engine.network.state.promises) < 200
    assert len(asyncio.all_tasks()) < 10
