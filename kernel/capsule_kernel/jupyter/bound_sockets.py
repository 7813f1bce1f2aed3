"""The addresses at which clients reach the kernel.

This module imports only ZMQ: the sockets are bound while the rest is being imported. Clients try to connect about every
tenth of a second, and are connected by the time that the kernel is ready. What they send until then waits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zmq

#: Milliseconds that a closing socket may take to send what it holds.
LINGER = 1000


class BoundSockets:
    """Binds the sockets that a connection file names, but for the heartbeat's.

    Args:
        values: what is in the file. A port of 0 is chosen, and put there, when its socket is bound.

    Raises:
        zmq.ZMQError: an address cannot be bound.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.context = zmq.Context()
        self.shell = self._bind("shell", zmq.ROUTER)
        self.control = self._bind("control", zmq.ROUTER)
        self.stdin = self._bind("stdin", zmq.ROUTER)
        self.iopub = self._bind("iopub", zmq.XPUB)

    def address(self, channel: str) -> str:
        """Return the address of a channel, such as ``tcp://127.0.0.1:5555``.

        Args:
            channel: shell, iopub, stdin, control or hb.
        """
        separator = ":" if self.transport == "tcp" else "-"
        return f"{self.transport}://{self.ip}{separator}{self.values[f'{channel}_port']}"

    @property
    def transport(self) -> str:
        """Either ``tcp`` or ``ipc``."""
        return str(self.values.get("transport", "tcp"))

    @property
    def ip(self) -> str:
        """The interface for tcp, the path's beginning for ipc."""
        return str(self.values.get("ip", "127.0.0.1"))

    def curve(self) -> tuple[bytes, bytes] | None:
        """Return the public and the secret key of CurveZMQ, where the manager provided them."""
        public, secret = self.values.get("curve_publickey"), self.values.get("curve_secretkey")
        if not public or not secret:
            return None
        return _key(public), _key(secret)

    def ports(self) -> dict[str, int]:
        """Return the ports, as ``connect_reply`` has them."""
        return {name: value for name, value in self.values.items() if name.endswith("_port")}

    def close(self) -> None:
        """Release the addresses; the sockets are closed."""
        self.context.term()
        if self.transport == "ipc":
            for name in self.ports():
                path = Path(self.address(name.removesuffix("_port")).removeprefix("ipc://"))
                path.unlink(missing_ok=True)

    def _bind(self, channel: str, kind: int) -> zmq.Socket[bytes]:
        socket = self.context.socket(kind)
        socket.linger = LINGER
        if kind == zmq.ROUTER:
            # A client that reconnects under its old identity takes over from its dead connection.
            socket.router_handover = 1
        else:
            # Nothing is dropped for a slow client: what it has not read yet waits here.
            socket.sndhwm = 0
            # Subscriptions are greeted before they take effect.
            socket.setsockopt(zmq.XPUB_MANUAL, 1)
        keys = self.curve()
        if keys is not None:
            socket.curve_publickey, socket.curve_secretkey = keys
            socket.curve_server = True
        socket.bind(self.address(channel))
        if not self.values[f"{channel}_port"]:
            endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
            self.values[f"{channel}_port"] = int(endpoint.rpartition(":")[2])
        return socket


def _key(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)
