"""Attempts at a cell: how many there are, what the client sees of them, and what ends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from capsule_durable.checkpoints.service import CheckpointService
from capsule_durable.config.settings import Settings
from capsule_durable.engines.memory import MemoryEngine
from capsule_durable.errors import WorkerDied
from capsule_durable.execution.retries import RetryLoop
from capsule_durable.execution.retry_policy import RetryPolicy
from capsule_durable.history.recorder import Recorder
from capsule_durable.messaging.capabilities import Capabilities
from capsule_durable.telemetry.events import CellEnded, CellRetried, CellStarted
from capsule_durable.workers.variables import WorkerVariables
from capsule_worker.protocol import Output
from capsule_worker.protocol import messages as m
from tests.support.bridge import ConnectedBridge
from tests.support.waiting import DEADLINE
from tests.support.worker import settle

pytestmark = pytest.mark.asyncio

NO_DELAY = 0.0
REQUEST = m.ExecuteMessage(id="e1", code="1")


class Retries(ConnectedBridge):
    """A retry loop without checkpoints, whose worker the test plays."""

    def __init__(self, home: Path) -> None:
        super().__init__(MemoryEngine())
        #: The outputs that the client gets, each with the execution that it knows.
        self.outputs: list[tuple[str, Output]] = []
        shown = Capabilities(self._show, self._show, self.questions.put_nowait)
        recorder = Recorder(None, shown, self.bus, self.notices.add)
        self.notices.connect(recorder.capabilities.stream)
        checkpoints = CheckpointService(Settings(home=str(home), checkpoints="off"), "k", None, self.notices.add)
        variables = WorkerVariables(self.session, checkpoints, self.notices, self.bus, "s")
        self.retries = RetryLoop(
            self.cells, self, variables, checkpoints, recorder, self.notices, self.bus, "s", DEADLINE
        )

    def _show(self, execution_id: str, output: Output) -> None:
        self.outputs.append((execution_id, output))

    def run(self, retries: int, delay: float = NO_DELAY) -> asyncio.Future[m.ResultMessage]:
        return asyncio.ensure_future(self.retries.run(REQUEST, RetryPolicy(retries, delay)))

    async def fail(self, ename: str = "ValueError") -> str:
        """Fail the next attempt and return its execution."""
        sent = await self.worker.receive()
        self.worker.result(sent.id, status="error", ename=ename, evalue="no", traceback=[])
        return sent.id


@pytest_asyncio.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Retries]:
    built = Retries(tmp_path)
    yield built
    await asyncio.wait_for(built.close(), DEADLINE)
    assert built.notices.cell is None
    await built.engine.close()


async def test_a_cell_that_succeeds_runs_once(setup: Retries) -> None:
    cell = setup.run(3)
    assert (await setup.worker.receive()).id == "e1"
    setup.worker.result("e1")
    assert (await asyncio.wait_for(cell, DEADLINE)).status == "ok"
    assert [event.execution_id for event in setup.log.of(CellStarted)] == ["e1"]
    assert [event.status for event in setup.log.of(CellEnded)] == ["ok"]


async def test_attempts_have_ids_of_their_own_and_the_client_sees_one_cell(setup: Retries) -> None:
    cell = setup.run(2)
    assert await setup.fail() == "e1"
    assert await setup.fail() == "e1-2"
    sent = await setup.worker.receive()
    assert sent.id == "e1-3"
    setup.worker.result(sent.id)
    assert (await asyncio.wait_for(cell, DEADLINE)).status == "ok"
    assert {execution_id for execution_id, _ in setup.outputs} == {"e1"}
    cleared = [output for _, output in setup.outputs if isinstance(output, m.ClearOutput)]
    assert len(cleared) == 2
    texts = [output.text for _, output in setup.outputs if isinstance(output, m.StreamOutput)]
    assert [text.partition("attempts left: ")[2] for text in texts] == ["2\n", "1\n"]
    retried = setup.log.of(CellRetried)
    assert [(event.attempt, event.failure) for event in retried] == [(1, "ValueError: no."), (2, "ValueError: no.")]


async def test_the_last_attempt_is_the_result(setup: Retries) -> None:
    cell = setup.run(1)
    await setup.fail()
    await setup.fail()
    assert (await asyncio.wait_for(cell, DEADLINE)).status == "error"


async def test_an_error_that_would_come_again_is_not_tried_again(setup: Retries) -> None:
    cell = setup.run(5)
    await setup.fail("NameError")
    assert (await asyncio.wait_for(cell, DEADLINE)).ename == "NameError"
    assert len(setup.log.of(CellStarted)) == 1


async def test_a_cell_whose_worker_dies_is_tried_again_in_the_next(setup: Retries) -> None:
    cell = setup.run(1)
    await setup.worker.receive()
    for is_last in (False, True):
        setup.worker.end.close()
        await setup.reader
        died = setup.process
        setup.attach()
        died.die("it died")
        if not is_last:
            assert (await setup.worker.receive()).id == "e1-2"
    with pytest.raises(WorkerDied, match="it died"):
        await asyncio.wait_for(cell, DEADLINE)


async def test_an_interrupt_ends_the_delay_and_the_cell_fails_as_it_did(setup: Retries) -> None:
    assert not setup.retries.interrupt()
    cell = setup.run(5, delay=DEADLINE * 100)
    await setup.fail()
    async with asyncio.timeout(DEADLINE):
        while not setup.retries.interrupt():
            await settle()
    result = await asyncio.wait_for(cell, DEADLINE)
    assert (result.status, result.ename) == ("error", "ValueError")
    assert not setup.retries.interrupt()
