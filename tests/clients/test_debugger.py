"""The debugger of JupyterLab and others: the Debug Adapter Protocol on the control channel."""

from __future__ import annotations

import itertools
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.kernels import KERNEL
from tests.support.sandboxes import need_bubblewrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.conversation import Conversation
    from tests.support.kernels import Opened

CELL = """def add(a, b):
    total = a + b
    return total

answer = add(40, 2)
print(answer)"""
#: Ends the process, as an expression.
DIE = "__import__('os').kill(__import__('os').getpid(), 9)"
#: The line of ``total = a + b``.
INSIDE = 2


class Debugger:
    """The client's side of a debugging session."""

    def __init__(self, kernel: Conversation) -> None:
        self.kernel = kernel
        self._numbers = itertools.count(1)

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a request, and return the response."""
        request = {"type": "request", "seq": next(self._numbers), "command": command, "arguments": arguments}
        asked = self.kernel.send_control("debug_request", request)
        (exchange,) = self.kernel.finish(asked)
        # ipykernel leaves it out here and there.
        assert KERNEL != "capsule" or exchange.reply["request_seq"] == request["seq"]
        return exchange.reply

    def body(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a request, and return the body of the response, which must be a success."""
        response = self.ask(command, **arguments)
        assert response.get("success", KERNEL != "capsule"), response
        return dict(response.get("body") or {})

    def begin(self, **attach: Any) -> None:
        """Do what every client does first."""
        # ipykernel leaves out the success of this one.
        assert self.ask("initialize", clientID="test", adapterID="", pathFormat="path", linesStartAt1=True)["body"]
        assert self.ask("attach", **attach)["success"]

    def stop_at(self, code: str, *lines: int) -> str:
        """Set breakpoints in a cell, and return its path."""
        path = str(self.body("dumpCell", code=code)["sourcePath"])
        source = {"path": path}
        set_there = self.body("setBreakpoints", source=source, breakpoints=[{"line": line} for line in lines])
        assert [(each["verified"], each["line"]) for each in set_there["breakpoints"]] == [(True, n) for n in lines]
        self.ask("configurationDone")
        return path

    def event(self, name: str, count: int = 1) -> dict[str, Any]:
        """Wait for an event, and return its body."""

        def heard() -> list[dict[str, Any]]:
            events = [one.content for one in self.kernel.heard if one.kind == "debug_event"]
            return [event["body"] for event in events if event["event"] == name][count - 1 :]

        return self.kernel.listen_until(heard, f"{name} {count}")[0]

    def stopped(self, count: int = 1) -> dict[str, Any]:
        """Wait until code has stopped, and return the frame that it is in, with the ``threadId``."""
        thread = self.event("stopped", count)["threadId"]
        (frame, *_) = self.body("stackTrace", threadId=thread)["stackFrames"]
        return {**frame, "threadId": thread}

    def step(self, how: str, frame: dict[str, Any], count: int) -> dict[str, Any]:
        """Make a step from a frame, and return the one that it ends in, as ``stopped`` does."""
        self.body(how, threadId=frame["threadId"])
        return self.stopped(count)

    def variables(self, frame: dict[str, Any]) -> dict[str, str]:
        """Return the variables of the innermost scope of a frame."""
        (scope, *_) = self.body("scopes", frameId=frame["id"])["scopes"]
        found = self.body("variables", variablesReference=scope["variablesReference"])["variables"]
        return {each["name"]: each["value"] for each in found}


@pytest.fixture
def debugger(open_kernel: Callable[..., Opened]) -> Debugger:
    """Return a debugger that has attached to a kernel of its own."""
    _, kernel = open_kernel()
    debugger = Debugger(kernel)
    debugger.begin()
    return debugger


def test_a_cell_stops_at_a_breakpoint_shows_its_variables_and_is_stepped_through(debugger: Debugger) -> None:
    kernel = debugger.kernel
    path = debugger.stop_at(CELL, INSIDE)
    info = debugger.body("debugInfo")
    assert path.startswith(info["tmpFilePrefix"])
    assert (info["isStarted"], info["breakpoints"]) == (True, [{"source": path, "breakpoints": [{"line": INSIDE}]}])
    cell = kernel.client.execute(CELL)
    frame = debugger.stopped()
    assert (frame["name"], frame["line"], frame["source"]["path"]) == ("add", INSIDE, path)
    assert {"a": "40", "b": "2"}.items() <= debugger.variables(frame).items()
    assert frame["threadId"] in debugger.body("debugInfo")["stoppedThreads"]
    # The stack has the caller, too, and no frames of the code that runs cells above it.
    frames = debugger.body("stackTrace", threadId=frame["threadId"])["stackFrames"]
    assert [each["name"] for each in frames if each["source"]["path"] == path] == ["add", "<module>"]
    assert debugger.body("evaluate", expression="a * 100", frameId=frame["id"])["result"] == "4000"
    debugger.body("next", threadId=frame["threadId"])
    frame = debugger.stopped(2)
    assert (frame["line"], debugger.variables(frame)["total"]) == (3, "42")
    debugger.body("setExpression", expression="total", value="43", frameId=frame["id"])
    assert debugger.ask("copyToGlobals", srcVariableName="total", dstVariableName="taken", srcFrameId=frame["id"])[
        "success"
    ]
    debugger.body("continue", threadId=frame["threadId"])
    (done,) = kernel.finish(cell)
    assert done.text() == "43\n"
    assert kernel.run("taken").result == "43"
    assert debugger.body("debugInfo")["stoppedThreads"] == []
    assert debugger.body("source", source={"path": path})["content"] == CELL
    assert not debugger.ask("source", source={"path": "/no/such/file.py"})["success"]


def test_a_function_of_an_earlier_cell_is_stepped_into(debugger: Debugger) -> None:
    kernel = debugger.kernel
    source = "\n\ndef doubled(x):\n    y = x * 2\n    return y"
    path = debugger.stop_at(source, 4)
    kernel.run(source)
    cell = kernel.client.execute("import json\nvalue = doubled(21)\nvalue")
    frame = debugger.stopped()
    # The empty lines before it count.
    assert (frame["source"]["path"], frame["line"]) == (path, 4)
    debugger.body("stepOut", threadId=frame["threadId"])
    frame = debugger.stopped(2)
    assert (frame["name"], frame["line"]) == ("<module>", 2)
    debugger.body("next", threadId=frame["threadId"])
    frame = debugger.stopped(3)
    assert frame["line"] == 3
    debugger.body("continue", threadId=frame["threadId"])
    assert kernel.finish(cell)[0].result == "42"


def test_variables_are_shown_while_nothing_runs(kernel: Conversation) -> None:
    """Without a debugger having been started."""
    debugger = Debugger(kernel)
    kernel.run("numbers = {'one': 1}\nclass Rich:\n    def _repr_html_(self): return '<b>rich</b>'\nrich = Rich()")
    shown = {each["name"]: each for each in debugger.body("inspectVariables")["variables"]}
    assert shown["numbers"]["type"] == "dict"
    assert not {"In", "Out", "get_ipython", "_i", "exit"} & set(shown)
    inside = debugger.body("variables", variablesReference=shown["numbers"]["variablesReference"])["variables"]
    assert ("'one'", "1") in [(each["name"], each["value"]) for each in inside]
    assert debugger.body("richInspectVariables", variableName="rich")["data"]["text/html"] == "<b>rich</b>"
    assert not debugger.ask("richInspectVariables", variableName="not a name")["success"]
    if KERNEL == "capsule":
        # ipykernel's ``breakpoint()`` does nothing.
        asking = kernel.client.execute("breakpoint()", allow_stdin=True)
        assert kernel.asked(asking)["prompt"] == "ipdb> "
        kernel.answer("c")
        kernel.finish(asking)
    modules = debugger.ask("modules")["body"]
    assert "json" in [each["name"] for each in modules["modules"]]


def test_a_variable_of_a_stopped_frame_is_shown_as_it_shows_itself(debugger: Debugger) -> None:
    kernel = debugger.kernel
    code = "class Rich:\n    def _repr_html_(self): return '<b>it\\'s \"rich\"</b>'\nrich = Rich()\nend = True"
    debugger.stop_at(code, 4)
    cell = kernel.client.execute(code)
    frame = debugger.stopped()
    shown = debugger.body("richInspectVariables", variableName="rich", frameId=frame["id"])
    assert shown["data"]["text/html"] == '<b>it\'s "rich"</b>'
    debugger.body("continue", threadId=frame["threadId"])
    kernel.finish(cell)


#: A library that is imported when the debugger has begun: its lines, and where it is entered.
LIBRARY = "def tripled(x):\n    y = x * 3\n    return y\n"


@pytest.fixture
def library(home: Path) -> Iterator[Path]:
    """Return the file of a library that is installed where cells run, as ``pip`` would do it."""
    file = Path(sysconfig.get_path("purelib")) / "a_library_for_tests.py"
    file.write_text(LIBRARY)
    yield file
    file.unlink()


def test_the_debugger_stops_in_libraries_and_steps_into_them(debugger: Debugger, library: Path) -> None:
    kernel = debugger.kernel
    (there,) = debugger.body("setBreakpoints", source={"path": str(library)}, breakpoints=[{"line": 2}])["breakpoints"]
    assert (there["verified"], there["line"]) == (True, 2)
    code = "from a_library_for_tests import tripled\nvalue = tripled(14)\nvalue"
    path = debugger.stop_at(code, 2)
    cell = kernel.client.execute(code)
    frame = debugger.stopped()
    assert (frame["source"]["path"], frame["line"]) == (path, 2)
    frame = debugger.step("stepIn", frame, 2)
    assert (frame["name"], frame["source"]["path"], frame["line"]) == ("tripled", str(library), 2)
    # Of what runs cells nothing is to be seen: neither files nor threads.
    frames = debugger.body("stackTrace", threadId=frame["threadId"])["stackFrames"]
    assert [each["source"]["path"] for each in frames] == [str(library), path]
    if KERNEL == "capsule":
        assert [each["name"] for each in debugger.body("threads")["threads"]] == ["MainThread"]
    frame = debugger.step("stepOut", frame, 3)
    frame = debugger.step("next", frame, 4)
    assert (frame["source"]["path"], frame["line"]) == (path, 3)
    # There is nothing to enter in the last line but what shows its value.
    debugger.body("stepIn", threadId=frame["threadId"])
    assert kernel.finish(cell)[0].result == "42"


@pytest.mark.parametrize("said_by", ["client", "configuration"])
def test_the_debugger_stops_only_in_the_users_code_if_that_is_set(
    open_kernel: Callable[..., Opened], library: Path, said_by: str
) -> None:
    options = ["--IPythonKernel.debug_just_my_code=True"] if said_by == "configuration" else []
    debugger = Debugger(open_kernel(extra_arguments=options)[1])
    debugger.begin(**({"justMyCode": True} if said_by == "client" else {}))
    (there,) = debugger.body("setBreakpoints", source={"path": str(library)}, breakpoints=[{"line": 2}])["breakpoints"]
    assert not there["verified"]
    code = "from a_library_for_tests import tripled\nvalue = tripled(14)\nvalue"
    debugger.stop_at(code, 2)
    cell = debugger.kernel.client.execute(code)
    frame = debugger.step("stepIn", debugger.stopped(), 2)
    assert frame["line"] == 3
    debugger.body("continue", threadId=frame["threadId"])
    assert debugger.kernel.finish(cell)[0].result == "42"


#: What VS Code says of itself, and of how it wants to debug a cell.
CLIENT = {
    "clientID": "vscode",
    "clientName": "Visual Studio Code",
    "adapterID": "Python Kernel Debug Adapter",
    "pathFormat": "path",
    "linesStartAt1": True,
    "columnsStartAt1": True,
    "supportsVariableType": True,
    "supportsVariablePaging": True,
    "supportsRunInTerminalRequest": True,
    "supportsMemoryReferences": True,
    "supportsInvalidatedEvent": True,
    "locale": "en",
}
HOW = {
    "type": "Python Kernel Debug Adapter",
    "request": "attach",
    "name": "notebook.ipynb",
    "justMyCode": True,
    "rules": [{"module": "a_module_of_others", "include": False}],
    "pathMappings": [],
    "__mode": "cell",
    "__cellIndex": 0,
    "__notebookUri": "file:///notebook.ipynb",
    "__sessionId": "1",
}
#: Run behind the client's back before it debugs a cell.
HIDDEN = "import debugpy\ndebugpy.debug_this_thread()"


def attach_as_vs_code(debugger: Debugger, sessions: int = 1, **how: Any) -> None:
    """Begin a session as VS Code does it."""
    debugger.body("initialize", **CLIENT)
    assert debugger.body("debugInfo")["stoppedThreads"] == []
    assert debugger.ask("attach", **HOW, **how)["success"]
    heard = [one for one in debugger.kernel.heard if one.kind == "debug_event"]
    assert len([one for one in heard if one.content["event"] == "initialized"]) == sessions
    debugger.body("setFunctionBreakpoints", breakpoints=[])
    debugger.ask("setExceptionBreakpoints", filters=["uncaught"], filterOptions=[])


def hide_and_configure(debugger: Debugger) -> None:
    """Do what VS Code does before it runs the cell."""
    hidden = debugger.kernel.run(HIDDEN, silent=True, store_history=False)
    assert (hidden.reply["status"], hidden.kinds) == ("ok", [])
    assert debugger.ask("configurationDone")["success"]


@pytest.mark.capsule_only  # ipykernel's file has other line ends than its client expects, and its replies no success
def test_vs_code_debugs_a_cell(open_kernel: Callable[..., Opened]) -> None:
    kernel = open_kernel()[1]
    debugger = Debugger(kernel)
    attach_as_vs_code(debugger)
    # A cell from a file of Windows.
    cell = CELL.replace("\n", "\r\n")
    path = debugger.body("dumpCell", code=cell)["sourcePath"]
    source = {"name": "notebook.ipynb", "path": path}
    at = [{"line": INSIDE}]
    reply = debugger.body("setBreakpoints", source=source, lines=[INSIDE], breakpoints=at, sourceModified=False)
    assert [each["verified"] for each in reply["breakpoints"]] == [True]
    hide_and_configure(debugger)
    running = kernel.client.execute(cell)
    thread = debugger.event("stopped")["threadId"]
    assert thread in [each["id"] for each in debugger.body("threads")["threads"]]
    trace = debugger.body("stackTrace", threadId=thread, startFrame=0, levels=20)
    assert [(each["name"], each["line"]) for each in trace["stackFrames"]] == [("add", INSIDE), ("<module>", 5)]
    (one,) = debugger.body("stackTrace", threadId=thread, startFrame=0, levels=1)["stackFrames"]
    frame = {**one, "threadId": thread}
    assert frame["source"]["path"] == path
    scopes = {each["name"]: each for each in debugger.body("scopes", frameId=frame["id"])["scopes"]}
    assert set(scopes) == {"Locals", "Globals"}
    assert debugger.variables(frame)["a"] == "40"
    for context in ("watch", "hover", "repl"):
        assert debugger.body("evaluate", expression="a + 1", frameId=frame["id"], context=context)["result"] == "41"
    assert not debugger.ask("evaluate", expression="nothing", frameId=frame["id"], context="watch")["success"]
    reference = scopes["Locals"]["variablesReference"]
    assert debugger.body("setVariable", variablesReference=reference, name="a", value="41")["value"] == "41"
    debugger.body("continue", threadId=thread)
    assert kernel.finish(running)[0].text() == "43\n"
    assert debugger.ask("disconnect", restart=False)["success"]
    assert kernel.run(f"import os\nos.remove({path!r})", silent=True, store_history=False).reply["status"] == "ok"
    # And once more.
    attach_as_vs_code(debugger, 2)
    assert debugger.body("dumpCell", code=cell)["sourcePath"] == path
    debugger.body("setBreakpoints", source=source, breakpoints=at)
    hide_and_configure(debugger)
    running = kernel.client.execute(cell)
    assert debugger.stopped(2)["line"] == INSIDE
    assert debugger.ask("disconnect", restart=False)["success"]
    assert kernel.finish(running)[0].text() == "42\n"


@pytest.mark.capsule_only  # as above
def test_vs_code_runs_a_cell_by_line(open_kernel: Callable[..., Opened]) -> None:
    kernel = open_kernel()[1]
    debugger = Debugger(kernel)
    process = kernel.run("import os\nkept = 1\nos.getpid()").result
    code = "# What is this?\nimport json\ntext = json.dumps([1])\nprint(text)"
    attach_as_vs_code(debugger)
    path = debugger.body("dumpCell", code=code)["sourcePath"]
    debugger.body("setBreakpoints", source={"path": path}, breakpoints=[{"line": 2}], sourceModified=False)
    hide_and_configure(debugger)
    running = kernel.client.execute(code)
    frame = debugger.stopped()
    for count, line in ((1, 2), (2, 3), (3, 4)):
        assert (frame["source"]["path"], frame["line"]) == (path, line)
        if line < 4:
            frame = debugger.step("stepIn", frame, count + 1)
    assert "'[1]'" in debugger.variables(frame)["text"]
    debugger.body("stepIn", threadId=frame["threadId"])
    assert kernel.finish(running)[0].text() == "[1]\n"
    # The process is nothing that a client may end.
    assert debugger.ask("terminate", restart=False)["success"]
    assert debugger.event("terminated") == {}
    assert not debugger.body("debugInfo")["isStarted"]
    assert kernel.run("kept, os.getpid()").result == f"(1, {process})"


@pytest.mark.capsule_only  # ipykernel also stops at exceptions inside the kernel, again and again
def test_a_condition_and_an_exception_stop_a_cell(debugger: Debugger) -> None:
    kernel = debugger.kernel
    code = "for i in range(10):\n    square = i * i\n1 / 0"
    path = str(debugger.body("dumpCell", code=code)["sourcePath"])
    debugger.body("setBreakpoints", source={"path": path}, breakpoints=[{"line": 2, "condition": "i == 7"}])
    debugger.body("setExceptionBreakpoints", filters=["raised"])
    cell = kernel.client.execute(code)
    frame = debugger.stopped()
    assert debugger.variables(frame)["i"] == "7"
    debugger.body("continue", threadId=frame["threadId"])
    frame = debugger.stopped(2)
    assert frame["line"] == 3
    debugger.body("continue", threadId=frame["threadId"])
    assert kernel.finish(cell)[0].reply["ename"] == "ZeroDivisionError"


def test_debugging_ends_and_begins_again(debugger: Debugger) -> None:
    kernel = debugger.kernel
    debugger.stop_at(CELL, INSIDE)
    assert debugger.ask("disconnect", restart=False, terminateDebuggee=False)["success"]
    assert not debugger.body("debugInfo")["isStarted"]
    assert kernel.run(CELL).text() == "42\n"
    debugger.begin()
    assert debugger.body("debugInfo")["breakpoints"] == []
    debugger.stop_at(CELL, INSIDE)
    cell = kernel.client.execute(CELL)
    frame = debugger.stopped()
    debugger.body("continue", threadId=frame["threadId"])
    kernel.finish(cell)
    cell = kernel.client.execute("x = 42\nbreakpoint()\nprint(x)")
    assert debugger.stopped(2)["line"] in (2, 3)
    # Ending the debugger while a cell is stopped lets that cell continue.
    assert debugger.ask("disconnect", restart=False, terminateDebuggee=False)["success"]
    assert kernel.finish(cell)[0].text() == "42\n"
    assert frame["line"] == INSIDE


@pytest.mark.capsule_only  # ipykernel hangs
def test_an_interrupt_ends_a_cell_that_has_stopped(debugger: Debugger) -> None:
    kernel = debugger.kernel
    debugger.stop_at(CELL, INSIDE)
    cell = kernel.client.execute(CELL)
    debugger.stopped()
    kernel.send_control("interrupt_request")
    assert kernel.finish(cell)[0].reply["ename"] == "KeyboardInterrupt"
    assert kernel.run("1 + 1").result == "2"


@pytest.mark.capsule_only
def test_breakpoints_survive_a_new_worker(debugger: Debugger) -> None:
    """Also in functions restored from a checkpoint; and no process waits for a cell that had stopped there."""
    kernel = debugger.kernel
    kernel.run("numbers = [1]")
    kernel.run("%capsule checkpoint now")
    debugger.stop_at(CELL, INSIDE)
    cell = kernel.client.execute(CELL)
    frame = debugger.stopped()
    debugger.body("evaluate", expression="numbers.append(2)", frameId=frame["id"])
    debugger.body("copyToGlobals", srcVariableName="a", dstVariableName="taken", srcFrameId=frame["id"])
    debugger.body("continue", threadId=frame["threadId"])
    kernel.finish(cell)
    kernel.run("%capsule checkpoint now")
    dying = kernel.client.execute("add(1, 1)")
    frame = debugger.stopped(2)
    assert not debugger.ask("evaluate", expression=DIE, frameId=frame["id"])["success"]
    (died,) = kernel.finish(dying)
    assert debugger.event("continued", 2)["allThreadsContinued"]
    assert died.reply["ename"] == "WorkerDied"
    cell = kernel.client.execute("add(2, 3)")
    frame = debugger.stopped(3)
    assert {"a": "2", "b": "3"}.items() <= debugger.variables(frame).items()
    debugger.body("continue", threadId=frame["threadId"])
    assert kernel.finish(cell)[0].result == "5"
    assert kernel.run("taken, numbers").result == "(40, [1, 2])"


@pytest.mark.capsule_only
def test_cells_without_a_network_are_debugged_as_well(
    open_kernel: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    need_bubblewrap()
    monkeypatch.setenv("CAPSULE_PROFILE", "restricted")
    debugger = Debugger(open_kernel()[1])
    debugger.begin()
    debugger.stop_at(CELL, INSIDE)
    cell = debugger.kernel.client.execute(CELL)
    frame = debugger.stopped()
    assert {"a": "40", "b": "2"}.items() <= debugger.variables(frame).items()
    debugger.body("continue", threadId=frame["threadId"])
    assert debugger.kernel.finish(cell)[0].text() == "42\n"
