"""Writes, finds and removes the kernelspecs by which Jupyter knows this kernel.

A kernelspec starts the front with ``-E -P``: without them the variables ``PYTHONPATH``, ``PYTHONSTARTUP`` and their
like, and the folder of the notebook, would put modules in the way of the front's own. A ``random.py`` beside a
notebook must not be imported by the process that holds the keys and the store. Cells are not restricted by this: the
worker is started without these flags.
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

#: The name of the kernelspec that installing the distribution brings.
NAME = "capsule"
_PACKAGE = Path(__file__).parents[1]
_IN_WHEEL = _PACKAGE / "kernelspec"
#: The template and the logos. A wheel carries them in the package; a source tree has them next to ``kernel/``.
RESOURCES = _IN_WHEEL if _IN_WHEEL.is_dir() else _PACKAGE.parents[1] / "kernelspec"

_STARTS_FRONT = ("-m", "capsule_kernel")
# Jupyter's rule (jupyter_client.kernelspec). It would also let through the two names of directories that are no names.
_VALID_NAME = re.compile(r"[a-z0-9._\-]+", re.IGNORECASE)
_DIRECTORIES = (".", "..")


class KernelspecError(CapsuleError):
    """A kernelspec cannot be written or removed; the message says why, and what to do."""


class InvalidName(KernelspecError):
    """Jupyter does not accept this as a kernel's name."""


@dataclass(frozen=True)
class Kernelspec:
    """A kernelspec of this kernel, as found."""

    name: str
    directory: Path
    display_name: str
    argv: tuple[str, ...]

    @property
    def front(self) -> str:
        """The interpreter that runs the front; Jupyter takes a bare ``python`` to be its own."""
        return sys.executable if re.fullmatch(r"python[0-9.]*", self.argv[0]) else self.argv[0]

    @property
    def python(self) -> str | None:
        """The interpreter in which cells run, if the kernelspec says so; otherwise the configuration does."""
        return self.argv[self.argv.index("--python") + 1] if "--python" in self.argv[:-1] else None


def check_name(name: str) -> str:
    """Return a kernel's name as Jupyter writes it, in small letters.

    Raises:
        InvalidName: Jupyter does not accept it.
    """
    if name in _DIRECTORIES or not _VALID_NAME.fullmatch(name):
        raise InvalidName(
            f"{name!r} cannot be the name of a kernel: use letters and digits of ASCII, hyphen, period and underscore"
        )
    return name.lower()


def kernels_directory(*, sys_prefix: bool = False, prefix: Path | None = None) -> Path:
    """Return the directory that holds kernelspecs: of a prefix, of this Python, or else of this user."""
    if prefix is None and not sys_prefix:
        return Path(jupyter_data_dir()) / "kernels"
    return (prefix or Path(sys.prefix)).expanduser().absolute() / "share" / "jupyter" / "kernels"


def contents(
    name: str = NAME, display_name: str | None = None, python: Path | None = None, profile: str | None = None
) -> dict[str, Any]:
    """Return what is in ``kernel.json``.

    Args:
        name: of the kernelspec; part of the default display name, so that two kernels can be told apart.
        display_name: what Jupyter shows.
        python: absolute path of the interpreter in which cells run; None leaves it to the configuration.
        profile: isolation of the worker; None leaves it to the configuration.
    """
    spec: dict[str, Any] = json.loads((RESOURCES / "kernel.json").read_text(encoding="utf-8"))
    # Whichever Jupyter starts it, the front is at home in the environment that it was installed from.
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
    """Write a kernelspec, in place of one of the same name, and return its directory.

    Args:
        kernels: the directory that holds kernelspecs.
        name: as ``check_name`` returns it.
        spec: what is in ``kernel.json``.
        force: also in place of one that belongs to another kernel.

    Raises:
        KernelspecError: another kernel has that name, or the file system refuses.
    """
    destination = kernels / name
    if not force and os.path.lexists(destination) and read(destination) is None:
        raise KernelspecError(
            f"{destination} exists and is not Capsule's; choose another --name, or replace it with --force"
        )
    # Complete before it gets its name: Jupyter never sees half a kernelspec.
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
            f"cannot write {destination}: {error.strerror}; choose another place by --user, --sys-prefix or --prefix"
        ) from error
    return destination


def read(directory: Path) -> Kernelspec | None:
    """Return the kernelspec in a directory, or None if none of this kernel is there."""
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
    """Return the directories in which Jupyter looks for kernelspecs, the first wins; or that of a prefix only."""
    if prefix is not None:
        return [kernels_directory(prefix=prefix)]
    return [Path(directory) for directory in KernelSpecManager().kernel_dirs]


def find(path: Iterable[Path]) -> list[Kernelspec]:
    """Return the kernelspecs of this kernel in some directories, also those that an earlier one of the name hides."""
    # Two entries of Jupyter's path can be one directory.
    directories = dict.fromkeys(entry for kernels in path for entry in _entries(kernels))
    return [spec for spec in map(read, directories) if spec is not None]


def seen_by_jupyter(name: str) -> Path | None:
    """Return the directory that Jupyter takes for a kernel's name."""
    for kernels in search_path():
        for entry in _entries(kernels):
            if entry.name.lower() == name and (entry / "kernel.json").is_file():
                return entry
    return None


def remove(spec: Kernelspec) -> None:
    """Remove a kernelspec of this kernel.

    Raises:
        KernelspecError: the file system refuses.
    """
    try:
        _delete(spec.directory)
    except OSError as error:
        raise KernelspecError(f"cannot remove {spec.directory}: {error.strerror}") from error


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
