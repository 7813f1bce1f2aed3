"""Which comms are open, as the client knows them."""

from __future__ import annotations

import asyncio

import pytest

from capsule_durable.errors import WorkerDied
from capsule_durable.messaging.capabilities import Capabilities
from capsule_durable.messaging.comm_registry import CommRegistry
from capsule_durable.messaging.session import Session
from capsule_worker.protocol import messages as m
from tests.support.waiting import DEADLINE
from tests.support.worker import Scripted, settle

pytestmark = pytest.mark.asyncio


class Connected:
    """A registry and a session, with the worker in the hands of the test."""

    def __init__(self) -> None:
        self.shown: list[m.CommOutput] = []
        self.comms = CommRegistry(lambda _, output: self.shown.append(output))
        capabilities = Capabilities(lambda *_: None, self.comms.display, lambda _: None)
        self.session = Session("s", capabilities, self._no_input)
        self.comms.connect(self.session)
        self.worker = Scripted()
        self.session.attach(self.worker.front)

    async def _no_input(self, *_: object) -> str:
        raise AssertionError

    def output(self, event: str, comm_id: str, target: str | None = None) -> None:
        """Let the worker open or close a comm, or send to it."""
        output = m.CommOutput(event=event, comm_id=comm_id, target_name=target)
        self.worker.send(m.OutputMessage(execution_id="e1", output=output))

    def message(self, event: str, comm_id: str) -> m.CommMessage:
        """Return a message of the client."""
        request_id = self.session.next_request_id()
        return m.CommMessage(id=request_id, event=event, comm_id=comm_id, target_name="target", header={})


async def test_the_worker_opens_and_closes_comms() -> None:
    one = Connected()
    one.output("open", "a", "first")
    one.output("open", "b", "second")
    one.output("msg", "b")
    one.output("close", "a")
    await settle()
    assert one.comms.targets == {"b": "second"}
    assert [output.event for output in one.shown] == ["open", "open", "msg", "close"]
    await one.session.close()


async def test_the_client_opens_and_closes_comms_and_waits_until_the_worker_has_handled_it() -> None:
    one = Connected()
    opening = asyncio.ensure_future(one.comms.send(one.message("open", "a")))
    sent = await one.worker.receive()
    assert (one.comms.pending, one.comms.targets) == (1, {"a": "target"})
    assert not opening.done()
    one.worker.send(m.CommReplyMessage(request_id=sent.id))
    await asyncio.wait_for(opening, DEADLINE)
    closing = asyncio.ensure_future(one.comms.send(one.message("close", "a")))
    await one.worker.receive()
    one.worker.end.close()
    with pytest.raises(WorkerDied):
        await asyncio.wait_for(closing, DEADLINE)
    assert (one.comms.pending, one.comms.targets) == (0, {})
    await one.session.close()


async def test_comms_that_the_next_worker_does_not_have_are_closed_at_the_client() -> None:
    one = Connected()
    assert await one.comms.close_lost(1.0) == 0  # without asking
    for comm_id in ("a", "b"):
        one.output("open", comm_id, "target")
    await settle()
    closing = asyncio.ensure_future(one.comms.close_lost(DEADLINE))
    sent = await one.worker.receive()
    one.worker.send(m.CommInfoReplyMessage(request_id=sent.id, targets={"b": "target"}))
    assert await asyncio.wait_for(closing, DEADLINE) == 1
    assert one.comms.targets == {"b": "target"}
    assert (one.shown[-1].event, one.shown[-1].comm_id) == ("close", "a")
    await one.session.close()
