"""Imports of ipykernel from cells: its own modules, adapted, where it is installed, and small replacements elsewhere.

ipykernel's kernel has imported these modules before the first cell: programs recognise a notebook by them, and the
classes of the shell and the streams are in them. So a worker has them too, but as ``LazyModule``: no file of ipykernel
is read before code needs more of a module than its place.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import comm
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from capsule_worker.frontend import comms
from capsule_worker.ipykernel_compat.lazy_module import PACKAGE, LazyModule
from capsule_worker.output.displays import ZMQDisplayPublisher, ZMQShellDisplayHook
from capsule_worker.output.streams import OutStream
from capsule_worker.shell.ipython_config import IPKernelApp
from capsule_worker.shell.shell import ZMQInteractiveShell

#: The version whose interface the replacements have.
VERSION = (7, 4, 0)
#: Our classes, by the names under which libraries know them.
_CLASSES: dict[str, dict[str, type]] = {
    "ipykernel.displayhook": {"ZMQShellDisplayHook": ZMQShellDisplayHook},
    "ipykernel.iostream": {"OutStream": OutStream},
    "ipykernel.kernelapp": {"IPKernelApp": IPKernelApp},
    "ipykernel.zmqshell": {"ZMQDisplayPublisher": ZMQDisplayPublisher, "ZMQInteractiveShell": ZMQInteractiveShell},
}
#: The modules that our classes name as theirs.
_PRELOADED = ("ipykernel.displayhook", "ipykernel.iostream", "ipykernel.zmqshell")


def follow_imports() -> None:
    """Put the modules into ``sys.modules``, and adapt those that cells import. Set comms up before."""
    finder = _Finder(comm.create_comm, comm.get_comm_manager)
    sys.meta_path.insert(0, finder)
    package = vars(LazyModule(finder, PACKAGE, {}).module)
    for name in _PRELOADED:
        package[name.rpartition(".")[2]] = LazyModule(finder, name, _CLASSES[name]).module


class _Finder:
    """Finds modules of ipykernel.

    It does not inherit ``importlib.abc.MetaPathFinder``, which takes 6 ms to import at each start.

    Args:
        create_comm: makes comms; ipykernel replaces the function by its own.
        get_comm_manager: returns their manager; likewise.
    """

    def __init__(self, create_comm: Any, get_comm_manager: Any) -> None:
        self._comms = create_comm, get_comm_manager

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of the real module, or else of a replacement; None if there is neither.

        Args:
            fullname: the name of the module.
            path: where to look; None for ``sys.path``.
            target: the module, when it is reloaded.
        """
        if fullname.partition(".")[0] != PACKAGE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            if fullname not in _REPLACEMENTS:
                return None
            spec = spec_from_loader(
                fullname,
                _ReplacementLoader(),  # type: ignore[arg-type]  # it has the two methods that are called
                is_package=fullname in {PACKAGE, "ipykernel.comm"},
            )
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _ADAPTERS.get(fullname, _leave)(module)
            vars(module).update(_CLASSES.get(fullname, {}))
            comm.create_comm, comm.get_comm_manager = self._comms
            if fullname == "ipykernel.comm.comm":
                adapted: Any = module
                adapted.BaseComm.publish_msg = comms.Comm.publish_msg

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


class _ReplacementLoader:
    """Makes the replacements for ipykernel's modules, as ``importlib.abc.Loader`` does."""

    def create_module(self, _spec: ModuleSpec) -> None:
        """Let Python make an empty module."""

    def exec_module(self, module: ModuleType) -> None:
        _REPLACEMENTS[module.__name__](module)


class _Comm(comms.Comm):
    """A comm with the arguments of ipykernel's."""

    def __init__(self, target_name: str = "", data: Any = None, **rest: Any) -> None:
        for unknown in ("kernel", "show_warning"):
            rest.pop(unknown, None)
        super().__init__(target_name=target_name or "comm", data=data, **rest)


def _leave(_: Any) -> None:
    """Do not change a module."""


def _adapt_connect(module: Any) -> None:
    def get_connection_file(app: Any = None) -> str:  # noqa: ARG001  # ipykernel's signature
        """Return the path of the kernel's connection file."""
        return IPKernelApp.instance().connection_file

    get_info = module.get_connection_info

    def get_connection_info(connection_file: str | None = None, unpack: bool = False) -> Any:
        """Return the content of the kernel's connection file, or of another one."""
        own = get_connection_file()
        try:
            return get_info(connection_file or own, unpack)
        except OSError:
            if connection_file is not None:
                raise
            raise PermissionError(
                f"cells cannot read {own}, which holds the key to their kernel. A terminal can:"
                f" jupyter console --existing {own}"
            ) from None

    module.get_connection_file, module.get_connection_info = get_connection_file, get_connection_info


def _adapt_eventloops(module: Any) -> None:
    def enable_gui(gui: str | None, kernel: Any = None) -> None:  # noqa: ARG001  # ipykernel's signature
        """Process the events of a toolkit's windows; raise ValueError without that toolkit, or a display."""
        try:
            InteractiveShell.instance().enable_gui(gui)
        except UsageError as error:
            raise ValueError(str(error)) from error

    module.enable_gui = enable_gui


def _fill_package(module: Any) -> None:
    module.version_info, module.__version__ = VERSION, ".".join(map(str, VERSION))
    connect = importlib.import_module("ipykernel.connect")
    module.get_connection_file, module.get_connection_info = connect.get_connection_file, connect.get_connection_info


def _fill_connect(module: Any) -> None:
    def read(connection_file: str, unpack: bool) -> Any:
        import json

        text = Path(connection_file).read_text(encoding="utf-8")
        return {"key": "", **json.loads(text)} if unpack else text

    module.get_connection_info = read


def _fill_comm(module: Any) -> None:
    module.Comm, module.CommManager = _Comm, comm.base_comm.CommManager


#: Change modules that cells import. Unchanged they would look for a kernel in this process.
_ADAPTERS: dict[str, Callable[[Any], None]] = {
    "ipykernel.connect": _adapt_connect,
    "ipykernel.eventloops": _adapt_eventloops,
}
#: Fill the replacements, before the functions above change them.
_REPLACEMENTS: dict[str, Callable[[Any], None]] = {
    PACKAGE: _fill_package,
    "ipykernel.comm": _fill_comm,
    "ipykernel.connect": _fill_connect,
    "ipykernel.eventloops": _leave,
    **dict.fromkeys(_CLASSES, _leave),
}
