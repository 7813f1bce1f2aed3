"""Cells import the real modules of ipykernel, read as late as possible, or replacements."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

#: Runs each script in a fork of a process that has imported the modules.
BEGIN = """
import importlib, importlib.util, inspect, os, pickle, sys, traceback
from importlib.machinery import PathFinder
from capsule_worker.ipykernel_compat import import_hook

def run(*scripts):
    for script in scripts:
        if (child := os.fork()) == 0:
            try:
                exec(script, dict(globals()))
            except BaseException:
                print(script, file=sys.stderr)
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            sys.exit(1)
"""
FOLLOW = "import_hook.follow_imports()\n"
#: What makes it look as if ipykernel were not installed.
WITHOUT = """
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.startswith("ipykernel") else find(name, *rest)
"""
UNREAD = "assert 'connect' not in vars(sys.modules['ipykernel']) and 'zmq' not in sys.modules\n"


LOOKS = [
    "import ipykernel; ipykernel.version_info > (7,), ipykernel.__version__",
    "import ipykernel; ipykernel.iostream.OutStream, ipykernel.zmqshell.ZMQInteractiveShell",
    "from ipykernel.iostream import OutStream; from ipykernel.zmqshell import ZMQInteractiveShell",
    "importlib.util.find_spec('ipykernel').origin.endswith('__init__.py')",
    "inspect.getmodule(inspect.getsource), inspect.getmodule(import_hook.OutStream)",
    "assert pickle.whichmodule(object(), 'nowhere') == '__main__'",
    "assert pickle.loads(pickle.dumps(import_hook.ZMQInteractiveShell)) is import_hook.ZMQInteractiveShell",
    "import ipykernel, cloudpickle; assert pickle.loads(cloudpickle.dumps(ipykernel)) is ipykernel",
    "hasattr(sys.modules['ipykernel'], 'nothing_that_is_there'), hasattr(sys.modules['ipykernel'], '__wrapped__')",
]
READING = [
    "import ipykernel\nassert 'zmq' in str(ipykernel.write_connection_file.__module__) or ipykernel.connect",
    "from ipykernel import *\nget_connection_file, write_connection_file",
    "import ipykernel\nassert {'connect_qtconsole', '__version__'} <= {*dir(ipykernel)}",
    "from ipykernel.kernelbase import Kernel\nfrom ipykernel.ipkernel import IPythonKernel\nimport ipykernel.kernelapp",
    "from ipykernel.iostream import IOPubThread, OutStream\nassert OutStream is import_hook.OutStream",
    "from ipykernel.zmqshell import KernelMagics, ZMQDisplayPublisher as P\n"
    "assert P is import_hook.ZMQDisplayPublisher",
    "import ipykernel\nassert ipykernel.ipkernel.IPythonKernel.__module__ == 'ipykernel.ipkernel'",
    "from ipykernel.displayhook import *\nassert ZMQDisplayHook and ZMQShellDisplayHook.finish_displayhook",
]


def run(*scripts: str) -> None:
    """Run scripts, each in a process of its own, which must succeed."""
    program = BEGIN + f"run(*{scripts!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_module_is_read_before_it_is_needed() -> None:
    run(*(FOLLOW + UNREAD + look + "\n" + UNREAD for look in LOOKS))


def test_the_real_modules_are_read_when_code_needs_them() -> None:
    run(*(FOLLOW + look + "\nassert importlib.reload(sys.modules['ipykernel']).__file__\n" for look in READING))


def test_an_unknown_name_is_an_error() -> None:
    run(
        FOLLOW
        + "import ipykernel\ntry: ipykernel.nowhere\nexcept AttributeError as error: assert 'nowhere' in str(error)"
    )


def test_replacements_are_imported_where_ipykernel_is_not_installed() -> None:
    run(
        WITHOUT
        + FOLLOW
        + """
import ipykernel
from ipykernel.comm import Comm, CommManager
from ipykernel import connect, get_connection_file
from ipykernel.eventloops import enable_gui
from ipykernel.kernelapp import IPKernelApp
assert ipykernel.version_info >= (7,) and ipykernel.__version__
assert ipykernel.zmqshell.ZMQInteractiveShell is import_hook.ZMQInteractiveShell
assert ipykernel.iostream.OutStream is import_hook.OutStream
assert importlib.util.find_spec("ipykernel") is not None
IPKernelApp.instance(connection_file="/nowhere/kernel.json")
assert get_connection_file() == "/nowhere/kernel.json"
try: connect.get_connection_info()
except PermissionError as error: assert "jupyter console --existing" in str(error)
else: raise AssertionError
for missing in ("ipykernel.kernelbase", "ipykernel.nowhere"):
    try: importlib.import_module(missing)
    except ModuleNotFoundError: pass
    else: raise AssertionError(missing)
assert not hasattr(ipykernel, "nowhere")
"""
    )
