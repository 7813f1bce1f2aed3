"""Checks whether cells can run in a Python: its version, and the ``capsule_worker`` in it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capsule_durable.errors import CapsuleError
from capsule_worker.protocol import PROTOCOL_VERSION

#: The oldest Python that ``capsule-worker`` supports.
OLDEST = (3, 10)
#: How long the interpreter may take to import the worker, in seconds.
TIMEOUT = 60.0

_VERSION = importlib.metadata.version("capsule-kernel")
_MARK = "capsule-probe:"
# Runs in any Python, so it is written for any Python. The working directory must not count as installed.
_PROBE = f"""
import sys
if sys.path and not sys.path[0]:
    del sys.path[0]
import json
answer = {{"version": list(sys.version_info[:3])}}
if sys.version_info[:2] >= {OLDEST}:
    from importlib.util import find_spec
    answer["pip"] = find_spec("pip") is not None
    answer["installed"] = find_spec("capsule_worker") is not None
    if answer["installed"]:
        try:
            import capsule_worker
            answer["worker"] = getattr(capsule_worker, "__version__", None)
            from capsule_worker.protocol import PROTOCOL_VERSION
            answer["protocol"] = PROTOCOL_VERSION
            import capsule_worker.message_loop
        except Exception as error:
            answer["error"] = type(error).__name__ + ": " + str(error)
print("\\n{_MARK}" + json.dumps(answer))
"""


class InterpreterUnusable(CapsuleError):
    """Cells cannot run in this Python.

    Args:
        problem: what is wrong with it.
        fix: the command that fixes it; empty if no command does.
    """

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(f"{problem}\nTo fix it:\n    {fix}" if fix else problem)
        self.problem = problem
        self.fix = fix


@dataclass(frozen=True)
class Interpreter:
    """A Python in which cells can run."""

    path: Path
    version: str


def locate(python: str) -> Path:
    """Return the absolute path of an interpreter given as a path or as a name in PATH.

    Symbolic links stay: the ``python`` of a virtual environment is one, and means another place when followed.

    Args:
        python: a path, or a name in PATH.

    Raises:
        InterpreterUnusable: there is no such file, or it cannot be run.
    """
    found = shutil.which(python) if os.sep not in python else None
    path = Path(os.path.abspath(Path(found or python).expanduser()))  # noqa: PTH100  # resolve() follows links
    if not os.access(path, os.F_OK):
        raise InterpreterUnusable(f"{path} does not exist")
    if path.is_dir():
        inside = path / "bin" / "python"
        hint = f"; did you mean {inside}?" if inside.exists() else ""
        raise InterpreterUnusable(f"{path} is a directory, not a Python interpreter{hint}")
    if not os.access(path, os.X_OK):
        raise InterpreterUnusable(f"{path} is not executable")
    return path


def check(
    python: str, timeout: float = TIMEOUT, prefix: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Interpreter:
    """Return the interpreter if cells can run in it.

    Args:
        python: a path, or a name in PATH.
        timeout: how long it may take to answer, in seconds.
        prefix: the program behind which it is run, with its arguments: that of the sandbox, where cells have been.
        environ: its environment; by default this process's.

    Raises:
        InterpreterUnusable: it is missing or broken, too old, or has no ``capsule_worker`` that matches this front.
    """
    path = locate(python)
    answer = _ask(path, timeout, prefix, environ)
    version = ".".join(map(str, answer["version"]))
    if tuple(answer["version"][:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise InterpreterUnusable(f"{path} is Python {version}; cells need Python {oldest} or newer")
    fix = install_command(path, pip=answer["pip"])
    if not answer["installed"]:
        raise InterpreterUnusable(f"{path} (Python {version}) has no capsule-worker", fix)
    worker, protocol = answer.get("worker"), answer.get("protocol")
    if worker != _VERSION:
        raise InterpreterUnusable(
            f"{path} (Python {version}) has capsule-worker {worker or 'of an unknown version'}; "
            f"this is capsule-kernel {_VERSION}, and the two must match",
            fix,
        )
    if "error" in answer:
        raise InterpreterUnusable(
            f"{path} (Python {version}) has a capsule-worker that cannot be imported: {answer['error']}", fix
        )
    if protocol != PROTOCOL_VERSION:
        raise InterpreterUnusable(
            f"{path} (Python {version}) has a capsule-worker that speaks protocol {protocol}; "
            f"this front speaks protocol {PROTOCOL_VERSION}",
            fix,
        )
    return Interpreter(path, version)


def install_command(path: Path, *, pip: bool) -> str:
    """Return the command that installs the worker that matches this front.

    Args:
        path: the interpreter.
        pip: whether it has pip; an environment made by uv has none.
    """
    python, requirement = shlex.quote(str(path)), f"capsule-worker=={_VERSION}"
    if pip:
        return f"{python} -m pip install {requirement}"
    return f"uv pip install --python {python} {requirement}"


def _ask(path: Path, timeout: float, prefix: Sequence[str], environ: Mapping[str, str] | None) -> dict[str, Any]:
    # -E: a PYTHONPATH of this terminal is not what a Jupyter server will have.
    try:
        process = subprocess.Popen(  # noqa: S603  # the interpreter that the user chose
            [*prefix, path, "-E", "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            env=environ,
        )
    except OSError as error:
        raise InterpreterUnusable(f"{path} cannot be started: {error.strerror}") from error
    with process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise InterpreterUnusable(f"{path} did not answer within {timeout:g} seconds") from error
            raise
    for line in reversed(out.splitlines()):
        if line.startswith(_MARK):
            answer: dict[str, Any] = json.loads(line.removeprefix(_MARK))
            return answer
    said = (err.strip() or out.strip() or f"nothing, and left with status {process.returncode}").splitlines()[-1]
    raise InterpreterUnusable(f"{path} is not a working Python interpreter; it said: {said[:200]}")
