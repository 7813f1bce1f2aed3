"""Writes, finds and removes the kernelspecs that register this kernel with Jupyter.

A kernelspec starts the front with ``-E -P``: without these flags, ``PYTHONPATH``, ``PYTHONSTARTUP`` and similar
variables, and the folder of the notebook, could shadow the front's own modules. A ``random.py`` next to a notebook must
not be imported by the process that has the keys and the store. This does not restrict cells: the worker is started
without these flags.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_core.paths import jupyter_data_dir

from capsule_durable.errors import CapsuleError

#: The name of the kernelspec that is installed with the distribution.
NAME = "capsule"
_PACKAGE = Path(__file__).parents[1]
_IN_WHEEL = _PACKAGE / "kernelspec"
#: The template and the logos. A wheel carries them in the package; a source tree has them next to ``kernel/``.
RESOURCES = _IN_WHEEL if _IN_WHEEL.is_dir() else _PACKAGE.parents[1] / "kernelspec"

_STARTS_FRONT = ("-m", "capsule_kernel")
# Jupyter's rule (jupyter_client.kernelspec), which also accepts two names that mean directories.
_VALID_NAME = re.compile(r"[a-z0-9._\-]+", re.IGNORECASE)
_DIRECTORIES = (".", "..")


class KernelspecError(CapsuleError):
    """A kernelspec cannot be written or removed. The message says why, and what to do."""


class InvalidName(KernelspecError):
    """Jupyter does not accept this name for a kernel."""


@dataclass(frozen=True)
class Kernelspec:
    """A kernelspec of this kernel that is installed."""

    name: str
    directory: Path
    display_name: str
    argv: tuple[str, ...]

    @property
    def front(self) -> str:
        """The interpreter that runs the front; Jupyter replaces a bare ``python`` by its own."""
        return sys.executable if re.fullmatch(r"python[0-9.]*", self.argv[0]) else self.argv[0]

    @property
    def python(self) -> str | None:
        """The interpreter in which cells run; None if the kernelspec leaves it to the configuration."""
        return self.argv[self.argv.index("--python") + 1] if "--python" in self.argv[:-1] else None


def check_name(name: str) -> str:
    """Return a kernel's name in the form that Jupyter uses: in small letters.

    Args:
        name: the name.

    Raises:
        InvalidName: Jupyter does not accept it.
    """
    if name in _DIRECTORIES or not _VALID_NAME.fullmatch(name):
        raise InvalidName(
            f'"{name}" cannot be the name of a kernel: use ASCII letters and digits, hyphen, period and underscore.'
        )
    return name.lower()


def kernels_directory(*, sys_prefix: bool = False, prefix: Path | None = None) -> Path:
    """Return the directory that contains kernelspecs.

    Args:
        sys_prefix: that of this Python environment, instead of this user's.
        prefix: that of this prefix, instead of this user's.
    """
    if prefix is None and not sys_prefix:
        return Path(jupyter_data_dir()) / "kernels"
    return (prefix or Path(sys.prefix)).expanduser().absolute() / "share" / "jupyter" / "kernels"


def contents(
    name: str = NAME, display_name: str | None = None, python: Path | None = None, profile: str | None = None
) -> dict[str, Any]:
    """Return the content of ``kernel.json``.

    Args:
        name: name of the kernelspec; part of the default display name, so that two kernels can be distinguished.
        display_name: the name that Jupyter shows; None for the default.
        python: absolute path of the interpreter in which cells run; None leaves it to the configuration.
        profile: isolation of the worker; None leaves it to the configuration.
    """
    spec: dict[str, Any] = json.loads((RESOURCES / "kernel.json").read_text(encoding="utf-8"))
    # Whichever Jupyter starts it, the front runs in the environment that it was installed from.
    spec["argv"][0] = sys.executable
    if python is not None:
        spec["argv"] += ["--python", str(python)]
    if profile is not None:
        spec["argv"] += ["--profile", profile]
    if display_name is not None:
        spec["display_name"] = display_name
    elif name != NAME:
        spec["display_name"] = f"Python 3 (Capsule: {name})"
    return spec


def write(kernels: Path, name: str, spec: dict[str, Any], *, force: bool = False) -> Path:
    """Write a kernelspec and return its directory. It replaces a kernelspec of Capsule that has the same name.

    Args:
        kernels: the directory that contains kernelspecs.
        name: the name, in the form that ``check_name`` returns.
        spec: the content of ``kernel.json``.
        force: whether to replace a kernelspec of another kernel, too.

    Raises:
        KernelspecError: another kernel has that name, or the directory cannot be written.
    """
    destination = kernels / name
    if not force and os.path.lexists(destination) and read(destination) is None:
        raise KernelspecError(
            f"{destination} is not a kernelspec of Capsule. Choose another --name, or use --force to overwrite."
        )
    # It gets its name when it is complete: Jupyter never sees half a kernelspec.
    staging = kernels / f".{name}.{os.getpid()}"
    try:
        staging.mkdir(parents=True)
        try:
            for logo in sorted(RESOURCES.glob("logo-*")):
                shutil.copyfile(logo, staging / logo.name)
            text = json.dumps(spec, indent=2, ensure_ascii=False) + "\n"
            (staging / "kernel.json").write_text(text, encoding="utf-8")
            if os.path.lexists(destination):
                _delete(destination)
            staging.rename(destination)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise KernelspecError(
            f"Cannot write {destination}: {error.strerror}. Choose another place with --user, --sys-prefix or --prefix."
        ) from error
    return destination


def read(directory: Path) -> Kernelspec | None:
    """Return the kernelspec in a directory; None if it contains none of this kernel.

    Args:
        directory: the directory.
    """
    try:
        spec = json.loads((directory / "kernel.json").read_text(encoding="utf-8"))
        argv = tuple(map(str, spec["argv"]))
        display_name = str(spec.get("display_name", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if _STARTS_FRONT not in pairwise(argv):
        return None
    return Kernelspec(directory.name.lower(), directory, display_name, argv)


def search_path(prefix: Path | None = None) -> list[Path]:
    """Return the directories in which Jupyter looks for kernelspecs; the first that has a name wins.

    Args:
        prefix: only the directory of this prefix.
    """
    if prefix is not None:
        return [kernels_directory(prefix=prefix)]
    return [Path(directory) for directory in KernelSpecManager().kernel_dirs]


def find(path: Iterable[Path]) -> list[Kernelspec]:
    """Return the kernelspecs of this kernel, including those that an earlier one of the same name hides.

    Args:
        path: directories that contain kernelspecs.
    """
    # Two entries of Jupyter's path can be one directory.
    directories = dict.fromkeys(entry for kernels in path for entry in _entries(kernels))
    return [spec for spec in map(read, directories) if spec is not None]


def seen_by_jupyter(name: str) -> Path | None:
    """Return the directory of the kernelspec that Jupyter uses for a name; None if it finds none.

    Args:
        name: the name, in small letters.
    """
    for kernels in search_path():
        for entry in _entries(kernels):
            if entry.name.lower() == name and (entry / "kernel.json").is_file():
                return entry
    return None


def names() -> list[str]:
    """Return the names of all kernels that Jupyter finds, also those of other kernels."""
    return sorted(KernelSpecManager().find_kernel_specs())


def remove(spec: Kernelspec) -> None:
    """Remove a kernelspec.

    Args:
        spec: the kernelspec.

    Raises:
        KernelspecError: the directory cannot be removed.
    """
    try:
        _delete(spec.directory)
    except OSError as error:
        raise KernelspecError(f"Cannot remove {spec.directory}: {error.strerror}.") from error


def _entries(kernels: Path) -> list[Path]:
    try:
        return sorted(kernels.iterdir())
    except OSError:
        return []


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
