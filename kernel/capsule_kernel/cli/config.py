"""``capsule config``, and the directory of data that all commands use."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from capsule_kernel.console.json_output import AsJson, print_json

if TYPE_CHECKING:
    from capsule_durable.config.settings import Settings

# Each command imports what it needs.


def add_to(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: where to add it.
    """
    app.command(epilog="For example: capsule config; capsule config --json")(config)


def config(as_json: AsJson = False) -> None:
    """Print the effective settings in this directory and their origins, one line each."""
    from capsule_durable.config.sources import load
    from capsule_durable.text import visible

    found, origins = load(os.environ, {}, Path.cwd())
    values = effective(found)
    if as_json:
        print_json({"settings": {name: {"value": v, "origin": origins[name]} for name, v in values.items()}}, "config")
        return
    width = max(map(len, values))
    for name, value in values.items():
        print(visible(f"{name:<{width}} = {_text(name, value)}  ({origins[name]})"))


def effective(settings: Settings) -> dict[str, Any]:
    """Return the values of all settings in their JSON form; limits that depend on the machine are resolved.

    Args:
        settings: the settings.
    """
    limits = settings.limits
    return settings.model_dump(mode="json") | {
        "memory_limit": limits.memory or 0,
        "process_limit": limits.processes or 0,
    }


def _text(name: str, value: Any) -> str:
    """Return a value of a setting for people; sizes have units."""
    if value == 0 and name in ("memory_limit", "process_limit"):
        return "unlimited"
    if isinstance(value, int) and name.endswith(("_size", "memory_limit", "size_limit")):
        return f"{value / 1e9:g}GB"
    return "none" if value in (None, []) else json.dumps(value)


@contextlib.contextmanager
def use_home(directory: Path) -> Iterator[None]:
    """Use another directory of data in this command and in the processes that it starts.

    Args:
        directory: the directory; it need not exist.
    """
    from capsule_durable.config.paths import VARIABLE

    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(directory.expanduser().absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def settings() -> Settings:
    """Return the settings that are effective in this directory.

    Raises:
        ConfigurationError: the settings cannot be used.
    """
    from capsule_durable.config.sources import load

    return load(os.environ, {}, Path.cwd())[0]


def home() -> Path:
    """Return the directory of data: that of ``--home``, or else of the setting ``home``.

    Raises:
        ConfigurationError: the settings cannot be used.
    """
    return Path(settings().home)
