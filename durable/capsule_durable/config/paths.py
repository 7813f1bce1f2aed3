"""Where Capsule keeps its data, and finds its configuration.

By the XDG Base Directory Specification, since it runs on Linux alone: a library that knows all systems takes 12 ms to
import, on the way to the first worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

VARIABLE = "CAPSULE_HOME"
#: The directory in it that has a directory for each session, with its checkpoints.
SESSIONS = "checkpoints"


def home(environ: Mapping[str, str]) -> Path:
    """Return the directory for data: ``CAPSULE_HOME``, or else the usual place for it. Does not make it.

    Args:
        environ: the environment.
    """
    chosen = environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    return data(environ)


def data(environ: Mapping[str, str]) -> Path:
    """Return the usual directory for data. Does not make it.

    Args:
        environ: the environment.
    """
    return _place(environ, "XDG_DATA_HOME", "~/.local/share")


def configuration(environ: Mapping[str, str]) -> Path:
    """Return the directory for the person's configuration. Does not make it.

    Args:
        environ: the environment.
    """
    return _place(environ, "XDG_CONFIG_HOME", "~/.config")


def _place(environ: Mapping[str, str], variable: str, usual: str) -> Path:
    # By the specification a relative path is to be ignored.
    chosen = Path(environ.get(variable, ""))
    return (chosen if chosen.is_absolute() else Path(usual).expanduser()) / "capsule"


def ensure(path: Path) -> Path:
    """Make a directory that only its owner can enter, and return it. One that is there stays as it is.

    Raises:
        OSError: it cannot be made.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
