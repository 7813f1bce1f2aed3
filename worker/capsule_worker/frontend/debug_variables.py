"""The variables that a debugger's client shows: those of the notebook, and rich representations of single ones."""

from __future__ import annotations

import json
import re
from typing import Any

from capsule_worker.frontend.debug_connection import (
    DapMessage,
    DebugConnection,
    Handler,
    failure,
    import_pydevd,
    success,
)
from capsule_worker.output.jsonable import jsonable

#: Names in the notebook's namespace that are not the user's.
_NOT_SHOWN = re.compile(
    r"__(name|doc|package|loader|spec|annotations|builtins?|display)__|get_ipython|exit|quit|open|In|Out|_oh|_dh|_+|_i+"
    r"|_i?\d+|_ih|_exit_code"
)
#: The names of pydevd's groups of variables, which have no value of their own.
_GROUPS = ("special variables", "function variables", "class variables", "protected variables")


class VariableExplorer:
    """Shows the variables of a namespace while nothing is stopped, as pydevd shows those of frames.

    Args:
        namespace: the variables.
    """

    def __init__(self, namespace: dict[str, Any]) -> None:
        import_pydevd()
        # They are inside debugpy.
        from _pydevd_bundle import (  # type: ignore[import-not-found]
            pydevd_api,
            pydevd_frame_utils,
            pydevd_suspended_frames,
        )

        class Debugger:
            """Stands for the debugger, of which only this is read."""

            variable_presentation = pydevd_api.PyDevdAPI.VariablePresentation()

        class Frame:
            """Stands for a frame that has the namespace."""

            f_code = compile("", "<namespace>", "exec")
            f_globals = f_locals = namespace
            f_back = None
            f_lineno = 1
            f_lasti = 0

        self._manager = pydevd_suspended_frames.SuspendedFramesManager()
        self._frame = Frame()
        self._tracker = pydevd_suspended_frames._FramesTracker(self._manager, Debugger())  # noqa: SLF001  # as in ipykernel
        self._tracker.track("namespace", pydevd_frame_utils.create_frames_list_from_frame(self._frame))

    def children(self, reference: int = 0) -> list[DapMessage]:
        """Return the user's variables in another variable, in the form of DAP.

        Args:
            reference: that of the other variable; 0 for the namespace.
        """
        variable = self._manager.get_variable(reference or id(self._frame))
        return without_internal([each.get_var_data() for each in variable.get_children_variables()])


def without_internal(variables: list[DapMessage]) -> list[DapMessage]:
    """Return the variables that are the user's.

    Args:
        variables: in the form of DAP.
    """
    return [each for each in variables if not _NOT_SHOWN.fullmatch(each["name"])]


def rich_inspect(shell: Any, request: DapMessage, connection: DebugConnection | None, answer: Handler) -> None:
    """Answer with the representations of a variable by MIME type.

    Args:
        shell: the shell whose namespace the variable is in.
        request: names the variable, and a frame where code is stopped.
        connection: to pydevd, if code is stopped; None if the variable is one of the notebook's.
        answer: called with the reply, now or when pydevd has answered.
    """
    arguments = request["arguments"]
    name, frame = str(arguments["variableName"]), arguments.get("frameId")
    if not name.isidentifier():
        empty: DapMessage = {"data": {}, "metadata": {}}
        answer(success(request, empty) if name in _GROUPS else {**failure(request, "no such variable"), "body": empty})
    elif frame is None or connection is None:
        found = shell.user_expressions({name: name})[name]
        body = {"data": found.get("data", {}), "metadata": found.get("metadata", {})}
        answer(success(request, jsonable(body)))
    else:

        def represented(reply: DapMessage) -> None:
            if not reply.get("success"):
                answer(failure(request, str(reply.get("message"))))
                return
            data, metadata = json.loads(_unquote(reply["body"]["result"]))
            answer(success(request, {"data": data, "metadata": metadata}))

        expression = f"__import__({__name__!r}, fromlist=['representation']).representation({name})"
        evaluation = {"expression": expression, "frameId": frame, "context": "clipboard"}
        connection.ask({"command": "evaluate", "arguments": evaluation}, represented)


def representation(value: Any) -> str:
    """Return the representations of a value in a stopped frame, and their metadata, in JSON.

    Args:
        value: any object.
    """
    from IPython.core.interactiveshell import InteractiveShell

    shell: Any = InteractiveShell.instance()
    data, metadata = shell.display_formatter.format(value)
    return json.dumps([jsonable(data), jsonable(metadata)])


def copy_to_globals(request: DapMessage, connection: DebugConnection, answer: Handler) -> None:
    """Copy a variable of a stopped frame into the notebook's namespace.

    Args:
        request: names the frame and both variables.
        connection: to pydevd.
        answer: called with the reply when pydevd has answered.
    """
    arguments = request["arguments"]
    source, target = str(arguments["srcVariableName"]), str(arguments["dstVariableName"])
    if not (source.isidentifier() and target.isidentifier()):
        answer(failure(request, "dstVariableName and srcVariableName must be valid identifiers"))
        return
    assignment = {
        "expression": f"globals()[{target!r}]",
        "value": source,
        "frameId": arguments["srcFrameId"],
    }
    # The reply names the command of the request, not the one that pydevd was asked.
    connection.ask(
        {"command": "setExpression", "arguments": assignment},
        lambda reply: answer({**reply, "command": request["command"]}),
    )


def _unquote(text: str) -> str:
    """Return the string of the literal that pydevd shows."""
    import ast

    value: str = ast.literal_eval(text)
    return value
