"""Start the kernel: ``python -m capsule_kernel -f CONNECTION_FILE``. Jupyter does this.

The first worker is started before anything heavy is imported: while this process imports ZMQ and the messaging
machinery, the worker imports IPython, on another core.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capsule_kernel.jupyter.arguments import Arguments, parse
from capsule_kernel.jupyter.deferred_imports import defer
from capsule_worker.protocol.pydantic_plugins import without_plugins

if TYPE_CHECKING:
    from collections.abc import Mapping

    from capsule_durable.config.fast_defaults import FastDefaults
    from capsule_durable.config.settings import Settings
    from capsule_durable.config.sources import Configuration
    from capsule_kernel.jupyter.connection_file import ConnectionFile

#: Environment variables for ``capsule_worker.shell.ipython_config``: the connection file, and options of IPython's as
#: JSON.
CONNECTION_FILE, OPTIONS = "CAPSULE_CONNECTION_FILE", "CAPSULE_IPYTHON_OPTIONS"
_IPYTHON_DIRECTORY = "--BaseIPythonApplication.ipython_dir="


def main(argv: list[str] | None = None) -> int:
    """Run the kernel until it is shut down; return the exit status (2: wrong arguments)."""
    # The kernel is interrupted by message or by signal, and in both cases it is the cell that is meant. Until the
    # handler is set, ignore it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What is imported stays: to look for garbage in it takes a tenth of the time. ``app`` continues that.
    gc.disable()
    options = parse(argv)
    for line in options.unused:
        print(f"capsule: {line}", file=sys.stderr)

    from capsule_durable.config.fast_defaults import load_fast_defaults
    from capsule_durable.errors import CapsuleError
    from capsule_kernel.jupyter.connection_file import resolve

    try:
        isolation, profiles = _profiles(options)
        given = {"python": options.python, "profile": isolation, "log_level": options.log_level}
        fast = load_fast_defaults(os.environ, given, Path.cwd())
        configuration = _read_configuration(given) if fast is None else None
        connection = resolve(options.connection_file, options.connection)
    except CapsuleError as error:
        print(f"capsule: {error}", file=sys.stderr)
        return 2
    try:
        _serve(fast, configuration, connection, [*options.ipython, *profiles])
    finally:
        connection.close()
    return 0


def _read_configuration(given: Mapping[str, Any]) -> Configuration:
    with without_plugins():
        from capsule_durable.config.sources import read

    configuration = read(os.environ, given, Path.cwd())
    for line in (*configuration.warnings, *configuration.problem.splitlines()):
        print(f"capsule: {line}", file=sys.stderr)
    return configuration


def _serve(
    fast: FastDefaults | None, configuration: Configuration | None, connection: ConnectionFile, options: list[str]
) -> None:
    """Start the first worker with what is known already, then everything else.

    Args:
        fast: the settings, where nothing is configured; None otherwise.
        configuration: the configuration, where there is one; None otherwise.
        connection: the connection file.
        options: options for IPython.
    """
    from capsule_durable.sandbox.setup import set_up
    from capsule_durable.workers.launcher import Launcher

    settings: FastDefaults | Settings
    if fast is not None:
        settings, refusal = fast, ""
    else:
        assert configuration is not None
        settings, refusal = configuration.settings, configuration.problem
    sandbox, session = set_up(
        settings.profile,
        connection.path,
        Path(settings.home),
        os.environ,
        settings.rules,
        settings.python,
        has_checkpoints=settings.checkpoints != "off",
    )
    launcher = Launcher(
        settings.python,
        settings.drain_timeout,
        sandbox,
        session,
        settings.pass_environment,
        settings.limits,
        {CONNECTION_FILE: str(connection.path.absolute()), OPTIONS: json.dumps(options)},
        refusal and f"{refusal}\nCorrect the configuration, then restart the kernel.",
    )
    try:
        first = launcher.launch()
    except OSError:
        first = None  # tried again, and reported, when there is a client to tell

    _hide_memory()
    defer("aiohttp", "IPython", "ipykernel", "jupyter_client")
    from capsule_kernel.jupyter.bound_sockets import BoundSockets

    endpoints = BoundSockets(connection.values)
    with without_plugins():
        from capsule_kernel.app import run

    run(endpoints, connection, configuration or _read_configuration({}), launcher, first)


def _profiles(options: Arguments) -> tuple[str | None, list[str]]:
    """Return the isolation that is asked for, and options for IPython: its profiles have names, too.

    Raises:
        CapsuleError: there is neither of that name.
    """
    from capsule_durable.errors import CapsuleError
    from capsule_durable.sandbox.policy import PROFILES

    isolation, chosen = None, []
    for name in options.profiles:
        if name in PROFILES:
            isolation = name
            continue
        told = [word.partition("=")[2] for word in options.ipython if word.startswith(_IPYTHON_DIRECTORY)]
        folder = Path([os.environ.get("IPYTHONDIR") or "~/.ipython", *told][-1]).expanduser()
        if name != "default" and not any((where / f"profile_{name}").is_dir() for where in (Path.cwd(), folder)):
            raise CapsuleError(
                f'No profile named "{name}" (choose from {", ".join(PROFILES)}). IPython has no'
                f" {folder / f'profile_{name}'} either; `ipython profile create {name}` creates it."
            )
        chosen.append(f"--BaseIPythonApplication.profile={name}")
    return isolation, chosen


def _hide_memory() -> None:
    """Have this process's memory, environment and descriptors kept from other programs of this user, and no dump made.

    The key and passwords are in it, so that no other process may read it, in any profile (``PR_SET_DUMPABLE``).
    """
    import ctypes  # not before the first worker is on its way

    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
