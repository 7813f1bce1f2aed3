"""Starting durable executions and awaiting their outcomes, also where the engine or the caller gives up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from resonate.error import ConnectorError, ServerError

from capsule_durable import ids
from capsule_durable.engines.memory import MemoryEngine
from capsule_durable.errors import ExecutionTimeout, SessionClosed, TransportClosed, WorkerDied
from capsule_durable.execution.bridge import Outcome
from capsule_worker.protocol import messages as m
from tests.support.bridge import ConnectedBridge
from tests.support.waiting import DEADLINE
from tests.support.worker import settle

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def setup() -> AsyncIterator[ConnectedBridge]:
    built = ConnectedBridge(MemoryEngine())
    yield built
    await asyncio.wait_for(built.close(), DEADLINE)
    assert built.bridge.pending == 0
    assert not built.bridge.executions
    assert not built.process.running
    await built.failover.close()


def run(setup: ConnectedBridge, execution_id: str, timeout: float = 60.0) -> asyncio.Future[Outcome]:
    request = m.ExecuteMessage(id=execution_id, code="1")
    return asyncio.ensure_future(setup.cells.run(request, timeout))


async def test_an_outcome_is_recorded_under_the_id_of_the_execution(setup: ConnectedBridge) -> None:
    cell = run(setup, "e1")
    await setup.worker.receive()
    setup.worker.result("e1")
    outcome = await asyncio.wait_for(cell, DEADLINE)
    assert outcome.recorded
    assert await setup.engine.result_of(ids.execution("e1")) == outcome.result.model_dump(mode="json")


async def test_two_callers_of_one_execution_share_its_outcome(setup: ConnectedBridge) -> None:
    first = run(setup, "e1")
    await setup.worker.receive()
    second = run(setup, "e1")
    await settle()
    assert not setup.worker.end._inbox.messages
    setup.worker.result("e1", execution_count=7)
    both = await asyncio.wait_for(asyncio.gather(first, second), DEADLINE)
    assert [outcome.result.execution_count for outcome in both] == [7, 7]


async def test_a_cell_whose_caller_is_cancelled_is_rejected(setup: ConnectedBridge) -> None:
    cell = run(setup, "e1")
    await setup.worker.receive()
    cell.cancel()
    await settle()
    assert cell.cancelled()
    assert setup.bridge.pending == 0
    record = await setup.engine.promises.get(ids.outcome(ids.execution("e1")))
    assert record.state == "rejected"
    setup.worker.result("e1")  # late
    cell = run(setup, "e2")
    await setup.worker.receive()
    setup.worker.result("e2")
    assert (await asyncio.wait_for(cell, DEADLINE)).result.status == "ok"


async def test_an_engine_that_refuses_the_cell_is_replaced_and_the_cell_runs_once(setup: ConnectedBridge) -> None:
    async def refuse(*_: object) -> Any:
        raise ConnectorError(OSError("no space left on device"))

    setup.engine.network.send = refuse
    cell = run(setup, "e1")
    sent = await setup.worker.receive()
    assert sent.id == "e1"
    setup.worker.result("e1")
    outcome = await asyncio.wait_for(cell, DEADLINE)
    assert (outcome.result.status, outcome.recorded) == ("ok", False)
    assert setup.failover.current is not setup.engine
    await settle()
    assert not setup.worker.end._inbox.messages


async def test_an_outcome_that_the_engine_refuses_is_returned_with_a_notice(
    setup: ConnectedBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.notices.set_cell("e1")
    cell = run(setup, "e1")
    await setup.worker.receive()

    async def refuse(*_: object) -> None:
        raise ServerError(500, "refused")

    monkeypatch.setattr(type(setup.engine.promises), "resolve", refuse)
    setup.worker.result("e1")
    outcome = await asyncio.wait_for(cell, DEADLINE)
    assert (outcome.result.status, outcome.recorded) == ("ok", False)
    assert [execution_id for execution_id, text in setup.shown if "was not recorded" in text] == ["e1"]


async def test_a_cell_times_out_while_there_is_no_worker_yet(setup: ConnectedBridge) -> None:
    setup.is_ready.clear()
    outcome = await asyncio.wait_for(run(setup, "e1", timeout=0.05), DEADLINE)
    assert type(outcome.result) is ExecutionTimeout
    setup.is_ready.set()
    await settle()
    assert not setup.worker.end._inbox.messages


async def test_closing_rejects_a_cell_that_waits_for_a_worker(setup: ConnectedBridge) -> None:
    setup.is_ready.clear()
    cell = run(setup, "e1")
    await settle()
    await asyncio.wait_for(setup.bridge.close(), DEADLINE)
    assert type((await asyncio.wait_for(cell, DEADLINE)).result) is SessionClosed


async def test_a_cell_that_a_dying_worker_did_not_get_is_sent_to_the_next(
    setup: ConnectedBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []

    def send_cell(message: m.ExecuteMessage) -> None:
        refused.append(message.id)
        monkeypatch.undo()
        raise TransportClosed("it has ended")

    monkeypatch.setattr(setup.process, "send_cell", send_cell)
    cell = run(setup, "e1")
    assert (await setup.worker.receive()).id == "e1"
    assert refused == ["e1"]
    setup.worker.result("e1")
    assert (await asyncio.wait_for(cell, DEADLINE)).result.status == "ok"


async def test_a_cell_that_no_worker_gets_fails(setup: ConnectedBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    def send_cell(message: m.ExecuteMessage) -> None:
        raise TransportClosed("it has ended")

    monkeypatch.setattr(setup.process, "send_cell", send_cell)
    outcome = await asyncio.wait_for(run(setup, "e1"), DEADLINE)
    assert type(outcome.result) is WorkerDied
