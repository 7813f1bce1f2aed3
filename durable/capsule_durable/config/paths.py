"""The directories for Capsule's data and configuration.

They follow the XDG Base Directory Specification. Capsule runs on Linux only, and a library for all systems would take
12 ms to import before the first worker starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

VARIABLE = "CAPSULE_HOME"
#: The directory in the home that has a directory with checkpoints for each session.
SESSIONS = "sessions"


def home(environ: Mapping[str, str]) -> Path:
    """Return the directory for data: ``CAPSULE_HOME``, or the default. It need not exist.

    Args:
        environ: the environment.
    """
    chosen = environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    return data(environ)


def data(environ: Mapping[str, str]) -> Path:
    """Return the default directory for data. It need not exist.

    Args:
        environ: the environment.
    """
    return _directory(environ, "XDG_DATA_HOME", "~/.local/share")


def configuration(environ: Mapping[str, str]) -> Path:
    """Return the directory for the user's configuration. It need not exist.

    Args:
        environ: the environment.
    """
    return _directory(environ, "XDG_CONFIG_HOME", "~/.config")


def _directory(environ: Mapping[str, str], variable: str, default: str) -> Path:
    # The specification says to ignore a relative path.
    chosen = Path(environ.get(variable, ""))
    return (chosen if chosen.is_absolute() else Path(default).expanduser()) / "capsule"


def ensure(path: Path) -> Path:
    """Create a directory that only its owner can enter, and return it. An existing one is not changed.

    Args:
        path: the directory.

    Raises:
        OSError: it cannot be created.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
