"""The settings: their names, types, defaults and descriptions."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import ByteSize, Field, field_validator

from capsule_durable.config.limits import Limits, PathRules, default_memory_limit, default_process_limit
from capsule_durable.config.paths import data
from capsule_worker.protocol.model import Model


class Settings(Model):
    """Everything that can be configured.

    Sizes are numbers of bytes, or texts such as ``8GB``. Durations are in seconds, those that end in ``_days`` in days.
    """

    engine: str = Field(
        "embedded:",
        pattern=r"^[a-z][a-z0-9+.-]*:",
        description="The engine that stores promises, as a URL: embedded: (a file in `home`) or memory: (the kernel's"
        " memory)",
    )
    python: str = Field(
        default_factory=lambda: sys.executable,
        description="The Python interpreter that runs cells",
    )
    profile: Literal["notebook", "restricted", "open"] = Field(
        "notebook",
        description="The sandbox of cells: notebook (they cannot reach the kernel), restricted (also no network, and"
        " they write only in the working directory), or open (no sandbox)",
    )
    pass_environment: tuple[str, ...] = Field(
        (),
        description="Environment variables that cells get besides the usual ones, for example OPENAI_API_KEY or AWS_*",
    )
    memory_limit: ByteSize | None = Field(
        None,
        ge=0,
        description="Memory that cells and their processes may use, for example 8GB; 0 for no limit (default: 85 % of"
        " the machine's)",
    )
    process_limit: int | None = Field(
        None,
        ge=0,
        description="Number of processes and threads that cells may have; 0 for no limit (default: 256 per processor,"
        " at least 4096)",
    )
    file_size_limit: ByteSize | None = Field(
        None, gt=0, description="Largest size of a file that a cell writes, for example 20GB"
    )
    open_file_limit: int | None = Field(None, ge=64, description="Number of files that one process may have open")
    cpu_limit: float | None = Field(
        None, gt=0, description="Seconds of processor time that a cell and its processes may use"
    )
    hidden_paths: tuple[str, ...] | None = Field(
        None,
        description="Files and directories that are hidden from cells (default: none; in the profile restricted, those"
        " in which programs keep keys, for example ~/.ssh)",
    )
    readable_paths: tuple[str, ...] = Field((), description="Parts of the hidden paths and of /run that cells may read")
    writable_paths: tuple[str, ...] = Field(
        (), description="Paths outside the working directory that cells may write to"
    )
    home: str = Field(
        default_factory=lambda: str(data(os.environ)),
        description="The directory for recorded results, history and checkpoints",
    )
    checkpoints: Literal["background", "sync", "off"] = Field(
        "background",
        description="When variables are saved: background (while the next cell runs), sync (before the result of a cell"
        " is sent) or off",
    )
    checkpoint_count: int = Field(
        30, ge=1, description="Number of checkpoints without a name that are kept per session"
    )
    checkpoint_days: float | None = Field(14.0, gt=0, description="Days for which checkpoints without a name are kept")
    checkpoint_size: ByteSize | None = Field(
        ByteSize(20 * 10**9), gt=0, description="Disk space that the checkpoints of a session may use, for example 20GB"
    )
    history_days: float = Field(
        30.0, ge=0, description="Days for which cells and their outputs are kept; 0 turns the history off"
    )
    history_size: ByteSize = Field(
        ByteSize(2 * 10**9), gt=0, description="Disk space that the history may use, for example 2GB"
    )
    resume: Literal["offer", "auto", "never"] = Field(
        "offer",
        description="What to do with the variables of a notebook's last session: offer to restore them, restore them"
        " (auto), or neither (never)",
    )
    spare_worker: bool = Field(default=True, description="Keep a second worker ready that replaces one that dies")
    execution_timeout: float | None = Field(None, gt=0, description="Seconds that a cell may run")
    run_id: str | None = Field(
        None,
        min_length=1,
        description="The id of a run: the notebook can be continued under this id after an interruption",
    )
    retries: int = Field(
        0, ge=0, description="How often a cell is run again if its worker died or its code raised an exception"
    )
    retry_delay: float = Field(
        1.0, ge=0, description="Seconds before the first retry; each further delay is twice as long"
    )
    on_input: Literal["fail", "wait"] = Field(
        "fail", description="What input() does if the client cannot ask the user: fail, or wait for `capsule answer`"
    )
    input_timeout: float = Field(30 * 86400.0, gt=0, description="Seconds that an input may stay unanswered")
    request_timeout: float = Field(10.0, gt=0, description="Seconds that completion, inspection and history may take")
    drain_timeout: float = Field(30.0, gt=0, description="Seconds that delivering the output of a cell may take")
    shutdown_timeout: float = Field(5.0, gt=0, description="Seconds that a worker may take to exit")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "WARNING", description="The lowest level of messages that the kernel logs"
    )

    @field_validator("pass_environment", mode="before")
    @classmethod
    def _split_names(cls, names: Any) -> Any:
        """Split the text of an environment variable at spaces and commas."""
        return tuple(names.replace(",", " ").split()) if isinstance(names, str) else names

    @field_validator("hidden_paths", "readable_paths", "writable_paths", mode="before")
    @classmethod
    def _split_paths(cls, paths: Any) -> Any:
        """Split the text of an environment variable at colons, as in PATH."""
        return tuple(filter(None, paths.split(os.pathsep))) if isinstance(paths, str) else paths

    @property
    def limits(self) -> Limits:
        """The limits of a worker and its processes."""
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
        """The exceptions to the profile's rules for paths."""
        return PathRules(self.hidden_paths, self.readable_paths, self.writable_paths)

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: str) -> str:
        """Make the path absolute: cells may change the working directory."""
        return str(Path(home).expanduser().absolute())
