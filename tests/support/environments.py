"""Virtual environments of several Pythons for cells to run in. They stay where `make` keeps its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support import ROOT

WORKER = ROOT / "worker"
#: What the worker stands on.
REQUIRED: list[str] = tomllib.loads((WORKER / "pyproject.toml").read_text())["project"]["dependencies"]


def environment(name: str, version: str, *installs: list[str], below: Path = ROOT / ".venvs") -> Path:
    """Return the interpreter of a virtual environment, which is made if it does not exist, and updated.

    Args:
        name: of the environment.
        version: of its Python, such as ``3.10``.
        installs: what is installed into it, in several steps.
        below: where it is kept.
    """
    python = below / name / "bin" / "python"
    if not _is(python, version):
        subprocess.run([_find(version), "-m", "venv", "--clear", "--without-pip", below / name], check=True)
    done = below / name / ".installed"
    if not done.exists() or done.stat().st_mtime < (WORKER / "pyproject.toml").stat().st_mtime:
        for packages in installs:
            _install(python, packages)
        done.touch()
    return python


def with_worker(version: str) -> Path:
    """Return the interpreter of an environment in which cells can run."""
    return environment(f"cells-{version}", version, ["-e", str(WORKER)])


def with_the_oldest(version: str) -> Path:
    """Return the interpreter of one that has the oldest of all that the worker accepts."""
    return environment(f"cells-{version}-oldest", version, ["-e", str(WORKER), *(_oldest(one) for one in REQUIRED)])


def with_ipython(release: str, version: str) -> Path:
    """Return the interpreter of one whose IPython the worker does not accept."""
    others = [one for one in REQUIRED if not one.startswith("ipython")]
    name = f"cells-{version}-ipython-{release}"
    return environment(name, version, ["--no-deps", "-e", str(WORKER)], [*others, f"ipython=={release}"])


def _oldest(requirement: str) -> str:
    return requirement.replace(">=", "==")


def _find(version: str) -> str:
    """Return a Python of a version; names in PATH may be a version manager's that run nothing."""
    managed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for candidate in (sys.executable, shutil.which(f"python{version}"), *managed):
        if candidate is not None and _is(Path(candidate), version):
            return str(candidate)
    pytest.skip(f"there is no Python {version} here")


def _is(python: Path, version: str) -> bool:
    """Tell whether a program is a Python of a version that can make environments."""
    code = f"import sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '{version}')"
    try:
        return not subprocess.run([python, "-c", code], capture_output=True, check=False).returncode
    except OSError:
        return False


def _install(python: Path, packages: list[str]) -> None:
    """Install packages; by pip where only pip knows the way to a package index."""
    uv: list[str | Path] = [sys.executable, "-m", "uv", "pip", "install", "--python", python]
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python, "install"]
    told = []
    for command in (uv, pip):
        done = subprocess.run(
            [*command, *packages], capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1"}
        )
        if done.returncode == 0:
            return
        told.append(done.stderr)
    pytest.fail("\n".join(told))
