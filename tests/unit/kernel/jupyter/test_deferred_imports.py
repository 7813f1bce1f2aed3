"""What the front does not import before it answers."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

PROGRAM = """
import sys
from capsule_kernel.jupyter.deferred_imports import defer
defer("aiohttp", "IPython", "ipykernel", "jupyter_client")
import capsule_kernel.app
heavy = {"aiohttp.client", "IPython.core.interactiveshell", "ipykernel.connect", "jupyter_client.manager"}
found = heavy & sys.modules.keys()
assert not found, f"{found} are imported"
import IPython
assert IPython.version_info >= (8,), "it is not to be had"
assert "IPython.core.interactiveshell" in sys.modules
import aiohttp
assert aiohttp.ClientSession is not None
import ipykernel
assert ipykernel.__version__
import jupyter_client
assert jupyter_client.KernelManager
assert jupyter_client.session.Session, "its modules are not to be had"
"""


def test_ipython_and_an_http_client_are_imported_only_when_used() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
