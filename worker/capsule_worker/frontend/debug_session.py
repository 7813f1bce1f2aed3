"""The debugger: debugpy's pydevd, in this process, which speaks the Debug Adapter Protocol (DAP) to clients.

Requests come from the front, and events go back as outputs. pydevd is spoken to over a connection to ourselves, without
the adapter process that debugpy would start: that one listens on a port, on which every program of the machine could
run code as this user. What Jupyter adds to the protocol ("Additions to the DAP" in the Jupyter messaging specification)
is answered here.

Requests are taken by the thread that reads the channel, which must not wait. What evaluates the notebook's code does so
where cells run (``evaluates``).
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from IPython.core.inputtransformer2 import leading_empty_lines

from capsule_worker.output.jsonable import jsonable
from capsule_worker.protocol.messages import DebugMessage, DebugOutput, DebugReplyMessage, Output
from capsule_worker.shell.cell_filenames import SEED, SUFFIX, CellFiles

#: Packages that run cells and show what becomes of them, also by modules which are loaded later.
_INTERNAL = (
    *("asyncio", "capsule_worker", "debugpy", "IPython", "traitlets"),
    *("asttokens", "executing", "pure_eval", "pygments", "stack_data"),
)
#: Names in the notebook's namespace that are not the user's.
_NOT_SHOWN = re.compile(
    r"__(name|doc|package|loader|spec|annotations|builtins?|display)__|get_ipython|exit|quit|open|In|Out|_oh|_dh|_+|_i+"
    r"|_i?\d+|_ih|_exit_code"
)
#: Seconds that pydevd may take to connect.
_CONNECT_TIMEOUT = 20.0

#: The event that tells clients that nothing is debugged any more.
_TERMINATED = {"type": "event", "seq": 0, "event": "terminated", "body": {}}

Request = dict[str, Any]
Answer = Callable[[Request], None]


def available() -> bool:
    """Whether debugpy is installed where cells run."""
    return importlib.util.find_spec("debugpy") is not None


class Debugger:
    """Answers the requests of a debugger's client.

    Args:
        shell: the shell whose cells are debugged.
        files: names the files of cells.
        publish: sends an event to clients.
        send: sends a reply.
        run_later: has something done where cells run, when none does.
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
        self._connection: _Connection | None = None
        #: Lines with breakpoints, by path.
        self._breakpoints: dict[str, list[dict[str, Any]]] = {}
        self._stopped: set[int] = set()
        self._explorer: Any = None
        self._removed = False
        #: What runs cells: ours, IPython's and what they use of the standard library.
        self._machinery = tuple(sys.modules)
        os.register_at_fork(after_in_child=_stop_tracing)
        self._here: dict[str, Callable[[Request], Request]] = {
            "debugInfo": self._debug_info,
            "dumpCell": self._dump_cell,
            "source": self._source,
            "modules": self._modules,
            "configurationDone": lambda _: {},  # it was said when the client attached
            "inspectVariables": self._inspect_variables,
        }

    @property
    def attached(self) -> bool:
        """Whether a client debugs; it can change any variable then."""
        return self._connection is not None

    def evaluates(self, request: Request) -> bool:
        """Whether a request is to be answered where cells run, when none does; others are answered at once."""
        command = request.get("command")
        if command in ("initialize", "inspectVariables"):
            return True
        return command in ("variables", "richInspectVariables") and not self._stopped

    def take(self, message: DebugMessage) -> None:
        """Answer a request, now or when pydevd has answered it."""
        request = message.request

        def answer(reply: Request) -> None:
            reply = {"seq": request.get("seq"), **reply, "request_seq": request.get("seq")}
            self._send(DebugReplyMessage(request_id=message.id, reply=jsonable(reply)))

        try:
            self._answer(request, answer)
        # The request's own fault, or pydevd's: the client is told, and the kernel goes on.
        except Exception as error:
            answer(_failure(request, f"{type(error).__name__}: {error}"))

    def _answer(self, request: Request, answer: Answer) -> None:
        command = str(request.get("command"))
        here = self._here.get(command)
        if here is not None:
            answer(_success(request, here(request)))
        elif command == "richInspectVariables":
            self._rich_inspect(request, answer)
        elif command == "variables" and not self._stopped:
            answer(_success(request, self._variables(request["arguments"]["variablesReference"])))
        elif command == "initialize":
            self._initialize(request, answer)
        elif self._connection is None:
            answer(_failure(request, "the debugger is not started: send initialize first"))
        elif command == "attach":
            self._attach(self._connection, request, answer)
        elif command == "copyToGlobals":
            self._copy_to_globals(self._connection, request, answer)
        elif command in ("disconnect", "terminate"):
            self._connection.ask({"command": "disconnect", "arguments": {}}, lambda _: None)
            self._end()
            answer(_success(request, {}))
            if command == "terminate":
                # pydevd would end the process, which is not the client's to end.
                self._publish(DebugOutput(event=_TERMINATED))
        else:
            self._connection.ask(request, lambda reply: answer(self._noted(request, reply)))

    # -- beginning and end -----------------------------------------------------------------------------------

    def _initialize(self, request: Request, answer: Answer) -> None:
        if self._connection is None:
            self._connection = _Connection(self._take_event, self._lost)
            # Breakpoints are where they are in the cell, and not some lines above.
            transforms = self._shell.input_transformer_manager.cleanup_transforms
            if leading_empty_lines in transforms:
                transforms.remove(leading_empty_lines)
                self._removed = True
        self._connection.ask(request, answer)

    def _attach(self, connection: _Connection, request: Request, answer: Answer) -> None:
        arguments = {**(request.get("arguments") or {})}
        configured = self._shell.config.get("IPythonKernel", {})
        # The client's word counts; where it has none, libraries are entered, as in ipykernel.
        if "justMyCode" not in arguments and not configured.get("debug_just_my_code", False):
            arguments["debugOptions"] = [*(arguments.get("debugOptions") or ()), "DebugStdLib"]
        if configured.get("filter_internal_frames", True):
            hidden = [{"path": path, "include": False} for path in _internal_paths(self._machinery)]
            arguments["rules"] = [*(arguments.get("rules") or ()), *hidden]
        arguments["stopAllThreadsOnSuspend"] = True

        def attached(reply: Request) -> None:
            if reply.get("success"):
                connection.ask({"command": "configurationDone"}, lambda _: answer(reply))
            else:
                answer(reply)

        connection.ask({**request, "arguments": arguments}, attached)

    def _end(self) -> None:
        connection, self._connection = self._connection, None
        self._breakpoints, self._stopped, self._explorer = {}, set(), None
        if self._removed:
            self._shell.input_transformer_manager.cleanup_transforms.insert(0, leading_empty_lines)
            self._removed = False
        if connection is not None:
            connection.close()
            self._run_later(_stop_pydevd)

    def _lost(self) -> None:
        """Take notice that pydevd has ended the connection."""
        if self._connection is not None:
            self._end()
            self._publish(DebugOutput(event=_TERMINATED))

    # -- what pydevd says ------------------------------------------------------------------------------------

    def _noted(self, request: Request, reply: Request) -> Request:
        """Return pydevd's reply, after what is to be remembered of it, or left out."""
        if not reply.get("success"):
            return reply
        if request["command"] == "setBreakpoints":
            # It may have put them on other lines.
            lines = [{"line": each["line"]} for each in reply["body"]["breakpoints"] if "line" in each]
            self._breakpoints[request["arguments"]["source"]["path"]] = lines
        elif request["command"] == "variables":
            reply["body"]["variables"] = _shown(reply["body"]["variables"])
        return reply

    def _take_event(self, event: Request) -> None:
        body = event.get("body") or {}
        connection = self._connection
        if event["event"] == "stopped" and body.get("allThreadsStopped") and connection is not None:

            def stopped(reply: Request) -> None:
                self._stopped = {each["id"] for each in (reply.get("body") or {}).get("threads", ())}
                self._publish(DebugOutput(event=event))

            connection.ask({"command": "threads"}, stopped)
            return
        if event["event"] == "stopped":
            self._stopped.add(body["threadId"])
        elif event["event"] == "continued":
            self._stopped = set() if body.get("allThreadsContinued") else self._stopped - {body.get("threadId")}
        self._publish(DebugOutput(event=event))

    # -- what is answered here -------------------------------------------------------------------------------

    def _debug_info(self, _: Request) -> Request:
        return {
            "isStarted": self.attached,
            "hashMethod": "Murmur2",
            "hashSeed": SEED,
            "tmpFilePrefix": self._files.prefix,
            "tmpFileSuffix": SUFFIX,
            "breakpoints": [{"source": path, "breakpoints": lines} for path, lines in self._breakpoints.items()],
            "stoppedThreads": sorted(self._stopped),
            "richRendering": True,
            "exceptionPaths": ["Python Exceptions"],
            "copyToGlobals": True,
        }

    def _dump_cell(self, request: Request) -> Request:
        return {"sourcePath": self._files.write(request["arguments"]["code"])}

    def _source(self, request: Request) -> Request:
        path = Path(request["arguments"]["source"]["path"])
        try:
            return {"content": path.read_text(encoding="utf-8")}
        except OSError as error:
            msg = "source unavailable"
            raise FileNotFoundError(msg) from error

    def _modules(self, request: Request) -> Request:
        modules = list(sys.modules.values())
        arguments = request.get("arguments") or {}
        first = arguments.get("startModule", 0)
        last = first + (arguments.get("moduleCount") or len(modules))
        known = [
            {"id": number, "name": module.__name__, "path": str(path)}
            for number, module in enumerate(modules[first:last], first)
            if str(path := getattr(getattr(module, "__spec__", None), "origin", None)).endswith(".py")
        ]
        return {"modules": known, "totalModules": len(modules)}

    def _inspect_variables(self, _: Request) -> Request:
        self._explorer = _Explorer(self._shell.user_ns)
        return {"variables": _shown(self._explorer.children())}

    def _variables(self, reference: int) -> Request:
        if self._explorer is None:
            self._explorer = _Explorer(self._shell.user_ns)
        return {"variables": _shown(self._explorer.children(reference))}

    def _rich_inspect(self, request: Request, answer: Answer) -> None:
        arguments = request["arguments"]
        name, frame = str(arguments["variableName"]), arguments.get("frameId")
        if not name.isidentifier():
            # Groups of variables have names of two words.
            groups = ("special variables", "function variables", "class variables", "protected variables")
            empty: Request = {"data": {}, "metadata": {}}
            answer(
                _success(request, empty) if name in groups else {**_failure(request, "no such variable"), "body": empty}
            )
        elif frame is None or not self._stopped or self._connection is None:
            found = self._shell.user_expressions({name: name})[name]
            body = {"data": found.get("data", {}), "metadata": found.get("metadata", {})}
            answer(_success(request, jsonable(body)))
        else:

            def represented(reply: Request) -> None:
                if not reply.get("success"):
                    answer(_failure(request, str(reply.get("message"))))
                    return
                data, metadata = json.loads(_unquoted(reply["body"]["result"]))
                answer(_success(request, {"data": data, "metadata": metadata}))

            expression = f"__import__('capsule_worker.frontend.debug_session').debugger.representation({name})"
            evaluation = {"expression": expression, "frameId": frame, "context": "clipboard"}
            self._connection.ask({"command": "evaluate", "arguments": evaluation}, represented)

    def _copy_to_globals(self, connection: _Connection, request: Request, answer: Answer) -> None:
        arguments = request["arguments"]
        source, target = str(arguments["srcVariableName"]), str(arguments["dstVariableName"])
        if not (source.isidentifier() and target.isidentifier()):
            answer(_failure(request, "dstVariableName and srcVariableName must be valid identifiers"))
            return
        assignment = {
            "expression": f"globals()[{target!r}]",
            "value": source,
            "frameId": arguments["srcFrameId"],
        }
        # A reply is to the request that was made.
        connection.ask(
            {"command": "setExpression", "arguments": assignment},
            lambda reply: answer({**reply, "command": request["command"]}),
        )


def representation(value: Any) -> str:
    """Return the representations of a value in a stopped frame, and their metadata, as JSON."""
    from IPython.core.interactiveshell import InteractiveShell

    shell: Any = InteractiveShell.instance()
    data, metadata = shell.display_formatter.format(value)
    return json.dumps([jsonable(data), jsonable(metadata)])


class _Connection:
    """Speaks DAP with pydevd, which it starts. Create it where cells run: that thread is traced from then on.

    Args:
        take_event: called with each event, in a thread of its own.
        lost: called there when pydevd has closed the connection.

    Raises:
        OSError: pydevd did not connect.
    """

    def __init__(self, take_event: Answer, lost: Callable[[], None]) -> None:
        self._take_event = take_event
        self._lost = lost
        self._sending = threading.Lock()
        self._pending: dict[int, tuple[Request, Answer]] = {}
        self._number = 0
        self._socket = _start_pydevd()
        threading.Thread(target=self._read, name="capsule-debugger", daemon=True).start()

    def ask(self, request: Request, answer: Answer) -> None:
        """Send a request; its reply is handed over in another thread, under the request's own number."""
        with self._sending:
            self._number += 1
            self._pending[self._number] = (request, answer)
            content = json.dumps({"type": "request", **request, "seq": self._number}).encode()
            self._socket.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(content), content))

    def close(self) -> None:
        """End the connection, and the tracing of cells with it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def _read(self) -> None:
        with self._socket, self._socket.makefile("rb") as stream, contextlib.suppress(OSError):
            while (said := _next_message(stream)) is not None:
                request, answer = self._pending.pop(said.get("request_seq", 0), ({}, _drop))
                try:
                    if said.get("type") == "event":
                        self._take_event(said)
                    else:
                        answer({**said, "request_seq": request.get("seq")})
                # What pydevd says may be other than what was expected; it is no reason to end the process.
                except Exception as error:
                    answer(_failure(request, f"the debugger's answer makes no sense: {type(error).__name__}: {error}"))
        for request, answer in list(self._pending.values()):
            answer(_failure(request, "the debugger has ended"))
        self._lost()


def _next_message(stream: BinaryIO) -> Request | None:
    """Return the next message on a stream of DAP's, None at its end."""
    length = 0
    while (line := stream.readline()).strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    content = stream.read(length) if line else b""
    return json.loads(content) if content else None


def _start_pydevd() -> socket.socket:
    """Have pydevd trace this process and connect to us; return our end."""
    pydevd = _import_pydevd()
    from _pydevd_bundle import pydevd_constants  # type: ignore[import-not-found]  # it is inside debugpy

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_CONNECT_TIMEOUT)
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
        msg = "another program has connected in pydevd's place"
        raise ConnectionRefusedError(msg)
    # ``breakpoint()`` stops where the client sees it, until it debugs no more.
    _hooks.append(sys.breakpointhook)
    sys.breakpointhook = pydevd.capsule_breakpointhook
    return ours


def _stop_pydevd() -> None:
    if _hooks:
        sys.breakpointhook = _hooks.pop()
    _import_pydevd().stoptrace()


#: What ``breakpoint()`` calls while nobody debugs, kept as long as somebody does.
_hooks: list[Callable[..., Any]] = []


def _import_pydevd() -> Any:
    """Return pydevd, which is inside debugpy; its import alone takes ``breakpoint()`` over, which we do not want."""
    # It would warn of modules that are frozen into the interpreter, in which nobody sets breakpoints.
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    before = sys.breakpointhook
    import debugpy.server  # noqa: F401  # puts it on the path
    import pydevd  # type: ignore[import-not-found]

    if sys.breakpointhook is not before and not hasattr(pydevd, "capsule_breakpointhook"):
        pydevd.capsule_breakpointhook, sys.breakpointhook = sys.breakpointhook, before
    return pydevd


def _stop_tracing() -> None:
    """Let a forked child go on untraced: the threads that its breakpoints would wait for are not in it."""
    sys.settrace(None)
    monitoring = getattr(sys, "monitoring", None)  # Python 3.12
    if monitoring is not None and monitoring.get_tool(monitoring.DEBUGGER_ID) is not None:
        monitoring.set_events(monitoring.DEBUGGER_ID, 0)


class _Explorer:
    """Shows the variables of a namespace while nothing is stopped, as pydevd shows those of frames."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        _import_pydevd()
        from _pydevd_bundle import pydevd_api, pydevd_frame_utils, pydevd_suspended_frames

        class Nothing:
            """Stands for the debugger, of which only this is asked."""

            variable_presentation = pydevd_api.PyDevdAPI.VariablePresentation()

        class Frame:
            """Stands for a frame in which the namespace is."""

            f_code = compile("", "<namespace>", "exec")
            f_globals = f_locals = namespace
            f_back = None
            f_lineno = 1
            f_lasti = 0

        self._manager = pydevd_suspended_frames.SuspendedFramesManager()
        self._frame = Frame()
        self._tracker = pydevd_suspended_frames._FramesTracker(self._manager, Nothing())  # noqa: SLF001  # as in ipykernel
        self._tracker.track("namespace", pydevd_frame_utils.create_frames_list_from_frame(self._frame))

    def children(self, reference: int = 0) -> list[dict[str, Any]]:
        """Return what is in the variable of a reference; without one, in the namespace."""
        variable = self._manager.get_variable(reference or id(self._frame))
        return [each.get_var_data() for each in variable.get_children_variables()]


def _shown(variables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what is not the user's."""
    return [each for each in variables if not _NOT_SHOWN.fullmatch(each["name"])]


def _internal_paths(modules: Iterable[str]) -> list[str]:
    """Return the files that nobody who debugs a notebook wants to see: those of some packages and of modules."""
    found = [importlib.util.find_spec(name) for name in _INTERNAL]
    folders = [str(Path(spec.origin).parent) + os.sep for spec in found if spec is not None and spec.origin is not None]
    files = [getattr(sys.modules.get(name), "__file__", None) for name in modules if name != "__main__"]
    # pydevd looks at each of them for each function that it has not met.
    others = {file for file in files if file is not None and not file.startswith(tuple(folders))}
    return [*(f"{folder}**" for folder in folders), *sorted(file for file in others if file.endswith(".py"))]


def _unquoted(text: str) -> str:
    """Return the string whose literal pydevd has shown."""
    import ast

    value: str = ast.literal_eval(text)
    return value


def _success(request: Request, body: Request) -> Request:
    return {"type": "response", "success": True, "command": request.get("command"), "body": body}


def _failure(request: Request, text: str) -> Request:
    return {"type": "response", "success": False, "command": request.get("command"), "message": text}


def _drop(_: Request) -> None:
    """Take a reply that nobody waits for."""
