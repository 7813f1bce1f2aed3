"""Real servers, and clients that speak with kernels through them: by HTTP and a websocket."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import urllib.request
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import websocket
from jupyter_client.session import Session

from tests.support.conversation import class_name
from tests.support.kernels import kernel_environment
from tests.support.waiting import DEADLINE, poll_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = secrets.token_hex(16)


@dataclass(frozen=True)
class Server:
    """A running server: where it is, what opens it, and the folder that it shows."""

    url: str
    token: str
    work: Path

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Make a request of its interface for programs, and return the answer."""
        request = urllib.request.Request(
            f"{self.url}api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def kernels(self) -> dict[str, str]:
        """Return the states of the kernels that run there, by their ids."""
        return {one["id"]: one["execution_state"] for one in self.ask("GET", "kernels")}

    @contextmanager
    def talk(self, kernel_id: str) -> Iterator[Talk]:
        """Open the channels of a kernel."""
        url = f"{self.url.replace('http', 'ws', 1)}api/kernels/{kernel_id}/channels"
        connection = websocket.create_connection(
            url, timeout=DEADLINE, header=[f"Authorization: token {self.token}"], suppress_origin=True
        )
        with closing(connection):
            yield Talk(connection)


class Talk:
    """A client of a kernel behind a server."""

    def __init__(self, connection: websocket.WebSocket) -> None:
        """Use an open connection."""
        self._connection = connection
        self._session = Session()

    def start(self, code: str) -> str:
        """Send a cell, and return the request's id."""
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "user_expressions": {}}
        message = self._session.msg("execute_request", content)
        message["channel"] = "shell"
        self._connection.send(json.dumps(message, default=str))
        return str(message["header"]["msg_id"])

    def hear_until(self, request: str, kind: str) -> list[dict[str, Any]]:
        """Take in what belongs to a request up to the first message of a kind."""
        heard: list[dict[str, Any]] = []
        while not heard or heard[-1]["header"]["msg_type"] != kind:
            message = json.loads(self._connection.recv())
            if (message["parent_header"] or {}).get("msg_id") == request:
                heard.append(message)
        return heard

    def run(self, code: str) -> str:
        """Run a cell, and return the text of its result, or its error."""
        heard = self.hear_until(request := self.start(code), "execute_reply")
        (reply,) = [one["content"] for one in heard if one["channel"] == "shell"]
        while not any(one["content"].get("execution_state") == "idle" for one in heard):
            heard += self.hear_until(request, "status")
        results = [one["content"]["data"]["text/plain"] for one in heard if one["msg_type"] == "execute_result"]
        return "".join(results) or class_name(str(reply.get("ename", "")))


@contextmanager
def serving(command: list[str], work: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server, and end it and its process group.

    Args:
        command: what runs it.
        work: the folder in which it is started.
        log: where its log is kept.

    """
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, cwd=work, env=kernel_environment(), stdout=sink, stderr=sink, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def address(process: subprocess.Popen[bytes], home: Path, log: Path) -> str:
    """Wait until a server of Jupyter's tells its address, and return it.

    Args:
        process: the server.
        home: where the Jupyter directories of this test's environment lie.
        log: where its log is kept.

    """
    told = home / "run" / f"jpserver-{process.pid}.json"

    def look() -> str:
        assert process.poll() is None, f"the server ended:\n{log.read_text()}"
        try:
            return str(json.loads(told.read_text())["url"])
        except (FileNotFoundError, json.JSONDecodeError):
            return ""

    return poll_until(look, "the server tells its address", 60)
