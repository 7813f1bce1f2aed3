"""The debugger: answers the Debug Adapter Protocol (DAP) requests of clients, with the help of debugpy's pydevd.

Requests come from the front, and events go back as outputs. This module answers itself what Jupyter adds to the
protocol: see "Additions to the DAP" in the Jupyter messaging specification.

The thread that reads the channel handles requests, and must not wait. What evaluates the notebook's code does so where
cells run (``needs_shell``).
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from IPython.core.inputtransformer2 import leading_empty_lines

from capsule_worker.frontend.debug_connection import (
    DapMessage,
    DebugConnection,
    Handler,
    failure,
    stop_pydevd,
    stop_tracing,
    success,
)
from capsule_worker.frontend.debug_variables import VariableExplorer, copy_to_globals, rich_inspect, without_internal
from capsule_worker.output.jsonable import jsonable
from capsule_worker.protocol.messages import DebugMessage, DebugOutput, DebugReplyMessage, Output
from capsule_worker.shell.cell_filenames import SEED, SUFFIX, CellFiles

#: Packages that run cells and show their results, also by modules that are loaded later.
_INTERNAL = (
    *("asyncio", "capsule_worker", "debugpy", "IPython", "traitlets"),
    *("asttokens", "executing", "pure_eval", "pygments", "stack_data"),
)
#: The event that tells clients that debugging has ended.
_TERMINATED = {"type": "event", "seq": 0, "event": "terminated", "body": {}}


def is_available() -> bool:
    """Return whether debugpy is installed where cells run."""
    return importlib.util.find_spec("debugpy") is not None


class DebugSession:
    """Answers the requests of a debugger's client.

    Args:
        shell: the shell whose cells are debugged.
        files: names the files of cells.
        publish: sends an event to clients.
        send: sends a reply.
        run_later: runs a function in the main thread, between cells.
    """

    def __init__(
        self,
        shell: Any,
        files: CellFiles,
        publish: Callable[[Output], None],
        send: Callable[[DebugReplyMessage], object],
        run_later: Callable[[Callable[[], None]], Any],
    ) -> None:
        self._shell = shell
        self._files = files
        self._publish = publish
        self._send = send
        self._run_later = run_later
        self._connection: DebugConnection | None = None
        #: Lines with breakpoints, by path.
        self._breakpoints: dict[str, list[DapMessage]] = {}
        self._stopped_threads: set[int] = set()
        self._explorer: VariableExplorer | None = None
        self._removed_transform = False
        #: What runs cells: our modules, IPython's and what they use of the standard library.
        self._machinery = tuple(sys.modules)
        os.register_at_fork(after_in_child=stop_tracing)
        self._handlers: dict[str, Callable[[DapMessage], DapMessage]] = {
            "debugInfo": self._debug_info,
            "dumpCell": self._dump_cell,
            "source": self._source,
            "modules": self._modules,
            "configurationDone": lambda _: {},  # pydevd was told when the client attached
            "inspectVariables": self._inspect_variables,
        }

    @property
    def attached(self) -> bool:
        """Whether a client debugs; it can change any variable then."""
        return self._connection is not None

    def needs_shell(self, request: DapMessage) -> bool:
        """Return whether a request has to be answered where cells run, between cells.

        Args:
            request: as DAP has it.
        """
        command = request.get("command")
        if command in ("initialize", "inspectVariables"):
            return True
        return command in ("variables", "richInspectVariables") and not self._stopped_threads

    def handle(self, message: DebugMessage) -> None:
        """Answer a request, now or when pydevd has answered it.

        Args:
            message: the request.
        """
        request = message.request

        def answer(reply: DapMessage) -> None:
            reply = {"seq": request.get("seq"), **reply, "request_seq": request.get("seq")}
            self._send(DebugReplyMessage(request_id=message.id, reply=jsonable(reply)))

        try:
            self._answer(request, answer)
        # The request was wrong, or pydevd failed: the client is told, and the kernel continues.
        except Exception as error:
            answer(failure(request, f"{type(error).__name__}: {error}"))

    def _answer(self, request: DapMessage, answer: Handler) -> None:
        command = str(request.get("command"))
        handler = self._handlers.get(command)
        if handler is not None:
            answer(success(request, handler(request)))
        elif command == "richInspectVariables":
            rich_inspect(self._shell, request, self._connection if self._stopped_threads else None, answer)
        elif command == "variables" and not self._stopped_threads:
            answer(success(request, self._variables(request["arguments"]["variablesReference"])))
        elif command == "initialize":
            self._initialize(request, answer)
        elif self._connection is None:
            answer(failure(request, "the debugger is not started: send initialize first"))
        elif command == "attach":
            self._attach(self._connection, request, answer)
        elif command == "copyToGlobals":
            copy_to_globals(request, self._connection, answer)
        elif command in ("disconnect", "terminate"):
            self._connection.ask({"command": "disconnect", "arguments": {}}, lambda _: None)
            self._end()
            answer(success(request, {}))
            if command == "terminate":
                # pydevd would end the process, which a client must not do.
                self._publish(DebugOutput(event=_TERMINATED))
        else:
            self._connection.ask(request, lambda reply: answer(self._record_reply(request, reply)))

    # -- start and end ---------------------------------------------------------------------------------------

    def _initialize(self, request: DapMessage, answer: Handler) -> None:
        if self._connection is None:
            self._connection = DebugConnection(self._handle_event, self._on_lost)
            # Line numbers are those of the cell as the client shows it.
            transforms = self._shell.input_transformer_manager.cleanup_transforms
            if leading_empty_lines in transforms:
                transforms.remove(leading_empty_lines)
                self._removed_transform = True
        self._connection.ask(request, answer)

    def _attach(self, connection: DebugConnection, request: DapMessage, answer: Handler) -> None:
        arguments = {**(request.get("arguments") or {})}
        configured = self._shell.config.get("IPythonKernel", {})
        # The client decides; where it does not, the debugger steps into libraries, as in ipykernel.
        if "justMyCode" not in arguments and not configured.get("debug_just_my_code", False):
            arguments["debugOptions"] = [*(arguments.get("debugOptions") or ()), "DebugStdLib"]
        if configured.get("filter_internal_frames", True):
            hidden = [{"path": path, "include": False} for path in _internal_paths(self._machinery)]
            arguments["rules"] = [*(arguments.get("rules") or ()), *hidden]
        arguments["stopAllThreadsOnSuspend"] = True

        def attached(reply: DapMessage) -> None:
            if reply.get("success"):
                connection.ask({"command": "configurationDone"}, lambda _: answer(reply))
            else:
                answer(reply)

        connection.ask({**request, "arguments": arguments}, attached)

    def _end(self) -> None:
        connection, self._connection = self._connection, None
        self._breakpoints, self._stopped_threads, self._explorer = {}, set(), None
        if self._removed_transform:
            self._shell.input_transformer_manager.cleanup_transforms.insert(0, leading_empty_lines)
            self._removed_transform = False
        if connection is not None:
            connection.close()
            self._run_later(stop_pydevd)

    def _on_lost(self) -> None:
        """End the session after pydevd has closed the connection."""
        if self._connection is not None:
            self._end()
            self._publish(DebugOutput(event=_TERMINATED))

    # -- what pydevd sends -----------------------------------------------------------------------------------

    def _record_reply(self, request: DapMessage, reply: DapMessage) -> DapMessage:
        """Remember the breakpoints of pydevd's reply, and return it without internal variables."""
        if not reply.get("success"):
            return reply
        if request["command"] == "setBreakpoints":
            # pydevd may have put them on other lines.
            lines = [{"line": each["line"]} for each in reply["body"]["breakpoints"] if "line" in each]
            self._breakpoints[request["arguments"]["source"]["path"]] = lines
        elif request["command"] == "variables":
            reply["body"]["variables"] = without_internal(reply["body"]["variables"])
        return reply

    def _handle_event(self, event: DapMessage) -> None:
        body = event.get("body") or {}
        connection = self._connection
        if event["event"] == "stopped" and body.get("allThreadsStopped") and connection is not None:

            def stopped(reply: DapMessage) -> None:
                self._stopped_threads = {each["id"] for each in (reply.get("body") or {}).get("threads", ())}
                self._publish(DebugOutput(event=event))

            connection.ask({"command": "threads"}, stopped)
            return
        if event["event"] == "stopped":
            self._stopped_threads.add(body["threadId"])
        elif event["event"] == "continued":
            running = self._stopped_threads if body.get("allThreadsContinued") else {body.get("threadId")}
            self._stopped_threads = self._stopped_threads - running
        self._publish(DebugOutput(event=event))

    # -- what this process answers itself --------------------------------------------------------------------

    def _debug_info(self, _: DapMessage) -> DapMessage:
        return {
            "isStarted": self.attached,
            "hashMethod": "Murmur2",
            "hashSeed": SEED,
            "tmpFilePrefix": self._files.prefix,
            "tmpFileSuffix": SUFFIX,
            "breakpoints": [{"source": path, "breakpoints": lines} for path, lines in self._breakpoints.items()],
            "stoppedThreads": sorted(self._stopped_threads),
            "richRendering": True,
            "exceptionPaths": ["Python Exceptions"],
            "copyToGlobals": True,
        }

    def _dump_cell(self, request: DapMessage) -> DapMessage:
        return {"sourcePath": self._files.write(request["arguments"]["code"])}

    def _source(self, request: DapMessage) -> DapMessage:
        path = Path(request["arguments"]["source"]["path"])
        try:
            return {"content": path.read_text(encoding="utf-8")}
        except OSError as error:
            raise FileNotFoundError("source unavailable") from error

    def _modules(self, request: DapMessage) -> DapMessage:
        modules = list(sys.modules.values())
        arguments = request.get("arguments") or {}
        first = arguments.get("startModule", 0)
        last = first + (arguments.get("moduleCount") or len(modules))
        listed = [
            {"id": number, "name": module.__name__, "path": str(path)}
            for number, module in enumerate(modules[first:last], first)
            if str(path := getattr(getattr(module, "__spec__", None), "origin", None)).endswith(".py")
        ]
        return {"modules": listed, "totalModules": len(modules)}

    def _inspect_variables(self, _: DapMessage) -> DapMessage:
        self._explorer = VariableExplorer(self._shell.user_ns)
        return {"variables": self._explorer.children()}

    def _variables(self, reference: int) -> DapMessage:
        if self._explorer is None:
            self._explorer = VariableExplorer(self._shell.user_ns)
        return {"variables": self._explorer.children(reference)}


def _internal_paths(modules: Iterable[str]) -> list[str]:
    """Return the files of some packages and of the given modules, which a client should not see while debugging."""
    found = [importlib.util.find_spec(name) for name in _INTERNAL]
    folders = [str(Path(spec.origin).parent) + os.sep for spec in found if spec is not None and spec.origin is not None]
    files = [getattr(sys.modules.get(name), "__file__", None) for name in modules if name != "__main__"]
    # pydevd checks each of them for each function that is new to it.
    others = {file for file in files if file is not None and not file.startswith(tuple(folders))}
    return [*(f"{folder}**" for folder in folders), *sorted(file for file in others if file.endswith(".py"))]
