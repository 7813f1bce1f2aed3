"""One reader, interceptors, routes: in the face of raising, slow, late, repeated, unknown and malformed things."""

from __future__ import annotations

import asyncio
import logging

import pytest

from capsule_durable.errors import ProtocolError, RequestTimeout, SessionClosed, WorkerDied
from capsule_durable.messaging.capabilities import Capabilities
from capsule_durable.messaging.session import MAX_ROUTES, Session
from capsule_worker.protocol import messages as m
from tests.support.worker import Scripted, settle

pytestmark = pytest.mark.asyncio

READY = m.ReadyMessage(
    protocol_version=m.PROTOCOL_VERSION,
    worker_version="0",
    python_version="3",
    ipython_version="9",
    executable="python",
    pid=1,
    banner="",
    startup_time=0.0,
)


def _output(text: str) -> m.OutputMessage:
    return m.OutputMessage(execution_id="e", output=m.StreamOutput(name="stdout", text=text))


class Fixture:
    """A session with a scripted worker, and what it told."""

    def __init__(self, clock=None) -> None:
        self.told: list[tuple[str, object]] = []
        self.answers: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        capabilities = Capabilities(
            stream=lambda execution_id, output: self.told.append(("stream", output.text)),
            display=lambda execution_id, output: self.told.append(("display", output)),
            prompt=lambda question: None,
        )

        async def ask(execution_id: str, prompt: str, password: bool) -> str:
            return await asyncio.shield(self.answers)

        arguments = {} if clock is None else {"clock": clock}
        self.session = Session("s", capabilities, ask, **arguments)
        self.worker = Scripted()
        self.reader = self.session.attach(self.worker.front, 1)


async def test_interceptors_see_every_message_before_it_is_routed() -> None:
    fixture = Fixture()
    fixture.session.add_message_interceptor(lambda message: fixture.told.append(("seen", message.type)))
    for message in (READY, _output("x"), m.HeartbeatReplyMessage(request_id="unknown")):
        fixture.worker.send(message)
    await settle()
    assert fixture.told == [("seen", "ready"), ("seen", "output"), ("stream", "x"), ("seen", "heartbeat_reply")]
    await fixture.session.close()


async def test_an_interceptor_that_raises_is_logged_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    fixture = Fixture()

    def broken(message: object) -> None:
        raise RuntimeError("broken interceptor")

    seen: list[object] = []
    fixture.session.add_message_interceptor(broken)
    fixture.session.add_message_interceptor(seen.append)
    fixture.worker.send(_output("x"))
    await settle()
    assert fixture.told == [("stream", "x")]
    assert len(seen) == 1
    assert "broken interceptor" in caplog.text
    fixture.session.remove_message_interceptor(broken)
    fixture.session.remove_message_interceptor(broken)
    caplog.clear()
    fixture.worker.send(_output("y"))
    await settle()
    assert not caplog.records
    await fixture.session.close()


async def test_a_slow_interceptor_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    times = iter([0.0, 3.0])
    fixture = Fixture(clock=lambda: next(times))
    fixture.session.add_message_interceptor(lambda message: None)
    fixture.worker.send(_output("x"))
    await settle()
    assert "took 3000 ms" in caplog.text
    assert fixture.told == [("stream", "x")]
    await fixture.session.close()


async def test_a_publisher_that_raises_does_not_stop_the_reader(caplog: pytest.LogCaptureFixture) -> None:
    fixture = Fixture()

    def broken(execution_id: str, output: object) -> None:
        raise RuntimeError("no socket")

    fixture.session._capabilities = Capabilities(broken, broken, lambda question: None)
    fixture.worker.send(_output("x"))
    await settle()
    assert "was not published" in caplog.text
    assert not fixture.reader.done()
    await fixture.session.close()


async def test_late_repeated_and_unknown_replies_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    fixture = Fixture()
    question = asyncio.ensure_future(fixture.session.ask(m.HeartbeatMessage(id="q1"), timeout=60))
    await settle()
    for _ in range(3):
        fixture.worker.send(m.HeartbeatReplyMessage(request_id="q1"))
    fixture.worker.send(m.HeartbeatReplyMessage(request_id="never asked"))
    assert (await question).request_id == "q1"
    await settle()
    assert not fixture.reader.done()
    assert len(fixture.session.questions) == 0
    assert not caplog.records
    await fixture.session.close()


async def test_a_question_without_answer_times_out_with_all_that_is_known() -> None:
    fixture = Fixture()
    with pytest.raises(RequestTimeout) as caught:
        await fixture.session.ask(m.CompleteMessage(id="q1", code="", cursor_pos=0), timeout=0.01)
    assert caught.value.fields == {"capability": "complete", "request_id": "q1", "timeout": 0.01}
    assert len(fixture.session.questions) == 0
    await fixture.session.close()


async def test_a_message_that_only_a_front_sends_ends_the_reader() -> None:
    fixture = Fixture()
    fixture.worker.send(m.HeartbeatMessage(id="1"))
    with pytest.raises(ProtocolError):
        await fixture.reader
    assert fixture.session.transport is None
    await fixture.session.close()


async def test_the_end_of_the_worker_fails_what_was_asked_of_it() -> None:
    fixture = Fixture()
    question = asyncio.ensure_future(fixture.session.ask(m.HeartbeatMessage(id="q1"), timeout=60))
    await settle()
    fixture.worker.end.close()
    with pytest.raises(WorkerDied):
        await question
    await fixture.reader
    with pytest.raises(WorkerDied):
        await fixture.session.ask(m.HeartbeatMessage(id="q2"), timeout=60)
    assert len(fixture.session.questions) == 0


async def test_closing_leaves_nothing_pending() -> None:
    fixture = Fixture()
    question = asyncio.ensure_future(fixture.session.ask(m.HeartbeatMessage(id="q1"), timeout=60))
    fixture.worker.send(m.InputMessage(id="1", execution_id="e", prompt="?"))
    await settle()
    assert len(fixture.session._routes) == 1
    await fixture.session.close()
    with pytest.raises((SessionClosed, WorkerDied)):
        await question
    assert not fixture.session._routes
    assert len(fixture.session.questions) == 0
    assert fixture.reader.done()
    await fixture.session.close()


async def test_an_input_is_answered_and_a_failed_one_gets_the_reason() -> None:
    fixture = Fixture()
    fixture.worker.send(m.InputMessage(id="1", execution_id="e", prompt="?"))
    await settle()
    fixture.answers.set_result("yes")
    assert await fixture.worker.receive() == m.InputResponseMessage(input_id="1", value="yes")
    fixture.answers = asyncio.get_running_loop().create_future()
    fixture.answers.set_exception(RuntimeError("no one is here"))
    fixture.worker.send(m.InputMessage(id="2", execution_id="e", prompt="?"))
    response = await fixture.worker.receive()
    assert response.value is None
    assert "no one is here" in response.error
    await fixture.session.close()


async def test_routes_are_bounded() -> None:
    fixture = Fixture()
    for n in range(MAX_ROUTES + 1):
        fixture.worker.send(m.InputMessage(id=str(n), execution_id="e", prompt="?"))
    with pytest.raises(ProtocolError, match="inputs wait"):
        await fixture.reader
    await fixture.session.close()
