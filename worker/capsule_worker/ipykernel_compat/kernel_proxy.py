"""What libraries take for the kernel and its session, which are in another process here."""

from __future__ import annotations

import datetime as dt
import logging
import os
import sys
import uuid
from typing import TYPE_CHECKING, Any, get_args

import capsule_worker
from capsule_worker.output.jsonable import jsonable
from capsule_worker.process import execution_context
from capsule_worker.protocol import messages as m
from capsule_worker.protocol.output_buffer import StreamName
from capsule_worker.shell import introspection

if TYPE_CHECKING:
    from capsule_worker.frontend.comms import Comms
    from capsule_worker.frontend.stdin import Stdin
    from capsule_worker.output.output_writer import OutputWriter
    from capsule_worker.process.kernel_requests import KernelRequests

#: What only a kernel has whose requests come to the process of its cells.
_ELSEWHERE = frozenset(
    {
        "_aborting",
        "_parent_ident",
        "control_handlers",
        "control_thread",
        "dispatch_shell",
        "do_one_iteration",
        "msg_queue",
        "shell_channel_thread",
        "shell_handlers",
        "shell_streams",
    }
)


class KernelProxy:
    """What libraries ask for as ``get_ipython().kernel``.

    Args:
        shell: the shell.
        comms: its comms.
        outlet: where its output goes.
        requests: reach the front.
        stdin: by which it asks a person.
    """

    implementation = "capsule"
    implementation_version = capsule_worker.__version__
    language_info: dict[str, Any] = {  # noqa: RUF012  # as in ipykernel
        "name": "python",
        "version": sys.version.split()[0],
        "mimetype": "text/x-python",
        "codemirror_mode": {"name": "ipython", "version": sys.version_info[0]},
        "pygments_lexer": "ipython3",
        "nbconvert_exporter": "python",
        "file_extension": ".py",
    }
    log = logging.getLogger("capsule_worker")
    #: Windows are taken care of on the loop that runs.
    eventloop = None
    #: Sockets and threads of a kernel's own process; here the session is all that is needed.
    iopub_socket = iopub_thread = shell_stream = control_stream = stdin_socket = None

    def __init__(self, shell: Any, comms: Comms, outlet: OutputWriter, requests: KernelRequests, stdin: Stdin) -> None:
        self.shell = shell
        self._requests = requests
        self.comm_manager = comms.manager
        self.session = SessionProxy(outlet, comms)
        self._comms = comms
        #: Ask for a line, or a password, below the cell.
        self.raw_input, self.getpass = stdin.ask_line, stdin.ask_password

    def __getattr__(self, name: str) -> Any:
        """Say why something is missing that ipykernel's has."""
        if name in _ELSEWHERE:
            raise AttributeError(
                f"the kernel has no {name!r} in the process of its cells: requests are taken by another one. While a"
                " cell awaits, and in subshells, what widgets say is heard without it"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def get_parent(self, channel: str | None = None) -> dict[str, Any]:  # noqa: ARG002  # ipykernel's signature
        """Return the request that the calling code belongs to."""
        return self._comms.parent()

    def set_parent(self, ident: Any, parent: dict[str, Any], channel: str = "shell") -> None:  # noqa: ARG002  # as above
        """Have the output of the calling thread or task shown below the cell of a request."""
        self.shell.set_parent(parent)

    def execution_of(self, parent: dict[str, Any]) -> str:
        """Return the execution that a request belongs to; that of the calling code where it is not known."""
        return self._comms.execution_of(parent) or execution_context.current()

    @property
    def _parent_header(self) -> dict[str, Any]:
        return self._comms.parent()

    @property
    def user_ns(self) -> Any:
        """The notebook's variables."""
        return self.shell.user_ns

    @property
    def user_module(self) -> Any:
        """The module that they are in."""
        return self.shell.user_module

    @property
    def execution_count(self) -> Any:
        """The number of the cell that runs, or of the next one."""
        return self.shell.execution_count

    @property
    def banner(self) -> Any:
        """What a console shows at its start."""
        return self.shell.banner

    @property
    def config(self) -> Any:
        """What people have set."""
        return self.shell.config

    @property
    def profile_dir(self) -> Any:
        """The directory of IPython's profile."""
        return self.shell.profile_dir

    @property
    def ident(self) -> str:
        """The kernel's id among others."""
        return self.session.session

    @property
    def io_loop(self) -> Any:
        """Tornado's view of the loop on which cells run. Raises AttributeError where tornado is not installed."""
        try:
            from tornado.ioloop import IOLoop
        except ImportError as error:
            raise AttributeError("io_loop: tornado is not installed where this cell runs") from error
        return IOLoop.current()

    def do_shutdown(self, restart: bool) -> dict[str, Any]:
        """End the kernel when the cell has ended; a server that watches over it starts it again."""
        self._requests.ask(m.LeaveRequest())
        return {"status": "ok", "restart": restart}

    async def do_execute(  # ipykernel's signature
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: Any = None,
        allow_stdin: bool = False,  # noqa: ARG002  # as above
        **_: Any,
    ) -> dict[str, Any]:
        """Run code in the midst of the cell that awaits this; return what an ``execute_reply`` says."""
        shell = self.shell
        cell: dict[str, Any] = {"transformed_cell": code}
        try:
            cell["transformed_cell"] = shell.transform_cell(code)
        except Exception:
            cell["preprocessing_exc_tuple"] = sys.exc_info()
        ended = await shell.run_cell_async(code, store_history=store_history, silent=silent, **cell)
        reply = {"status": "ok", "execution_count": shell.execution_count - 1, "user_expressions": {}, "payload": []}
        raised = ended.error_before_exec or ended.error_in_exec
        if raised is not None:
            error = shell.take_error(raised)
            return reply | {
                "status": "error",
                "ename": error.ename,
                "evalue": error.evalue,
                "traceback": error.traceback,
            }
        return reply | {"user_expressions": shell.user_expressions(user_expressions or {})}

    def do_complete(self, code: str, cursor_pos: int | None = None) -> dict[str, Any]:
        """Return what could stand at the cursor, as in a ``complete_reply``."""
        position = len(code) if cursor_pos is None else cursor_pos
        return introspection.complete(self.shell, m.CompleteMessage(id="", code=code, cursor_pos=position)).content

    def do_inspect(
        self, code: str, cursor_pos: int | None = None, detail_level: Any = 0, omit_sections: Any = ()
    ) -> dict[str, Any]:
        """Return what the name at the cursor is, as in an ``inspect_reply``."""
        position = len(code) if cursor_pos is None else cursor_pos
        question = m.InspectMessage(
            id="", code=code, cursor_pos=position, detail_level=detail_level, omit_sections=list(omit_sections)
        )
        return introspection.inspect(self.shell, question).content

    def do_history(self, hist_access_type: Any, output: bool, raw: bool, *rest: Any, **more: Any) -> dict[str, Any]:
        """Return earlier cells, as in a ``history_reply``; the arguments are those of ``history_request``, in order."""
        given = dict(zip(("session", "start", "stop", "n", "pattern", "unique"), rest, strict=False)) | more
        question = m.HistoryMessage(id="", access=hist_access_type, output=output, raw=raw, **given)
        return {"status": "ok", "history": introspection.history(self.shell, question).history}

    def do_is_complete(self, code: str) -> dict[str, Any]:
        """Return whether code can run as it stands, as in an ``is_complete_reply``."""
        reply = introspection.is_complete(self.shell, m.IsCompleteMessage(id="", code=code))
        return {"status": reply.status, **({"indent": reply.indent} if reply.status == "incomplete" else {})}

    def send_response(  # ipykernel's signature
        self,
        stream: Any,
        msg_or_type: Any,
        content: Any = None,
        ident: Any = None,
        buffers: Any = None,
        track: bool = False,
        header: Any = None,
        metadata: Any = None,
        channel: Any = None,  # noqa: ARG002  # as above
    ) -> dict[str, Any]:
        """Show something below the cell that runs; see ``SessionOfShell.send``."""
        return self.session.send(stream, msg_or_type, content, None, ident, buffers, track, header, metadata)


class SessionProxy:
    """Sends what is to be shown, as clients of other kernels do that run in a cell (``execute_interactive``).

    Args:
        outlet: where output goes.
        comms: they know what belongs to which request.
    """

    def __init__(self, outlet: OutputWriter, comms: Comms) -> None:
        self._outlet, self._comms = outlet, comms
        #: Its id.
        self.session = str(uuid.uuid4())

    @property
    def username(self) -> str:
        """Who runs the kernel."""
        return os.environ.get("USER", "username")

    def msg(
        self, msg_type: str, content: Any = None, parent: Any = None, header: Any = None, metadata: Any = None
    ) -> dict[str, Any]:
        """Return a message, which ``send`` takes."""
        made = header or {
            "msg_id": str(uuid.uuid4()),
            "msg_type": msg_type,
            "username": self.username,
            "session": self.session,
            "date": dt.datetime.now(dt.timezone.utc),
            "version": "5.4",
        }
        return {
            "header": made,
            "msg_id": made["msg_id"],
            "msg_type": made["msg_type"],
            "parent_header": parent.get("header", parent) if parent else {},
            "content": {} if content is None else content,
            "metadata": metadata or {},
        }

    def send(  # jupyter_client's signature
        self,
        stream: Any,  # noqa: ARG002  # as above
        msg_or_type: Any,
        content: Any = None,
        parent: Any = None,
        ident: Any = None,  # noqa: ARG002  # as above
        buffers: Any = None,
        track: bool = False,  # noqa: ARG002  # as above
        header: Any = None,
        metadata: Any = None,
    ) -> dict[str, Any]:
        """Show something below the cell of the request ``parent``, or of the calling code; return the message.

        Raises:
            ValueError: it is of a type that cells cannot send.
        """
        if isinstance(msg_or_type, str):
            message = self.msg(msg_or_type, content, parent, header, metadata)
        else:
            message = msg_or_type
        execution = self._comms.execution_of(message.get("parent_header") or {}) or execution_context.current()
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "stream":
            self._write(execution, content)
        else:
            self._outlet.publish(_output(kind, content, message, buffers or message.get("buffers")), execution)
        return dict(message)

    def _write(self, execution: str, content: dict[str, Any]) -> None:
        name: Any = content.get("name")
        if name not in get_args(StreamName):
            raise ValueError(f"there are the streams {' and '.join(get_args(StreamName))}, and not {name!r}")
        with execution_context.attributed_to(execution):
            self._outlet.write(name, content.get("text", ""))


def _output(kind: str, content: dict[str, Any], message: dict[str, Any], buffers: Any) -> m.Output:
    """Return what a message has shown. Raises ValueError for one that does not come from cells."""
    if kind == "clear_output":
        return m.ClearOutput(wait=bool(content.get("wait")))
    if kind == "error":
        lines = [str(line) for line in content.get("traceback", [])]
        return m.ErrorOutput(
            ename=str(content.get("ename", "")), evalue=str(content.get("evalue", "")), traceback=lines
        )
    if kind in ("comm_open", "comm_msg", "comm_close"):
        return m.CommOutput(
            event=kind.removeprefix("comm_"),  # type: ignore[arg-type]  # one of three
            comm_id=content["comm_id"],
            target_name=content.get("target_name"),
            target_module=content.get("target_module"),
            data=jsonable(content.get("data", {})),
            metadata=jsonable(message.get("metadata") or {}),
            buffers=[memoryview(each).cast("B").tobytes() for each in buffers or ()],
        )
    bundle = {name: jsonable(content.get(name) or {}) for name in ("data", "metadata", "transient")}
    if kind == "display_data":
        return m.DisplayOutput(**bundle)
    if kind == "update_display_data":
        return m.UpdateOutput(**bundle)
    if kind == "execute_result":
        return m.ExecuteResultOutput(execution_count=int(content.get("execution_count") or 0), **bundle)
    raise ValueError(
        f"a cell cannot send a message of the type {kind!r}: the kernel, which is another process, hands on what is"
        " shown (stream, display_data, update_display_data, execute_result, clear_output, error) and comm messages,"
        " which carry whatever an extension wants to say"
    )
