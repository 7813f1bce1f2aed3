"""The dispatcher of requests: it finds handlers by type, answers each request once, and survives its handlers."""

from __future__ import annotations

import asyncio
import logging

import msgpack
import pytest
import pytest_asyncio
from pydantic import ValidationError

from capsule_durable.errors import TransportClosed
from capsule_durable.messaging.requests import MAX_OPEN, RequestDispatcher, RequestError
from capsule_worker.protocol import Message, ProtocolError, decode, encode
from capsule_worker.protocol import messages as m

pytestmark = pytest.mark.asyncio


class Worker:
    """A dispatcher, and the answers that it sends."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[m.AnswerMessage] = asyncio.Queue()
        self.is_gone = False
        self.dispatcher = RequestDispatcher(self._send, lambda answer: {"text/plain": answer.kind})

    def _send(self, message: Message) -> None:
        if self.is_gone:
            raise TransportClosed("gone")
        assert isinstance(message, m.AnswerMessage)
        self.answers.put_nowait(message)

    def request(self, request: m.KernelRequest, request_id: str = "1") -> None:
        self.dispatcher.dispatch(m.RequestMessage(id=request_id, execution_id="e", request=request))


@pytest_asyncio.fixture
async def worker() -> Worker:
    return Worker()


async def test_a_request_is_answered_by_the_handler_of_its_type(worker: Worker) -> None:
    async def show(request: m.ShowCheckpointRequest) -> m.SubshellList:
        return m.SubshellList(ids=[request.checkpoint])

    async def leave(_: m.LeaveRequest) -> m.Done:
        return m.Done()

    worker.dispatcher.register(m.ShowCheckpointRequest, show)
    worker.dispatcher.register(m.LeaveRequest, leave)
    worker.request(m.ShowCheckpointRequest(checkpoint="a"), "7")
    answer = await worker.answers.get()
    assert answer == m.AnswerMessage(
        request_id="7", answer=m.SubshellList(ids=["a"]), display={"text/plain": "subshell_list"}
    )
    worker.request(m.LeaveRequest(), "8")
    assert (await worker.answers.get()).answer == m.Done()


async def test_a_refusal_is_the_handlers_and_any_other_error_is_internal(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(_: m.LeaveRequest) -> m.Done:
        raise RequestError("ambiguous", "several match", "Pass more of the id.")

    async def fail(_: m.ResumeRequest) -> m.Done:
        raise ZeroDivisionError("by zero")

    worker.dispatcher.register(m.LeaveRequest, refuse)
    worker.dispatcher.register(m.ResumeRequest, fail)
    worker.request(m.LeaveRequest())
    assert (await worker.answers.get()).error == m.RequestFailure(
        code="ambiguous", message="several match", suggestion="Pass more of the id."
    )
    with caplog.at_level(logging.ERROR):
        worker.request(m.ResumeRequest())
        error = (await worker.answers.get()).error
    assert error is not None
    assert f"{error.message}. {error.suggestion}" == (
        "Internal error (ZeroDivisionError: by zero). Please report it with the output of capsule doctor --json."
    )
    assert error.code == "internal"
    assert "ZeroDivisionError" in caplog.text


async def test_so_many_requests_may_be_open_and_no_more(worker: Worker) -> None:
    go = asyncio.Event()

    async def wait(_: m.LeaveRequest) -> m.Done:
        await go.wait()
        return m.Done()

    worker.dispatcher.register(m.LeaveRequest, wait)
    for number in range(MAX_OPEN + 1):
        worker.request(m.LeaveRequest(), str(number))
    refused = await worker.answers.get()
    assert refused.request_id == str(MAX_OPEN)
    assert refused.error is not None
    assert refused.error.code == "too_many"
    go.set()
    answered = {(await worker.answers.get()).request_id for _ in range(MAX_OPEN)}
    assert answered == {str(number) for number in range(MAX_OPEN)}
    worker.request(m.LeaveRequest(), "again")
    assert (await worker.answers.get()).answer == m.Done()


async def test_requests_that_are_answered_at_once_are_not_open(worker: Worker) -> None:
    async def leave(_: m.LeaveRequest) -> m.Done:
        return m.Done()

    worker.dispatcher.register(m.LeaveRequest, leave)
    loop = asyncio.get_running_loop()
    # As in the kernel: a handler that does not wait has answered when its task is created.
    loop.set_task_factory(asyncio.eager_task_factory)
    try:
        for number in range(MAX_OPEN + 1):
            worker.request(m.LeaveRequest(), str(number))
    finally:
        loop.set_task_factory(None)
    answers = [worker.answers.get_nowait() for _ in range(MAX_OPEN + 1)]
    assert [answer.error for answer in answers] == [None] * (MAX_OPEN + 1)


async def test_open_requests_are_given_up_with_the_dispatcher(worker: Worker) -> None:
    async def wait(_: m.LeaveRequest) -> m.Done:
        await asyncio.Event().wait()
        return m.Done()

    worker.dispatcher.register(m.LeaveRequest, wait)
    worker.request(m.LeaveRequest())
    await asyncio.wait_for(worker.dispatcher.close(), 5)
    await worker.dispatcher.close()
    assert worker.answers.empty()


async def test_an_answer_to_a_worker_that_is_gone_is_dropped(worker: Worker) -> None:
    async def leave(_: m.LeaveRequest) -> m.Done:
        worker.is_gone = True
        return m.Done()

    worker.dispatcher.register(m.LeaveRequest, leave)
    worker.request(m.LeaveRequest())
    await worker.dispatcher.close()
    assert worker.answers.empty()


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "show_checkpoint", "checkpoint": "x" * 4097},
        {"kind": "list_checkpoints", "query": ["x"] * 1001},
        {"kind": "delete_checkpoints", "checkpoints": []},
        {"kind": "undo", "cells": 0},
        {"kind": "restore", "checkpoint": "a", "variables": ["x" * 4097]},
        {"kind": "status", "worker": {"not_saved": {str(number): "" for number in range(1001)}}},
        {"kind": "__class__"},
        {"kind": "leave", "more": 1},
        {},
    ],
    ids=["text", "list", "no list", "number", "text in a list", "map", "no kind", "more", "nothing"],
)
async def test_a_request_beyond_a_bound_is_not_a_message(fields: dict[str, object]) -> None:
    whole = {"type": "request", "id": "1", "execution_id": "", "request": fields}
    with pytest.raises(ValidationError):
        m.RequestMessage.model_validate(whole)
    good = encode(m.RequestMessage(id="1", execution_id="", request=m.LeaveRequest()))
    assert isinstance(decode(good[4:]), m.RequestMessage)
    with pytest.raises(ProtocolError):
        decode(msgpack.packb(whole))
