"""The worker by itself, in whatever Python it was installed into: nothing of the front is needed or imported here."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capsule_worker.protocol import Decoder, encode
from capsule_worker.protocol import messages as m
from capsule_worker.protocol.output_buffer import SIZE
from tests.support.waiting import DEADLINE


class Peer:
    """The front's end of a worker's socket."""

    def __init__(self, directory: Path) -> None:
        self._sock, theirs = socket.socketpair()
        self._sock.settimeout(DEADLINE)
        pipes = [os.pipe(), os.pipe()]
        writers, standby = os.pipe(), socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        buffer, crash = os.memfd_create("output"), os.memfd_create("crash")
        os.ftruncate(buffer, SIZE)
        given = {
            "fd": theirs.fileno(),
            "stdout": pipes[0][0],
            "stderr": pipes[1][0],
            "output-buffer": buffer,
            "crash": crash,
            "writers": writers[1],
            "standby": standby[1].detach(),
        }
        self._writers, self._standby = writers[0], standby[0]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "capsule_worker", *[f"--{name}={fd}" for name, fd in given.items()]],
            stdin=subprocess.DEVNULL,
            stdout=pipes[0][1],
            stderr=pipes[1][1],
            pass_fds=list(given.values()),
            start_new_session=True,
            env={**os.environ, "IPYTHONDIR": str(directory), "CAPSULE_PROCESS_TAG": f"compat{os.getpid()}."},
        )
        for fd in [*given.values(), pipes[0][1], pipes[1][1]]:
            if fd == theirs.fileno():
                theirs.close()
            else:
                os.close(fd)
        self._decoder = Decoder()
        self._waiting: list[Any] = []

    def send(self, message: Any) -> None:
        self._sock.sendall(encode(message))

    def receive(self) -> Any:
        while not self._waiting:
            data = self._sock.recv(1 << 16)
            assert data, "the worker has gone"
            self._waiting += self._decoder.feed(data)
        return self._waiting.pop(0)

    def run(self, code: str, **fields: Any) -> tuple[str, Any]:
        """Run a cell; return its text and its result."""
        self.send(m.ExecuteMessage(id="e", code=code, **fields))
        text = ""
        while True:
            message = self.receive()
            if isinstance(message, (m.ResultMessage, m.ErrorMessage)):
                return text, message
            if isinstance(message, m.InputMessage):
                self.send(m.InputResponseMessage(input_id=message.id, value="an answer"))
            elif isinstance(message.output, m.StreamOutput):
                text += message.output.text
            elif isinstance(message.output, m.ExecuteResultOutput):
                text += message.output.data["text/plain"]

    def close(self) -> None:
        self._sock.close()
        self._standby.close()
        os.close(self._writers)
        self.process.wait(timeout=DEADLINE)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    opened = Peer(tmp_path_factory.mktemp("ipython"))
    ready = opened.receive()
    assert ready.python_version == sys.version.split()[0]
    yield opened
    opened.send(m.ShutdownMessage(id="last"))
    assert isinstance(opened.receive(), m.ShutdownReplyMessage)
    opened.close()
    assert opened.process.returncode == 0


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("6 * 7", "42"),
        ("print('x')", "x\n"),
        ("import os; os.system('echo child'); None", "child\n"),
        ("import asyncio\nawait asyncio.sleep(0)\nprint('awaited')", "awaited\n"),
        ("input('?')", "'an answer'"),
        ("%%capture\nprint('hidden')", ""),
        ("import ipykernel\nfrom ipykernel.comm import Comm\nipykernel.iostream.OutStream.__name__", "'OutStream'"),
        ("'ipykernel' in __import__('sys').modules, type(get_ipython()).__module__", "(True, 'ipykernel.zmqshell')"),
        ("get_ipython().get_parent()['content']['code'][:5]", "'get_i'"),
        ("%config ZMQDisplayPublisher.store_display_history = True\ndisplay(1)", ""),
        ("get_ipython().display_pub.publish('notadict') if False else get_ipython().autoindent", "False"),
        ("for i in range(20_000): print(i)", "".join(f"{i}\n" for i in range(20_000))),
    ],
)
def test_a_cell_runs(peer: Peer, code: str, text: str) -> None:
    got, result = peer.run(code, allow_stdin=True)
    assert result.status == "ok", result
    assert got == text


def test_an_error_fails_its_cell_only(peer: Peer) -> None:
    _, result = peer.run("1 / 0")
    assert (result.status, result.ename) == ("error", "ZeroDivisionError")
    assert any("Cell" in line for line in result.traceback)
    assert peer.run("'still here'")[0] == "'still here'"


def test_context_variables_outlive_their_cell(peer: Peer) -> None:
    peer.run("from contextvars import ContextVar\nvariable = ContextVar('variable', default=0)\nvariable.set(1)")
    peer.run("import asyncio\nawait asyncio.sleep(0)\nvariable.set(variable.get() + 1)")
    assert peer.run("variable.get()")[0] == "2"


def test_a_cell_is_interrupted(peer: Peer) -> None:
    peer.send(m.ExecuteMessage(id="e", code="print('started')\nimport time\ntime.sleep(60)"))
    assert peer.receive().output.text == "started\n"
    started = time.monotonic()
    peer.send(m.InterruptMessage(id="i", execution_id="e"))
    while not isinstance(message := peer.receive(), m.ResultMessage):
        pass
    assert message.ename == "KeyboardInterrupt"
    assert time.monotonic() - started < DEADLINE / 2


def test_questions_are_answered(peer: Peer) -> None:
    peer.run("a_name_of_mine = 1")
    peer.send(m.CompleteMessage(id="c", code="a_name_of", cursor_pos=9))
    assert peer.receive().content["matches"] == ["a_name_of_mine"]
    peer.send(m.InspectMessage(id="i", code="a_name_of_mine", cursor_pos=3))
    assert peer.receive().content["found"]
    peer.send(m.IsCompleteMessage(id="n", code="if x:"))
    assert peer.receive().status == "incomplete"
    peer.send(m.HistoryMessage(id="h", access="tail", n=1))
    assert len(peer.receive().history) == 1
