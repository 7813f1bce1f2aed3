"""Where Capsule keeps its data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import platformdirs

VARIABLE = "CAPSULE_HOME"
#: The directory in it that has a directory for each session, with its checkpoints.
SESSIONS = "checkpoints"


def home(environ: Mapping[str, str]) -> Path:
    """Return the directory for data: ``CAPSULE_HOME``, or else the platform's place for it. Does not make it.

    Args:
        environ: the environment.
    """
    chosen = environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    return platformdirs.user_data_path("capsule")


def ensure(path: Path) -> Path:
    """Make a directory that only its owner can enter, and return it. One that is there stays as it is.

    Raises:
        OSError: it cannot be made.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
