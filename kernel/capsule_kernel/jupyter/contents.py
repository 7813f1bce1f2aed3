"""Contents of Jupyter messages, made from the protocol's messages and back. Pure."""

from __future__ import annotations

import json
import sys
from typing import Any

import capsule_kernel
from capsule_durable import ids
from capsule_durable.errors import ExecutionFailed, WorkerDied
from capsule_durable.messaging.capabilities import InputPrompt
from capsule_worker.protocol import Output
from capsule_worker.protocol import messages as m

#: The version of the Jupyter messaging specification that the kernel speaks.
MESSAGING_VERSION = "5.4"

#: The most bytes of JSON of a cell's metadata that the cell gets: they are stored with its promise.
MOST_METADATA = 64 << 10
_BEYOND = 1 << 63

HELP_LINKS = [
    {"text": "Python", "url": "https://docs.python.org/3/"},
    {"text": "IPython", "url": "https://ipython.readthedocs.io/en/stable/"},
    {"text": "NumPy", "url": "https://numpy.org/doc/stable/"},
    {"text": "pandas", "url": "https://pandas.pydata.org/docs/"},
    {"text": "Matplotlib", "url": "https://matplotlib.org/stable/"},
    {"text": "SciPy", "url": "https://docs.scipy.org/doc/scipy/"},
]


def execute_message(execution_id: str, request: dict[str, Any], count: int) -> m.ExecuteMessage:
    """Return the execution that an ``execute_request`` asks for.

    Args:
        execution_id: the id that it gets.
        request: the whole request.
        count: the number of the cell.
    """
    content = request["content"]
    silent = bool(content.get("silent", False))
    metadata = request.get("metadata") or {}
    cell_id = metadata.get("cellId")
    return m.ExecuteMessage(
        id=execution_id,
        # JSON can hold half of a surrogate pair; Python source, and every encoding on the way, cannot.
        code=str(content["code"]).encode("utf-8", "replace").decode("utf-8"),
        silent=silent,
        store_history=bool(content.get("store_history", not silent)),
        user_expressions={str(k): str(v) for k, v in (content.get("user_expressions") or {}).items()},
        allow_stdin=bool(content.get("allow_stdin", False)),
        cell_id=cell_id if isinstance(cell_id, str) else None,
        execution_count=count,
        header=header_of(request),
        metadata=metadata
        if not metadata or _can_be_handed_on(metadata)
        else {"cellId": cell_id}
        if isinstance(cell_id, str)
        else {},
        subshell=request["header"].get("subshell_id"),
    )


def code_and_cursor(request: dict[str, Any]) -> tuple[str, int]:
    """Return the code that a request is about and a position in it: its end, where the client has not sent one.

    Args:
        request: the whole request; its cursor counts Unicode characters.

    Raises:
        KeyError, TypeError: there is no code, or the position is not a number.
    """
    content = request["content"]
    code: str = content["code"]
    end, given = len(code), content.get("cursor_pos")
    return code, end if given is None else max(0, min(given, end))


def _can_be_handed_on(metadata: dict[str, Any]) -> bool:
    """Whether a cell's metadata is small, and fit for every encoding on the way."""
    try:
        size = len(json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode())
    except (TypeError, ValueError, RecursionError):
        return False
    return size <= MOST_METADATA and _has_small_numbers(metadata)


def _has_small_numbers(value: Any) -> bool:
    """Whether there are no integers beyond 64 bits."""
    if isinstance(value, dict):
        return all(map(_has_small_numbers, value.values()))
    if isinstance(value, list):
        return all(map(_has_small_numbers, value))
    return not isinstance(value, int) or abs(value) < _BEYOND


def header_of(request: dict[str, Any]) -> dict[str, Any]:
    """Return a request's header, with its date as text.

    Args:
        request: the whole request.
    """
    header = request["header"].items()
    return {name: value if isinstance(value, (str, int, type(None))) else str(value) for name, value in header}


def comm_message(request_id: str, request: dict[str, Any]) -> m.CommMessage:
    """Return the message of a ``comm_open``, ``comm_msg`` or ``comm_close``.

    Args:
        request_id: the id that it gets.
        request: the whole Jupyter message.

    Raises:
        KeyError, ValueError: the Jupyter message is malformed.
    """
    said = request["content"]
    return m.CommMessage(
        id=request_id,
        event=request["header"]["msg_type"].removeprefix("comm_"),
        comm_id=said["comm_id"],
        target_name=said.get("target_name"),
        target_module=said.get("target_module"),
        data=said.get("data", {}),
        metadata=request.get("metadata") or {},
        buffers=[bytes(each) for each in request.get("buffers") or ()],
        header=header_of(request),
        subshell=request["header"].get("subshell_id"),
    )


def awaited_input(question: InputPrompt, cell: int | None) -> m.StreamOutput:
    """Return the output below a cell that waits for an input which its client cannot ask for.

    Args:
        question: the input.
        cell: the number of the cell, as in ``In [cell]``.
    """
    short = ids.short_input_ids(question.answer_id, cell)[0]
    what, value = ("a password", "") if question.password else ("input", " VALUE")
    return m.StreamOutput(
        name="stderr",
        text=f'capsule: Waiting for {what}: "{question.prompt.strip()}". Answer with: capsule answer {short}{value}\n',
    )


def execute_reply(result: m.ResultMessage) -> dict[str, Any]:
    """Return the content of the ``execute_reply`` for a cell that ran to its end.

    Args:
        result: the result of the cell.
    """
    reply: dict[str, Any] = {
        "status": result.status,
        "execution_count": result.execution_count,
        "user_expressions": result.user_expressions,
        "payload": result.payload,
    }
    if result.status == "error":
        reply |= {"ename": result.ename, "evalue": result.evalue, "traceback": result.traceback}
    return reply


def failure_output(failure: ExecutionFailed) -> m.ErrorOutput:
    """Return the error output below a cell that has no result.

    Args:
        failure: why there is no result.
    """
    red, plain = "\x1b[31m", "\x1b[39m"
    lines = [f"{red}{failure.kind}{plain}: {failure.message}"]
    if not isinstance(failure, WorkerDied):  # its stack was shown on stderr, with its other last words
        lines += "".join(failure.fields.get("traceback", [])).splitlines()
    lines.append(f"(execution {failure.execution_id})")
    return m.ErrorOutput(ename=failure.kind, evalue=failure.message, traceback=lines)


def failure_reply(error: m.ErrorOutput, count: int) -> dict[str, Any]:
    """Return the content of the ``execute_reply`` for a cell that has no result.

    Args:
        error: the error that is shown below the cell.
        count: the number of the cell.
    """
    return {
        "status": "error",
        "execution_count": count,
        "ename": error.ename,
        "evalue": error.evalue,
        "traceback": error.traceback,
        "user_expressions": {},
        "payload": [],
    }


def output_message(output: Output) -> tuple[str, dict[str, Any]]:  # noqa: PLR0911  # one case for each kind
    """Return the type and the content of the iopub message for an output.

    Args:
        output: the output.
    """
    match output:
        case m.StreamOutput():
            return "stream", {"name": output.name, "text": output.text}
        case m.DisplayOutput() | m.UpdateOutput():
            return "display_data" if output.kind == "display" else "update_display_data", _bundle(output)
        case m.ExecuteResultOutput():
            return "execute_result", {
                "data": output.data,
                "metadata": output.metadata,
                "execution_count": output.execution_count,
                **({"transient": output.transient} if output.transient else {}),
            }
        case m.ClearOutput():
            return "clear_output", {"wait": output.wait}
        case m.CommOutput():
            opening = {"target_name": output.target_name, "target_module": output.target_module}
            return f"comm_{output.event}", {
                "comm_id": output.comm_id,
                "data": output.data,
                **(opening if output.event == "open" else {}),
            }
        case m.DebugOutput():
            return "debug_event", output.event
        case m.ErrorOutput():
            return "error", {"ename": output.ename, "evalue": output.evalue, "traceback": output.traceback}


def history_message(
    request_id: str,
    access: str,
    output: bool,
    raw: bool,
    rest: dict[str, Any],
) -> m.HistoryMessage:
    """Return the question for a ``history_request``.

    Args:
        request_id: the id that it gets.
        access: ``range``, ``tail`` or ``search``.
        output: whether outputs are wanted, too.
        raw: whether code is wanted as it was typed, not as IPython has transformed it.
        rest: the other fields of the request's content. Unknown ones are ignored.

    Raises:
        ValueError: the request is malformed.
    """
    known = {name: rest[name] for name in ("session", "start", "stop", "n", "pattern", "unique") if name in rest}
    # Clients send null for what they do not mean.
    given = {name: value for name, value in known.items() if value is not None}
    return m.HistoryMessage.model_validate({"id": request_id, "access": access, "output": output, "raw": raw, **given})


def no_answer(error: Exception, **empty: Any) -> dict[str, Any]:
    """Return an error reply with the fields that clients look at, empty.

    Args:
        error: why there is no answer.
        **empty: the fields with their empty values.
    """
    return {"status": "error", "ename": type(error).__name__, "evalue": str(error), "traceback": [], **empty}


def debug_failure(request: dict[str, Any], error: Exception) -> dict[str, Any]:
    """Return the response to a debugger's request that cannot be answered.

    Args:
        request: a request of the Debug Adapter Protocol.
        error: why it cannot be answered.
    """
    return {
        "type": "response",
        "request_seq": request.get("seq"),
        "success": False,
        "command": request.get("command"),
        "message": str(error),
    }


def kernel_info(ready: m.ReadyMessage | None, isolation: str) -> dict[str, Any]:
    """Return the content of ``kernel_info_reply``.

    Args:
        ready: what the kernel's worker said of itself; None for nothing yet.
        isolation: how cells are kept apart, in a line.
    """
    version = ready.python_version if ready else sys.version.split()[0]
    banner = ready.banner if ready else ""
    return {
        "protocol_version": MESSAGING_VERSION,
        "implementation": "capsule",
        "implementation_version": capsule_kernel.__version__,
        "language_info": {
            "name": "python",
            "version": version,
            "mimetype": "text/x-python",
            "codemirror_mode": {"name": "ipython", "version": int(version.split(".")[0])},
            "pygments_lexer": "ipython3",
            "nbconvert_exporter": "python",
            "file_extension": ".py",
        },
        "banner": f"Capsule {capsule_kernel.__version__}. Isolation: {isolation}\n{banner}",
        "help_links": HELP_LINKS,
        "supported_features": ["kernel subshells", *(["debugger"] if ready is not None and ready.debugger else [])],
    }


def _bundle(output: m.DisplayOutput | m.UpdateOutput) -> dict[str, Any]:
    return {"data": output.data, "metadata": output.metadata, "transient": output.transient}
