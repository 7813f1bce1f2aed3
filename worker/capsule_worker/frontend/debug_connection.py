"""The connection to pydevd, debugpy's debugger, which traces this process and speaks the Debug Adapter Protocol (DAP).

It is a connection to ourselves, without the adapter process that debugpy would start: that one listens on a port, on
which every program of the machine could run code as this user.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

#: Seconds that pydevd may take to connect.
_CONNECT_TIMEOUT_SECONDS = 20.0

#: A message of DAP.
DapMessage = dict[str, Any]
Handler = Callable[[DapMessage], None]


class DebugConnection:
    """Speaks DAP with pydevd, which it starts. Create it in the main thread, which is traced from then on.

    Args:
        handle_event: called with each event, in a thread of its own.
        on_lost: called in that thread when pydevd has closed the connection.

    Raises:
        OSError: pydevd did not connect.
    """

    def __init__(self, handle_event: Handler, on_lost: Callable[[], None]) -> None:
        self._handle_event = handle_event
        self._on_lost = on_lost
        self._sending = threading.Lock()
        self._pending: dict[int, tuple[DapMessage, Handler]] = {}
        self._number = 0
        self._socket = _start_pydevd()
        threading.Thread(target=self._read, name="capsule-debugger", daemon=True).start()

    def ask(self, request: DapMessage, answer: Handler) -> None:
        """Send a request.

        Args:
            request: the request; it is sent with another ``seq``.
            answer: called with the reply in another thread; the reply refers to the request's own ``seq``.
        """
        with self._sending:
            self._number += 1
            self._pending[self._number] = (request, answer)
            content = json.dumps({"type": "request", **request, "seq": self._number}).encode()
            self._socket.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(content), content))

    def close(self) -> None:
        """End the connection, and with it the tracing of cells."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def _read(self) -> None:
        with self._socket, self._socket.makefile("rb") as stream, contextlib.suppress(OSError):
            while (message := _next_message(stream)) is not None:
                request, answer = self._pending.pop(message.get("request_seq", 0), ({}, _drop))
                try:
                    if message.get("type") == "event":
                        self._handle_event(message)
                    else:
                        answer({**message, "request_seq": request.get("seq")})
                # An unexpected message from pydevd does not end the process.
                except Exception as error:
                    text = f"the debugger sent an unexpected answer: {type(error).__name__}: {error}"
                    answer(failure(request, text))
        for request, answer in list(self._pending.values()):
            answer(failure(request, "the debugger has ended"))
        self._on_lost()


def success(request: DapMessage, body: DapMessage) -> DapMessage:
    """Return a reply.

    Args:
        request: what is answered.
        body: the body of the reply.
    """
    return {"type": "response", "success": True, "command": request.get("command"), "body": body}


def failure(request: DapMessage, text: str) -> DapMessage:
    """Return a reply that refuses a request.

    Args:
        request: what is refused.
        text: why.
    """
    return {"type": "response", "success": False, "command": request.get("command"), "message": text}


def import_pydevd() -> Any:
    """Return pydevd, which is inside debugpy, and undo that its import replaces what ``breakpoint()`` calls."""
    # It would warn about modules that are frozen into the interpreter, in which no breakpoints are set.
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    before = sys.breakpointhook
    import debugpy.server  # noqa: F401  # puts it on the path
    import pydevd  # type: ignore[import-not-found]

    if sys.breakpointhook is not before and not hasattr(pydevd, "capsule_breakpointhook"):
        pydevd.capsule_breakpointhook, sys.breakpointhook = sys.breakpointhook, before
    return pydevd


def stop_pydevd() -> None:
    """Stop tracing, and have ``breakpoint()`` do what it did before. Call it in the main thread."""
    if _hooks:
        sys.breakpointhook = _hooks.pop()
    import_pydevd().stoptrace()


def stop_tracing() -> None:
    """Stop tracing in a forked child, which has none of the threads that its breakpoints would wait for."""
    sys.settrace(None)
    monitoring = getattr(sys, "monitoring", None)  # Python 3.12
    if monitoring is not None and monitoring.get_tool(monitoring.DEBUGGER_ID) is not None:
        monitoring.set_events(monitoring.DEBUGGER_ID, 0)


def _start_pydevd() -> socket.socket:
    """Start pydevd, which traces this process and connects to us; return our end."""
    pydevd = import_pydevd()
    from _pydevd_bundle import pydevd_constants  # type: ignore[import-not-found]  # it is inside debugpy

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_CONNECT_TIMEOUT_SECONDS)
        pydevd.settrace(
            *listener.getsockname()[:1],
            port=listener.getsockname()[1],
            suspend=False,
            wait_for_ready_to_run=False,
            notify_stdin=False,
            patch_multiprocessing=False,
            dont_trace_start_patterns=(str(Path(sys.modules["debugpy"].__file__ or "").parent),),
            protocol=pydevd_constants.HTTP_JSON_PROTOCOL,
        )
        ours, peer = listener.accept()
    ours.settimeout(None)
    if pydevd_constants.get_global_debugger().writer.sock.getsockname() != peer:
        ours.close()
        raise ConnectionRefusedError("another program connected in place of pydevd")
    # ``breakpoint()`` stops where the client sees it, as long as it debugs.
    _hooks.append(sys.breakpointhook)
    sys.breakpointhook = pydevd.capsule_breakpointhook
    return ours


#: What ``breakpoint()`` calls without a debugger, kept while one is attached.
_hooks: list[Callable[..., Any]] = []


def _next_message(stream: BinaryIO) -> DapMessage | None:
    """Return the next message of a stream, None at its end."""
    length = 0
    while (line := stream.readline()).strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    content = stream.read(length) if line else b""
    return json.loads(content) if content else None


def _drop(_: DapMessage) -> None:
    """Ignore a reply without a request."""
