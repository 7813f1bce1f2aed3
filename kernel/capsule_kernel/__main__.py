"""Start the kernel: ``python -m capsule_kernel -f CONNECTION_FILE``. Jupyter does this.

The first worker is started before anything heavy is imported: while this process imports ZMQ and the messaging
machinery, the worker imports IPython, on another core.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib
import json
import os
import re
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

#: Environment variables for ``capsule_worker.application``: the connection file, and options of IPython's as JSON.
CONNECTION_FILE, OPTIONS = "CAPSULE_CONNECTION_FILE", "CAPSULE_IPYTHON_OPTIONS"
#: Options of IPython's, as ``--HistoryManager.hist_file=:memory:``.
_OF_IPYTHON = re.compile(r"--[A-Z]\w*\.\w+=")
#: Those that have a short form here, too, and what they stand for.
_OF_IPYTHON_ALONE = {"--profile-dir": "--ProfileDir.location", "--ipython-dir": "--BaseIPythonApplication.ipython_dir"}


def main(argv: list[str] | None = None) -> int:
    """Run the kernel until it is shut down; return the exit status (2: wrong arguments or configuration)."""
    # The kernel is interrupted by message or by signal, and in both cases it is the cell that is meant. Until the
    # handler is there, ignore it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="python -m capsule_kernel", description="The Capsule kernel for Jupyter.")
    parser.add_argument("-f", "--connection-file", required=True, help="where the ports and the key are")
    parser.add_argument("--python", help="interpreter of the environment in which cells run")
    parser.add_argument("--profile", help="isolation of the worker")
    for option in _OF_IPYTHON_ALONE:
        parser.add_argument(option, help="as for IPython")
    arguments, rest = parser.parse_known_args(argv)
    # Clients give options of IPython's to whatever is installed under the name python3, and `jupyter run` its script.
    options = [option for option in rest if _OF_IPYTHON.match(option)]
    wrong = [option for option in rest if option.startswith("-") and option not in options]
    given = {option: getattr(arguments, option[2:].replace("-", "_")) for option in _OF_IPYTHON_ALONE}
    options += [f"{_OF_IPYTHON_ALONE[option]}={value}" for option, value in given.items() if value is not None]
    if wrong:
        parser.error(f"unrecognized arguments: {' '.join(wrong)}")

    from capsule_durable.settings import ConfigurationError, load

    try:
        settings, _ = load(os.environ, {"python": arguments.python, "profile": arguments.profile}, Path.cwd())
    except ConfigurationError as error:
        print(f"capsule: {error}", file=sys.stderr)
        return 2

    from capsule_durable.launcher import Launcher
    from capsule_durable.sandbox import enter

    connection_file = Path(arguments.connection_file)
    sandbox, session = enter(
        settings.profile,
        connection_file,
        Path(settings.home),
        os.environ,
        settings.rules,
        settings.python,
        keep=settings.checkpoints != "off",
    )
    launcher = Launcher(
        settings.python,
        settings.drain_timeout,
        sandbox,
        session,
        settings.pass_environment,
        settings.limits,
        {CONNECTION_FILE: str(connection_file.absolute()), OPTIONS: json.dumps(options)},
    )
    try:
        first = launcher.launch()
    except OSError:
        first = None  # tried again, and reported, when there is a client to tell

    _hide_memory()
    sys.modules.setdefault("aiohttp", _Later("aiohttp"))
    from capsule_kernel.app import run

    run(arguments.connection_file, settings, launcher, first)
    return 0


def _hide_memory() -> None:
    """Have this process's memory, environment and descriptors kept from other programs of this user, and no dump made.

    What has the key and passwords in it is nobody's business, in no profile (``PR_SET_DUMPABLE``).
    """
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)


class _Later(ModuleType):
    """Stands for a module until something of it is used, where ``importlib.util.LazyLoader`` is undone by ``import``.

    The SDK imports its HTTP client (70 ms) for engines on servers; the embedded one speaks to none.
    """

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


if __name__ == "__main__":
    sys.exit(main())
