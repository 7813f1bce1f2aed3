"""An object in place of the kernel, which is another process, for libraries in cells."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import capsule_worker
from capsule_worker.ipykernel_compat.shell_proxies import SessionProxy
from capsule_worker.process import execution_context
from capsule_worker.protocol import messages as m
from capsule_worker.shell import introspection

if TYPE_CHECKING:
    from capsule_worker.frontend.comms import Comms
    from capsule_worker.frontend.stdin import Stdin
    from capsule_worker.output.output_writer import OutputWriter
    from capsule_worker.process.kernel_requests import KernelRequests

#: Attributes that only a kernel has which handles requests in the process of its cells.
_UNAVAILABLE = frozenset(
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
    """What libraries know as ``get_ipython().kernel``.

    Args:
        shell: the shell.
        comms: the comms of this process.
        output: sends output.
        requests: asks the front.
        stdin: asks the user.
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
    #: The events of windows are processed on the loop that runs.
    eventloop = None
    #: Sockets and threads of the kernel's process; the session does without them.
    iopub_socket = iopub_thread = shell_stream = control_stream = stdin_socket = None

    def __init__(self, shell: Any, comms: Comms, output: OutputWriter, requests: KernelRequests, stdin: Stdin) -> None:
        self.shell = shell
        self._requests = requests
        self.comm_manager = comms.manager
        self.session = SessionProxy(output, comms)
        self._comms = comms
        #: Ask the user for a line, or a password, below the cell.
        self.raw_input, self.getpass = stdin.ask_line, stdin.ask_password

    def __getattr__(self, name: str) -> Any:
        """Explain why an attribute of ipykernel's kernel is missing.

        Args:
            name: the attribute.

        Raises:
            AttributeError: always.
        """
        if name in _UNAVAILABLE:
            raise AttributeError(
                f"the kernel has no {name!r} in the process of its cells: another process handles requests. Messages of"
                " widgets arrive without it, while a cell awaits and in subshells"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def get_parent(self, channel: str | None = None) -> dict[str, Any]:  # noqa: ARG002  # ipykernel's signature
        """Return the request that the calling code belongs to.

        Args:
            channel: ignored.
        """
        return self._comms.parent()

    def set_parent(self, ident: Any, parent: dict[str, Any], channel: str = "shell") -> None:  # noqa: ARG002  # as above
        """Show the output of the calling thread or task below the cell of a request.

        Args:
            ident: ignored.
            parent: the request.
            channel: ignored.
        """
        self.shell.set_parent(parent)

    def execution_of(self, parent: dict[str, Any]) -> str:
        """Return the execution of a request; that of the calling code if it is not known.

        Args:
            parent: the request, or its header.
        """
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
        """The module that has the notebook's variables."""
        return self.shell.user_module

    @property
    def execution_count(self) -> Any:
        """The number of the cell that runs, or of the next one."""
        return self.shell.execution_count

    @property
    def banner(self) -> Any:
        """The text that a console shows at its start."""
        return self.shell.banner

    @property
    def config(self) -> Any:
        """IPython's configuration."""
        return self.shell.config

    @property
    def profile_dir(self) -> Any:
        """The directory of IPython's profile."""
        return self.shell.profile_dir

    @property
    def ident(self) -> str:
        """The id of the kernel."""
        return self.session.session

    @property
    def io_loop(self) -> Any:
        """Tornado's view of the loop on which cells run.

        Raises:
            AttributeError: tornado is not installed.
        """
        try:
            from tornado.ioloop import IOLoop
        except ImportError as error:
            raise AttributeError("io_loop: tornado is not installed where this cell runs") from error
        return IOLoop.current()

    def do_shutdown(self, restart: bool) -> dict[str, Any]:
        """End the kernel after the cell; a server restarts it.

        Args:
            restart: returned as it is.
        """
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
        """Run code in the middle of the cell that awaits this; return the content of an ``execute_reply``.

        Args:
            code: the code.
            silent: as in ``execute_request``, like the following.
            store_history: whether the code gets a number and is in the history.
            user_expressions: expressions to evaluate afterwards, by name.
            allow_stdin: ignored.
        """
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
            error = shell.cell_error(raised)
            return reply | {
                "status": "error",
                "ename": error.ename,
                "evalue": error.evalue,
                "traceback": error.traceback,
            }
        return reply | {"user_expressions": shell.user_expressions(user_expressions or {})}

    def do_complete(self, code: str, cursor_pos: int | None = None) -> dict[str, Any]:
        """Return the completions at the cursor, as in a ``complete_reply``.

        Args:
            code: the code.
            cursor_pos: the cursor in it, in characters; None for its end.
        """
        position = len(code) if cursor_pos is None else cursor_pos
        return introspection.complete(self.shell, m.CompleteMessage(id="", code=code, cursor_pos=position)).content

    def do_inspect(
        self, code: str, cursor_pos: int | None = None, detail_level: Any = 0, omit_sections: Any = ()
    ) -> dict[str, Any]:
        """Return the documentation of the name at the cursor, as in an ``inspect_reply``.

        Args:
            code: the code.
            cursor_pos: the cursor in it, in characters; None for its end.
            detail_level: 0 for documentation, 1 for source.
            omit_sections: what to leave out.
        """
        position = len(code) if cursor_pos is None else cursor_pos
        question = m.InspectMessage(
            id="", code=code, cursor_pos=position, detail_level=detail_level, omit_sections=list(omit_sections)
        )
        return introspection.inspect(self.shell, question).content

    def do_history(self, hist_access_type: Any, output: bool, raw: bool, *rest: Any, **more: Any) -> dict[str, Any]:
        """Return earlier cells, as in a ``history_reply``.

        Args:
            hist_access_type: ``range``, ``tail`` or ``search``.
            output: whether to return outputs too.
            raw: whether to return the source as it was written.
            rest: further fields of ``history_request``, in its order.
            more: such fields by name.
        """
        given = dict(zip(("session", "start", "stop", "n", "pattern", "unique"), rest, strict=False)) | more
        question = m.HistoryMessage(id="", access=hist_access_type, output=output, raw=raw, **given)
        return {"status": "ok", "history": introspection.history(self.shell, question).history}

    def do_is_complete(self, code: str) -> dict[str, Any]:
        """Return whether code is complete, as in an ``is_complete_reply``.

        Args:
            code: the code.
        """
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
        """Show a message below the cell that runs; return the message.

        Args:
            stream: ignored.
            msg_or_type: the message, or its type.
            content: the content, with a type.
            ident: ignored.
            buffers: binary data of a comm message.
            track: ignored.
            header: with a type.
            metadata: with a type.
            channel: ignored.

        Raises:
            ValueError: cells cannot send messages of this type.
        """
        return self.session.send(stream, msg_or_type, content, None, ident, buffers, track, header, metadata)
