"""A conversation with a kernel over its raw channels: everything it says is kept, in the order of arrival."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import zmq

from tests.support.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_client.blocking.client import BlockingKernelClient

type Message = dict[str, Any]


def class_name(ename: str) -> str:
    """Return the name of an error's class. xeus-python's messages have the ``repr`` of the class."""
    return ename.removeprefix("<class '").removesuffix("'>")


@dataclass(frozen=True)
class Heard:
    """One message and the channel on which it came."""

    channel: str
    message: Message

    @property
    def kind(self) -> str:
        """The message's type."""
        return str(self.message["header"]["msg_type"])

    @property
    def parent(self) -> str:
        """The id of the request that the message belongs to, empty without one."""
        # xeus writes null where there is none.
        return str((self.message["parent_header"] or {}).get("msg_id", ""))

    @property
    def content(self) -> dict[str, Any]:
        """The message's content, with the name of an error's class."""
        content = dict(self.message["content"])
        if isinstance(name := content.get("ename"), str):
            content["ename"] = class_name(name)
        return content


@dataclass(frozen=True)
class Exchange:
    """What the kernel has said so far about one request."""

    request: str
    heard: tuple[Heard, ...]

    @property
    def replies(self) -> list[dict[str, Any]]:
        """The contents of its replies on shell or control; a good kernel gives one."""
        return [one.content for one in self.heard if one.channel in {"shell", "control"}]

    @property
    def reply(self) -> dict[str, Any]:
        """The content of its only reply."""
        (reply,) = self.replies
        return reply

    @property
    def published(self) -> list[Heard]:
        """What it published on iopub, in order."""
        return [one for one in self.heard if one.channel == "iopub"]

    @property
    def kinds(self) -> list[str]:
        """The message types of what it published, without the states; in how many pieces text comes does not count."""
        without_states = [one for one in self.published if one.kind != "status"]
        pieces = groupby(without_states, lambda one: ("stream", one.content["name"]) if one.kind == "stream" else one)
        return [next(several).kind for _, several in pieces]

    @property
    def states(self) -> list[str]:
        """The execution states it published."""
        return [str(content["execution_state"]) for content in self.of("status")]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the contents of the published messages of one type."""
        return [one.content for one in self.published if one.kind == kind]

    def text(self, stream: str = "stdout") -> str:
        """Return everything written to one stream."""
        return "".join(content["text"] for content in self.of("stream") if content["name"] == stream)

    @property
    def result(self) -> str:
        """The plain text of its only execute_result."""
        (content,) = self.of("execute_result")
        return str(content["data"]["text/plain"])


class Conversation:
    """A client's side of a conversation."""

    def __init__(self, client: BlockingKernelClient) -> None:
        """Begin to listen to a client whose channels have been started."""
        self.client = client
        self.heard: list[Heard] = []
        #: The requests that were replied to, and those after which the kernel went idle: there may be many messages.
        self._replied: set[str] = set()
        self._idle: set[str] = set()
        channels = {
            "shell": client.shell_channel,
            "control": client.control_channel,
            "iopub": client.iopub_channel,
            "stdin": client.stdin_channel,
        }
        self._poller = zmq.Poller()
        self._channels = {}
        for name, channel in channels.items():
            self._poller.register(channel.socket, zmq.POLLIN)
            self._channels[channel.socket] = (name, channel)

    def exchange(self, request: str) -> Exchange:
        """Return what has been heard about a request so far."""
        heard: list[Heard] = []
        current = ""
        for one in self.heard:
            if one.channel == "iopub":
                current = one.parent or current
            # async-kernel's comms name no request: theirs is the one whose messages they are among.
            if one.parent == request or (not one.parent and current == request and one.kind.startswith("comm_")):
                heard.append(one)
        return Exchange(request, tuple(heard))

    def listen_until[T](self, look: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
        """Take in messages until the look at what has been heard is true.

        Raises:
            AssertionError: it did not become true within `deadline` seconds.

        """
        end = time.monotonic() + deadline
        while not (seen := look()):
            left = end - time.monotonic()
            if left <= 0:
                lately = [(one.channel, one.kind) for one in self.heard[-20:]]
                msg = f"not within {deadline:g} s: {what}; heard {lately}"
                raise AssertionError(msg)
            for socket, _ in self._poller.poll(int(min(left, 0.5) * 1000) + 1):
                name, channel = self._channels[socket]
                self._hear(Heard(name, channel.get_msg(timeout=0)))
        return seen

    def _hear(self, one: Heard) -> None:
        self.heard.append(one)
        if one.channel in {"shell", "control"}:
            self._replied.add(one.parent)
        elif one.kind == "status" and one.content["execution_state"] == "idle":
            self._idle.add(one.parent)

    def finish(self, *requests: str, deadline: float = DEADLINE) -> tuple[Exchange, ...]:
        """Wait for the reply and the idle state of each request."""
        for request in requests:
            self.listen_until(partial(self._is_finished, request), "finished", deadline)
        return tuple(self.exchange(request) for request in requests)

    def _is_finished(self, request: str) -> bool:
        return request in self._replied and request in self._idle

    def run(self, code: str, deadline: float = DEADLINE, **options: Any) -> Exchange:
        """Execute code to its end. The options are those of `KernelClient.execute`."""
        (exchange,) = self.finish(self.client.execute(code, **options), deadline=deadline)
        return exchange

    def start(self, code: str, shows: str = "started", **options: Any) -> str:
        """Execute code that writes `shows` to stdout when it is under way; wait for that, return its id."""
        request = str(self.client.execute(code, **options))
        self.listen_until(lambda: shows in self.exchange(request).text(), f"{code!r} writes {shows!r}")
        return request

    def asked(self, request: str, count: int = 1) -> dict[str, Any]:
        """Wait until an execution has asked so many times, and return the content of that input_request."""

        def look() -> list[dict[str, Any]]:
            asked = [one.content for one in self.heard if one.channel == "stdin" and one.parent == request]
            return asked[count - 1 :]

        return self.listen_until(look, f"input_request {count}")[0]

    def answer(self, value: str, request: str = "") -> None:
        """Answer the latest question (of an execution) as JupyterLab does: the answer names it as its parent."""
        questions = [one.message for one in self.heard if one.channel == "stdin" and request in ("", one.parent)]
        reply = self.client.session.msg("input_reply", {"status": "ok", "value": value}, parent=questions[-1])
        self.client.stdin_channel.send(reply)

    def send_control(self, kind: str, content: dict[str, Any] | None = None) -> str:
        """Send a request on the control channel, and return its id."""
        message = self.client.session.msg(kind, content or {})
        self.client.control_channel.send(message)
        return str(message["header"]["msg_id"])
