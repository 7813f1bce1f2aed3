"""What goes through the kernel's five ZMQ sockets, on one loop; the heartbeat alone has a thread."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

import zmq
from ipykernel.heartbeat import Heartbeat

from capsule_kernel.jupyter.bound_sockets import LINGER, BoundSockets
from capsule_kernel.jupyter.sockets import FastSession, IOPub, Router, pack

logger = logging.getLogger(__name__)


class Channels:
    """The kernel's sockets, with the session that signs their messages. Create it on the loop that serves them.

    Args:
        endpoints: the sockets, but for the heartbeat's, which is bound here.

    Raises:
        zmq.ZMQError: its address cannot be bound.
    """

    def __init__(self, endpoints: BoundSockets) -> None:
        self._endpoints = endpoints
        values = endpoints.values
        self.session = FastSession(
            key=values.get("key", "").encode(),
            signature_scheme=values.get("signature_scheme", "hmac-sha256"),
            username="kernel",
            pack=pack,
        )
        self.shell, self.control, self.stdin = map(Router, (endpoints.shell, endpoints.control, endpoints.stdin))
        self.iopub = IOPub(endpoints.iopub, self.session)
        public, secret = endpoints.curve() or (None, None)
        # A context of its own: its thread must answer whatever this process does.
        self._heartbeat = Heartbeat(
            zmq.Context(),
            (endpoints.transport, endpoints.ip, values["hb_port"]),
            curve_publickey=public,
            curve_secretkey=secret,
        )
        values["hb_port"] = self._heartbeat.port
        self._heartbeat.start()

    def ports(self) -> dict[str, int]:
        """Return the ports, as ``connect_reply`` has them."""
        return self._endpoints.ports()

    def close(self) -> None:
        """Send the queued messages and close everything."""
        for socket in (self.shell, self.control, self.stdin, self.iopub):
            socket.close(LINGER)
        self._heartbeat.context.destroy(linger=0)
        self._endpoints.close()


def watch_parent(on_lost: Any) -> None:
    """Call ``on_lost`` on the loop when the process that started this kernel is gone (``JPY_PARENT_PID``).

    A process that was started for a client which has died serves no client any more.

    Args:
        on_lost: called without arguments.
    """
    if int(os.environ.get("JPY_PARENT_PID") or 0) <= 1:
        return
    # It may be a program that Jupyter started to start this one; what is below the first process has lost its own.
    parent = os.getppid()
    if parent == 1:
        on_lost()
        return
    try:
        fd = os.pidfd_open(parent)
    except OSError:
        logger.debug("cannot watch process %d", parent)
        return
    loop = asyncio.get_running_loop()

    def lost() -> None:
        loop.remove_reader(fd)
        os.close(fd)
        on_lost()

    loop.add_reader(fd, lost)
