"""The settings of a kernel that is not configured, without the model of all settings.

The first worker is started with them, because importing and building that model takes as long as starting the worker.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from capsule_durable.config import paths as home
from capsule_durable.config.limits import Limits, PathRules, default_memory_limit, default_process_limit

ENVIRONMENT_PREFIX = "CAPSULE_"
FILE_NAME = "capsule.toml"


class FastDefaults(NamedTuple):
    """The settings that a worker is started with, as in ``capsule_durable.config.settings.Settings``.

    Args:
        home: the directory for data.
        limits: the limits of a worker.
        python: the interpreter that runs cells.
        profile: the sandbox of cells.
        pass_environment: environment variables that cells get besides the usual ones.
        drain_timeout: seconds that delivering the output of a cell may take.
        checkpoints: when variables are saved.
        rules: exceptions to the profile's rules for paths.
    """

    home: str
    limits: Limits
    python: str = sys.executable
    profile: Literal["notebook"] = "notebook"
    pass_environment: tuple[str, ...] = ()
    drain_timeout: float = 30.0
    checkpoints: Literal["background"] = "background"
    rules: PathRules = PathRules()


def load_fast_defaults(
    environ: Mapping[str, str], arguments: Mapping[str, Any], directory: Path
) -> FastDefaults | None:
    """Return the settings if at most the home directory is configured; None if another setting is, or may be.

    Args:
        environ: the environment.
        arguments: settings given on the command line; None means not given.
        directory: the directory that may have the project's ``capsule.toml``.
    """
    named = any(name.startswith(ENVIRONMENT_PREFIX) and name != home.VARIABLE for name in environ)
    given = any(value is not None for value in arguments.values())
    folders = (directory, home.configuration(environ))
    if named or given or any((folder / FILE_NAME).is_file() for folder in folders):
        return None
    return FastDefaults(
        str(home.home(environ)), Limits(default_memory_limit() or None, default_process_limit() or None)
    )
