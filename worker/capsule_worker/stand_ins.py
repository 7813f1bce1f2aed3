"""What libraries take for parts of ipykernel, which are in another process here."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

import comm

from capsule_worker import attribution
from capsule_worker.application import IPKernelApp
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


def _connect(module: Any) -> None:
    def get_connection_file(app: Any = None) -> str:  # noqa: ARG001  # ipykernel's signature
        """Return the path of the kernel's connection file."""
        return IPKernelApp.instance().connection_file

    get_info = module.get_connection_info

    def get_connection_info(connection_file: str | None = None, unpack: bool = False) -> Any:
        """Return what is in the kernel's connection file, or in another one."""
        own = get_connection_file()
        try:
            return get_info(connection_file or own, unpack)
        except OSError:
            if connection_file is not None:
                raise
            raise PermissionError(
                f"cells do not see {own}, in which the key to their kernel is. A terminal does:"
                f" jupyter console --existing {own}"
            ) from None

    module.get_connection_file, module.get_connection_info = get_connection_file, get_connection_info


def _shell(module: Any) -> None:
    from capsule_worker.shell import ZMQInteractiveShell

    module.ZMQInteractiveShell = ZMQInteractiveShell


def _application(module: Any) -> None:
    module.IPKernelApp = IPKernelApp


#: What becomes of modules of ipykernel's that a cell imports. They would look for a kernel in this process.
_ADAPTED: dict[str, Callable[[Any], None]] = {
    "ipykernel.connect": _connect,
    "ipykernel.zmqshell": _shell,
    "ipykernel.kernelapp": _application,
}


class _Follower(MetaPathFinder):
    """Adapts modules of ipykernel's when they are imported.

    Args:
        create_comm, get_comm_manager: what makes comms; ipykernel puts its own in their place.
    """

    def __init__(self, create_comm: Any, get_comm_manager: Any) -> None:
        self._comms = create_comm, get_comm_manager

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module where it would be found anyway."""
        if not fullname.startswith("ipykernel."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _ADAPTED.get(fullname, lambda _: None)(module)
            comm.create_comm, comm.get_comm_manager = self._comms
            if fullname == "ipykernel.comm.comm":
                adapted: Any = module
                adapted.BaseComm.publish_msg = self._comms[0].publish_msg

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def follow_imports() -> None:
    """Adapt what cells will import of ipykernel. Comms are to be set up before."""
    sys.meta_path.insert(0, _Follower(comm.create_comm, comm.get_comm_manager))
