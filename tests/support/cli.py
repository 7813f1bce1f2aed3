"""The command `capsule`, run in the process of the tests: starting one takes longer than most commands do."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from capsule_kernel.cli.main import main

#: The command as a program, for what only a process of its own shows.
CAPSULE = str(Path(sys.executable).with_name("capsule"))


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed for programs."""
        return json.loads(self.out)


def capsule(home: Path, *arguments: str, text: str = "", **variables: str) -> Done:
    """Run the command.

    Args:
        home: the directory for data.
        arguments: of the command.
        text: its standard input.
        variables: more of the environment.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, command_environment(home, **variables), clear=True),
        mock.patch.object(sys, "stdin", io.StringIO(text)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = main(list(arguments))
    return Done(status, out.getvalue(), err.getvalue())


def command_environment(home: Path, **variables: str) -> Mapping[str, str]:
    """Return the environment of a command: that of the tests, with wide lines.

    Args:
        home: the directory for data.
        variables: more of them.
    """
    return {**os.environ, "CAPSULE_HOME": str(home), "COLUMNS": "200", **variables}
