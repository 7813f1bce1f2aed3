"""Modules of ipykernel's as cells import them: its own, adapted, where it is installed, and small ones elsewhere.

In ipykernel's kernel they are there before the first cell, which programs take for the sign of a notebook, and the
shell and the streams are of classes in them. So they are here, but nothing of ipykernel is read before more is asked of
a module than where it is. (Some ask all modules for some name, as pickle does; that reads none that does not have it.)
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import comm
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from capsule_worker.frontend import comms
from capsule_worker.output.displays import ZMQDisplayPublisher, ZMQShellDisplayHook
from capsule_worker.output.streams import OutStream
from capsule_worker.shell.ipython_config import IPKernelApp
from capsule_worker.shell.shell import ZMQInteractiveShell

PACKAGE = "ipykernel"
#: The version that the small ones do as.
VERSION = (7, 4, 0)
#: Classes of ours, by the names under which libraries know them.
_CLASSES: dict[str, dict[str, type]] = {
    "ipykernel.displayhook": {"ZMQShellDisplayHook": ZMQShellDisplayHook},
    "ipykernel.iostream": {"OutStream": OutStream},
    "ipykernel.kernelapp": {"IPKernelApp": IPKernelApp},
    "ipykernel.zmqshell": {"ZMQDisplayPublisher": ZMQDisplayPublisher, "ZMQInteractiveShell": ZMQInteractiveShell},
}
#: Those modules that say to be the home of one.
_HOMES = ("ipykernel.displayhook", "ipykernel.iostream", "ipykernel.zmqshell")
#: What is known of a module without reading it.
_OF_SPEC = frozenset({"__spec__", "__loader__", "__package__", "__path__", "__file__", "__cached__"})
#: What a small module of the package's tells.
_OF_VERSION = frozenset({"__version__", "version_info", "kernel_protocol_version", "kernel_protocol_version_info"})
#: What the package takes from another module, by ``*``.
_OF_CONNECT = frozenset({"connect_qtconsole", "get_connection_file", "get_connection_info", "write_connection_file"})
#: Modules that are there in a kernel without being imported.
_SUBMODULES = frozenset(
    {"comm", "compiler", "connect", "eventloops", "ipkernel", "jsonutil", "kernelapp", "kernelbase"}
)


def follow_imports() -> None:
    """Have the modules there, and adapt what cells will import of them. Comms are to be set up before."""
    follower = _Follower(comm.create_comm, comm.get_comm_manager)
    sys.meta_path.insert(0, follower)
    package = vars(_Later(follower, PACKAGE, {}).module)
    for name in _HOMES:
        package[name.rpartition(".")[2]] = _Later(follower, name, _CLASSES[name]).module


class _Follower:
    """Finds modules of ipykernel's, as ``importlib.abc.MetaPathFinder`` does (6 ms to import, at each start).

    Args:
        create_comm, get_comm_manager: what makes comms; ipykernel puts its own in their place.
    """

    def __init__(self, create_comm: Any, get_comm_manager: Any) -> None:
        self._comms = create_comm, get_comm_manager

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module where it would be found anyway, or else one of the small ones."""
        if fullname.partition(".")[0] != PACKAGE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            if fullname not in _IMITATED:
                return None
            spec = spec_from_loader(
                fullname,
                _Imitator(),  # type: ignore[arg-type]  # it has what is asked for
                is_package=fullname in {PACKAGE, "ipykernel.comm"},
            )
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _ADAPTED.get(fullname, _leave)(module)
            vars(module).update(_CLASSES.get(fullname, {}))
            comm.create_comm, comm.get_comm_manager = self._comms
            if fullname == "ipykernel.comm.comm":
                adapted: Any = module
                adapted.BaseComm.publish_msg = comms.Comm.publish_msg

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


class _Later:
    """A module that is there, and is read when somebody asks for something that only then is in it.

    It is a plain module with a function ``__getattr__``: programs, and checkpoints, are particular about that.

    Args:
        follower: finds it.
        name: its full name.
        known: what is in it from the beginning.
    """

    def __init__(self, follower: _Follower, name: str, known: dict[str, type]) -> None:
        self._follower, self._name = follower, name
        self._lock = threading.RLock()
        self._spec: ModuleSpec | None = None
        self._names: frozenset[str] | None = None
        self._read = False
        self.module = ModuleType(name)
        here = vars(self.module)
        for unset in ("__spec__", "__loader__", "__package__"):
            del here[unset]
        here.update(known, __getattr__=self._get, __dir__=self._list)
        sys.modules[name] = self.module

    def _get(self, name: str) -> Any:
        here = vars(self.module)
        with self._lock:
            if name not in here:
                if name in _OF_SPEC:
                    self._find()
                elif name in _OF_VERSION and self._name == PACKAGE:
                    with contextlib.suppress(ImportError, AttributeError):
                        here[name] = getattr(importlib.import_module("ipykernel._version"), name)
                if name not in here and not self._read and self._has(name):
                    self._load()
            if name in here:
                return here[name]
        if name in _SUBMODULES and self._name == PACKAGE:
            return importlib.import_module(f"{PACKAGE}.{name}")
        raise AttributeError(f"module {self._name!r} has no attribute {name!r}")

    def _list(self) -> Iterable[str]:
        with self._lock:
            if not self._read:
                self._load()
        return [name for name in vars(self.module) if name not in {"__getattr__", "__dir__"}]

    def _find(self) -> ModuleSpec:
        if self._spec is None:
            parent = self._name.rpartition(".")[0]
            spec = self._follower.find_spec(self._name, sys.modules[parent].__path__ if parent else None)
            if spec is None:
                raise ModuleNotFoundError(f"No module named {self._name!r}", name=self._name)
            here = vars(self.module)
            here.update(__spec__=spec, __loader__=spec.loader, __package__=spec.parent)
            if spec.submodule_search_locations is not None:
                here["__path__"] = spec.submodule_search_locations
            if spec.has_location:
                here.update(__file__=spec.origin, __cached__=spec.cached)
            self._spec = spec
        return self._spec

    def _has(self, name: str) -> bool:
        """Whether a name may be in the module when it was read."""
        if name == "__all__" or (name in _OF_CONNECT and self._name == PACKAGE):
            return True
        if self._names is None:
            get_code = getattr(self._find().loader, "get_code", None)
            if get_code is None:
                return True
            self._names = frozenset(get_code(self._name).co_names)
        return name in self._names

    def _load(self) -> None:
        spec = self._find()
        assert spec.loader is not None
        self._read = True
        try:
            spec.loader.exec_module(self.module)
        except BaseException:
            self._read = False
            raise


class _Imitator:
    """Makes the small modules that stand in for ipykernel's, as ``importlib.abc.Loader`` does."""

    def create_module(self, _spec: ModuleSpec) -> None:
        """Have an empty one made."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill a module."""
        _IMITATED[module.__name__](module)


class _Comm(comms.Comm):
    """A comm, with the arguments of ipykernel's."""

    def __init__(self, target_name: str = "", data: Any = None, **rest: Any) -> None:
        for unknown in ("kernel", "show_warning"):
            rest.pop(unknown, None)
        super().__init__(target_name=target_name or "comm", data=data, **rest)


def _leave(_: Any) -> None:
    """Leave a module as it is."""


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


def _eventloops(module: Any) -> None:
    def enable_gui(gui: str | None, kernel: Any = None) -> None:  # noqa: ARG001  # ipykernel's signature
        """Take care of a toolkit's windows from now on. Raises ValueError: there is no such toolkit, or no display."""
        try:
            InteractiveShell.instance().enable_gui(gui)
        except UsageError as error:
            raise ValueError(str(error)) from error

    module.enable_gui = enable_gui


def _imitate_package(module: Any) -> None:
    module.version_info, module.__version__ = VERSION, ".".join(map(str, VERSION))
    connect = importlib.import_module("ipykernel.connect")
    module.get_connection_file, module.get_connection_info = connect.get_connection_file, connect.get_connection_info


def _imitate_connect(module: Any) -> None:
    def read(connection_file: str, unpack: bool) -> Any:
        import json

        text = Path(connection_file).read_text(encoding="utf-8")
        return {"key": "", **json.loads(text)} if unpack else text

    module.get_connection_info = read


def _imitate_comm(module: Any) -> None:
    module.Comm, module.CommManager = _Comm, comm.base_comm.CommManager


#: What becomes of modules that a cell imports. They would look for a kernel in this process.
_ADAPTED: dict[str, Callable[[Any], None]] = {"ipykernel.connect": _connect, "ipykernel.eventloops": _eventloops}
#: What is in those that stand in for others, before they are adapted.
_IMITATED: dict[str, Callable[[Any], None]] = {
    PACKAGE: _imitate_package,
    "ipykernel.comm": _imitate_comm,
    "ipykernel.connect": _imitate_connect,
    "ipykernel.eventloops": _leave,
    **dict.fromkeys(_CLASSES, _leave),
}
