"""Requests of cells: which messages a command takes, and what the answers to requests are."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from capsule_durable import ids
from capsule_durable.config.settings import Settings
from capsule_durable.execution.runtime import Runtime
from capsule_durable.messaging.capabilities import Capabilities
from capsule_durable.messaging.transport import SocketTransport
from capsule_durable.workers.launcher import Launcher
from capsule_kernel.console.render import JSON_MIME, render
from capsule_worker.protocol import Message
from capsule_worker.protocol import messages as m
from tests.support.waiting import DEADLINE

pytestmark = pytest.mark.asyncio


class LoggedRuntime:
    """A runtime, what its cells display, and the messages of the requests of cells."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, home: str, **settings: Any) -> None:
        self.log: list[Message] = []
        self.displayed: list[dict[str, Any]] = []
        python = sys.executable
        capabilities = Capabilities(lambda *_: None, self._display, lambda _: None, render=render)
        self.runtime = Runtime(
            uuid.uuid4().hex, Settings(python=python, home=home, **settings), capabilities, Launcher(python)
        )
        self.runtime.session.add_message_interceptor(self._record)
        send = SocketTransport.send

        def logged(transport: SocketTransport, message: Message) -> None:
            self._record(message)
            send(transport, message)

        monkeypatch.setattr(SocketTransport, "send", logged)
        self.runtime.start()

    def _display(self, _execution_id: str, output: m.Output) -> None:
        if isinstance(output, m.DisplayOutput):
            self.displayed.append(output.data)

    def _record(self, message: Message) -> None:
        if isinstance(message, (m.RequestMessage, m.AnswerMessage, m.RestoreFinishedMessage)):
            self.log.append(message)

    async def run(self, code: str) -> m.ResultMessage:
        """Run a cell, and keep the messages of its requests only."""
        self.log.clear()
        self.displayed.clear()
        request = m.ExecuteMessage(id=ids.new_execution_id(), code=code)
        return await asyncio.wait_for(self.runtime.cells.execute(request), DEADLINE)


@pytest_asyncio.fixture
async def logged(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> AsyncIterator[LoggedRuntime]:
    built = LoggedRuntime(monkeypatch, str(tmp_path / "home"), checkpoints="sync")
    yield built
    await asyncio.wait_for(built.runtime.close(), DEADLINE)


async def test_a_restore_is_one_crossing_and_one_report(logged: LoggedRuntime) -> None:
    await logged.run("x = 1\nrows = [1]")
    await logged.run("%capsule checkpoint base")
    assert [type(message) for message in logged.log] == [m.RequestMessage, m.AnswerMessage] * 2
    await logged.run("x = 2")
    assert logged.log == []
    assert (await logged.run("%capsule restore base")).status == "ok"
    request, answer, report = logged.log
    assert isinstance(request, m.RequestMessage)
    assert request.request == m.RestoreRequest(checkpoint="base")
    assert isinstance(answer, m.AnswerMessage)
    assert isinstance(answer.answer, m.RestorePlan)
    assert answer.answer.report.restored == ["rows", "x"]
    assert isinstance(report, m.RestoreFinishedMessage)
    assert (report.checkpoint_id, report.restored, report.failed, report.whole) == (
        answer.answer.report.checkpoint.id,
        ["rows", "x"],
        {},
        True,
    )
    # The cell displays what the front has rendered, once.
    assert logged.displayed == [answer.display]
    # A part of a checkpoint does not become the current one.
    await logged.run("%capsule restore base x")
    assert [type(message) for message in logged.log] == [m.RequestMessage, m.AnswerMessage, m.RestoreFinishedMessage]
    assert not logged.log[-1].whole
    # What fails is reported, and the current checkpoint stays.
    assert (await logged.run("%capsule restore nothing")).status == "error"
    failed = logged.log[-1]
    assert isinstance(failed, m.AnswerMessage)
    assert failed.error is not None
    assert (failed.error.code, failed.answer, failed.display) == ("not_found", None, {})


@pytest.mark.parametrize(
    ("command", "schema"),
    [
        ("status", "status"),
        ("checkpoints", "checkpoints"),
        ("show base", "checkpoint"),
        ("diff base", "diff"),
        ("restore base", "restored"),
        ("undo", "restored"),
        ("delete base", "deleted"),
    ],
)
async def test_every_command_has_a_form_for_programs(logged: LoggedRuntime, command: str, schema: str) -> None:
    await logged.run("x = 1")
    await logged.run("%capsule checkpoint base")
    await logged.run("x = 2")
    result = await logged.run(f"%capsule {command}")
    assert result.status == "ok", result
    (bundle,) = logged.displayed
    assert bundle.keys() == {"text/plain", "text/html", JSON_MIME}
    assert (bundle[JSON_MIME]["schema"], bundle[JSON_MIME]["api"]) == (f"capsule.{schema}/1", 1)
    json.dumps(bundle[JSON_MIME], allow_nan=False)
    # What is captured is not displayed.
    assert (await logged.run("%%capture caught\n%capsule status")).status == "ok"
    assert logged.displayed == []
    assert (await logged.run("assert 'Saving: saved after' in caught.outputs[0].data['text/plain']")).status == "ok"


async def test_a_request_that_is_too_long_is_refused_where_it_is_made(logged: LoggedRuntime) -> None:
    await logged.run("x = 1")
    for command in (f"show {'x' * 4097}", "delete" + " x" * 1001, f"checkpoints {'x' * 4097}"):
        result = await logged.run(f"%capsule {command}")
        assert (result.status, result.ename) == ("error", "UsageError")
        assert "should have at most" in (result.evalue or "")
        assert logged.log == []
    # Text that is not valid Unicode does not end the worker.
    assert (await logged.run("get_ipython().run_line_magic('capsule', 'checkpoints \\udc80')")).status == "ok"
    assert (await logged.run("assert x == 1")).status == "ok"


@pytest.mark.parametrize("mode", ["off", "background"])
async def test_the_status_is_answered_where_nothing_is_saved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, mode: str
) -> None:
    (tmp_path / "file").write_text("")
    home = tmp_path / ("home" if mode == "off" else "file/home")
    logged = LoggedRuntime(monkeypatch, str(home), checkpoints=mode)
    assert (await logged.run("%capsule status")).status == "ok"
    (bundle,) = logged.displayed
    status = bundle[JSON_MIME]
    assert status["saving"]["state"] == ("off" if mode == "off" else "not_saving")
    assert status["saving"]["reason"]
    assert (status["session"], status["last"], status["profile"]) == (None, None, "open")
    await asyncio.wait_for(logged.runtime.close(), DEADLINE)
