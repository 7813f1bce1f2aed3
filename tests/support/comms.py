"""Comm messages, sent and read as a client with widgets does."""

from __future__ import annotations

from typing import Any

from tests.support.conversation import Conversation, Exchange, Heard

#: A cell that registers a comm target, which sends back what it receives.
ECHO = """
from comm import create_comm, get_comm_manager
told = []
def opened(comm, message):
    told.append(message['content']['data'])
    def hear(message):
        print('heard', message['content']['data'])
        comm.send({'echo': message['content']['data']}, metadata={'a': 1}, buffers=message['buffers'])
    comm.on_msg(hear)
    comm.on_close(lambda message: told.append('closed'))
get_comm_manager().register_target('echo', opened)
"""


def say(kernel: Conversation, kind: str, buffers: list[bytes] | None = None, **content: Any) -> str:
    """Send a comm message; return its id."""
    message = kernel.client.session.msg(kind, content)
    kernel.client.session.send(kernel.client.shell_channel.socket, message, buffers=buffers or [])
    return str(message["header"]["msg_id"])


def over(kernel: Conversation, request: str) -> Exchange:
    """Wait until the kernel has taken a comm message."""
    kernel.listen_until(lambda: "idle" in kernel.exchange(request).states, "taken")
    return kernel.exchange(request)


def comms_of(exchange: Exchange, kind: str = "comm_msg") -> list[Heard]:
    """Return the comm messages that belong to a request."""
    return [one for one in exchange.published if one.kind == kind]


def ours(kernel: Conversation, callback: str) -> str:
    """Open a comm in a cell, whose messages a callback hears; return its id."""
    done = kernel.run(f"from comm import create_comm\nours = create_comm(target_name='ours')\nours.on_msg({callback})")
    (opened,) = comms_of(done, "comm_open")
    return str(opened.content["comm_id"])


def model_of(exchange: Exchange) -> str:
    """Return the id of the widget that a cell shows."""
    (shown,) = exchange.of("display_data") or exchange.of("execute_result")
    return str(shown["data"]["application/vnd.jupyter.widget-view+json"]["model_id"])
