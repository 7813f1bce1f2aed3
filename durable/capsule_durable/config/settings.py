"""The configuration, and where each value of it comes from.

Read in this order, the later wins: defaults, ``capsule.toml`` (the user's, then the project's), ``CAPSULE_*``
variables, the kernelspec's arguments.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ByteSize, Field, ValidationError, field_validator

from capsule_durable.config.fast_defaults import ENVIRONMENT_PREFIX, FILE_NAME
from capsule_durable.config.limits import Limits, PathRules, default_memory_limit, default_process_limit
from capsule_durable.config.paths import configuration, data
from capsule_durable.errors import CapsuleError
from capsule_worker.protocol.model import Model


class ConfigurationError(CapsuleError):
    """A setting is unknown or has a wrong value; the message says which, and where it was set."""


class Settings(Model):
    """Everything that can be configured. Times are in seconds."""

    engine: str = Field(
        "embedded:",
        pattern=r"^[a-z][a-z0-9+.-]*:",
        description="The engine that stores promises, as a URL: embedded: (a file in `home`) or memory: (the kernel's"
        " memory)",
    )
    python: str = Field(
        default_factory=lambda: sys.executable,
        description="The interpreter of the environment in which cells run",
    )
    profile: Literal["notebook", "restricted", "open"] = Field(
        "notebook",
        description="Isolation of cells: notebook (the kernel is out of their reach), restricted (also no network, and"
        " nothing is written but in the working directory), or open (none)",
    )
    pass_environment: tuple[str, ...] = Field(
        (), description="Variables that cells get beside the usual ones, as OPENAI_API_KEY or AWS_* (profile notebook)"
    )
    memory_limit: ByteSize | None = Field(
        None,
        ge=0,
        description="What a cell and all that it starts may take, as 8GB; 0 for all there is (default: 85 %)",
    )
    process_limit: int | None = Field(
        None,
        ge=0,
        description="How many processes and threads cells may have; 0 for any number (default: 256 a processor, and"
        " 4096 at least)",
    )
    file_size_limit: ByteSize | None = Field(None, gt=0, description="How large a file may get that a cell writes")
    open_file_limit: int | None = Field(None, ge=64, description="How many files a process of a cell may have open")
    cpu_limit: float | None = Field(
        None, gt=0, description="How many seconds of processor time a cell may use, with all that it starts"
    )
    hidden_paths: tuple[str, ...] | None = Field(
        None,
        description="Files and directories that cells do not see (default: none; in the profile restricted those in"
        " which programs keep keys, as ~/.ssh)",
    )
    readable_paths: tuple[str, ...] = Field((), description="What they may read of that, and of /run")
    writable_paths: tuple[str, ...] = Field((), description="What they may change beside the working directory")
    home: str = Field(
        default_factory=lambda: str(data(os.environ)),
        description="The directory for promises, checkpoints and their catalogue",
    )
    checkpoints: Literal["background", "sync", "off"] = Field(
        "background",
        description="When variables are saved: beside the next cell, before a cell's result is sent, or never",
    )
    checkpoint_count: int = Field(30, ge=1, description="How many checkpoints without a name are kept")
    checkpoint_days: float | None = Field(14.0, gt=0, description="For how many days they are kept")
    checkpoint_size: int | None = Field(20 * 10**9, gt=0, description="How many bytes a session's may take")
    history_days: float = Field(
        30.0, ge=0, description="How many days cells and their outputs are kept; 0 turns the history off"
    )
    history_size: int = Field(2 * 10**9, gt=0, description="How many bytes the history may take")
    resume: Literal["offer", "auto", "never"] = Field(
        "offer", description="When a notebook is opened again: say that its variables can come back, bring them, or not"
    )
    spare_worker: bool = Field(default=True, description="Keep a second worker warm, for when the first one dies")
    execution_timeout: float | None = Field(None, gt=0, description="How long a cell may run")
    run_id: str | None = Field(
        None, min_length=1, description="Under which id a notebook is executed, so that it can go on where it stopped"
    )
    retries: int = Field(0, ge=0, description="How often a cell is tried again whose worker died or whose code raised")
    retry_delay: float = Field(1.0, ge=0, description="How long to wait before that; each time twice as long")
    on_input: Literal["fail", "wait"] = Field(
        "fail", description="What input() does where the client cannot ask: fail, or wait for `capsule answer`"
    )
    input_timeout: float = Field(30 * 86400.0, gt=0, description="How long an input may stay unanswered")
    request_timeout: float = Field(10.0, gt=0, description="How long completion, inspection and history may take")
    drain_timeout: float = Field(30.0, gt=0, description="How long a cell's output may take to be delivered")
    shutdown_timeout: float = Field(5.0, gt=0, description="How long a worker may take to leave")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("WARNING", description="What the kernel logs")

    @field_validator("pass_environment", mode="before")
    @classmethod
    def _listed(cls, names: Any) -> Any:
        """In a variable names are a text."""
        return tuple(names.replace(",", " ").split()) if isinstance(names, str) else names

    @field_validator("hidden_paths", "readable_paths", "writable_paths", mode="before")
    @classmethod
    def _path(cls, paths: Any) -> Any:
        """In a variable paths are a text, as in PATH."""
        return tuple(filter(None, paths.split(os.pathsep))) if isinstance(paths, str) else paths

    @property
    def limits(self) -> Limits:
        """What a worker and all that it starts may take."""
        memory = self.memory_limit if self.memory_limit is not None else default_memory_limit()
        processes = self.process_limit if self.process_limit is not None else default_process_limit()
        return Limits(
            memory or None,
            processes or None,
            self.file_size_limit,
            self.open_file_limit,
            self.execution_timeout,
            self.cpu_limit,
        )

    @property
    def rules(self) -> PathRules:
        """What cells may see and change beside what the profile says."""
        return PathRules(self.hidden_paths, self.readable_paths, self.writable_paths)

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: str) -> str:
        """Cells may change the directory that a relative path begins at."""
        return str(Path(home).expanduser().absolute())


def load(
    environ: Mapping[str, str],
    arguments: Mapping[str, Any],
    directory: Path,
    user_directory: Path | None = None,
) -> tuple[Settings, dict[str, str]]:
    """Return the settings in force, and for each of them where its value comes from.

    Args:
        environ: the environment.
        arguments: settings given on the command line; None means not given.
        directory: where the project's ``capsule.toml`` would be.
        user_directory: where the user's would be; by default the usual one for configuration.

    Raises:
        ConfigurationError: a value is wrong, a setting unknown, or a file unreadable.
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Settings.model_fields, "default")
    for origin, layer in _layers(environ, arguments, directory, user_directory):
        for name, value in layer.items():
            values[name] = value
            origins[name] = origin
    try:
        return Settings.model_validate(values), origins
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, item['loc']))} ({origins.get(str(item['loc'][0]), 'unknown setting')}): {item['msg']}"
            for item in error.errors()
        ]
        raise ConfigurationError("wrong configuration: " + "; ".join(problems)) from error


def _layers(
    environ: Mapping[str, str], arguments: Mapping[str, Any], directory: Path, user_directory: Path | None
) -> list[tuple[str, dict[str, Any]]]:
    if user_directory is None:
        user_directory = configuration(environ)
    layers = [
        (str(path), _read(path)) for path in (user_directory / FILE_NAME, directory / FILE_NAME) if path.is_file()
    ]
    for name in Settings.model_fields:
        variable = ENVIRONMENT_PREFIX + name.upper()
        if variable in environ:
            layers.append((variable, {name: environ[variable]}))
    given = {name: value for name, value in arguments.items() if value is not None}
    layers.append(("argument", given))
    return layers


def _read(path: Path) -> dict[str, Any]:
    import tomllib  # most people have no such file

    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as error:
        msg = f"cannot read {path}: {error}"
        raise ConfigurationError(msg) from error
