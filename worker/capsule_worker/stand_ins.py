"""What libraries take for parts of ipykernel, which are in another process here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from capsule_worker import attribution
from capsule_worker.jsonable import jsonable
from capsule_worker.protocol.messages import DisplayOutput, ErrorOutput, ExecuteResultOutput, UpdateOutput

if TYPE_CHECKING:
    from capsule_worker.commands import Commands
    from capsule_worker.comms import Comms
    from capsule_worker.outlet import Outlet


class KernelOfShell:
    """What libraries ask for as ``get_ipython().kernel``.

    Args:
        shell: the shell.
        comms: its comms.
        outlet: where its output goes.
        commands: by which it is asked to do what only it can.
    """

    implementation = "capsule"
    log = logging.getLogger("capsule_worker")

    def __init__(self, shell: Any, comms: Comms, outlet: Outlet, commands: Commands) -> None:
        self.shell = shell
        self._commands = commands
        self.comm_manager = comms.manager
        self.session = SessionOfShell(outlet)
        #: The socket of a kernel's own process; here the session is all that is needed.
        self.iopub_socket = None
        self._comms = comms

    def get_parent(self, channel: str | None = None) -> dict[str, Any]:  # noqa: ARG002  # ipykernel's signature
        """Return the request that the calling code belongs to."""
        return self._comms.parent()

    def execution_of(self, parent: dict[str, Any]) -> str:
        """Return the execution that a request belongs to; that of the calling code where it is not known."""
        return self._comms.execution_of(parent) or attribution.current()

    @property
    def _parent_header(self) -> dict[str, Any]:
        return self._comms.parent()

    @property
    def user_ns(self) -> Any:
        """The notebook's variables."""
        return self.shell.user_ns

    @property
    def execution_count(self) -> Any:
        """The number of the cell that runs, or of the next one."""
        return self.shell.execution_count

    def do_shutdown(self, restart: bool) -> dict[str, Any]:
        """End the kernel when the cell has ended; a server that watches over it starts it again."""
        self._commands.ask("shutdown")
        return {"status": "ok", "restart": restart}

    def send_response(self, stream: Any, msg_or_type: str, content: Any = None, **_: Any) -> None:
        """Show something below the cell that runs."""
        self.session.send(stream, msg_or_type, content)


class SessionOfShell:
    """Sends what is to be shown, as clients of other kernels do that run in a cell (``execute_interactive``).

    Args:
        outlet: where output goes.
    """

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def send(self, stream: Any, msg_type: str, content: Any = None, **_: Any) -> None:  # noqa: ARG002  # jupyter_client's
        """Show a result, an object or an error below the cell that runs; nothing else is sent."""
        content = content or {}
        bundle = {name: jsonable(content.get(name, {})) for name in ("data", "metadata", "transient")}
        if msg_type == "display_data":
            self._outlet.publish(DisplayOutput(**bundle))
        elif msg_type == "update_display_data":
            self._outlet.publish(UpdateOutput(**bundle))
        elif msg_type == "execute_result":
            count = int(content.get("execution_count") or 0)
            self._outlet.publish(ExecuteResultOutput(execution_count=count, **bundle))
        elif msg_type == "error":
            lines = [str(line) for line in content.get("traceback", [])]
            ename, evalue = str(content.get("ename", "")), str(content.get("evalue", ""))
            self._outlet.publish(ErrorOutput(ename=ename, evalue=evalue, traceback=lines))
