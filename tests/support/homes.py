"""Directories for all that Jupyter, IPython and Capsule write."""

from __future__ import annotations

from pathlib import Path

#: The variables that name them, and their names here.
_FOLDERS = {
    "IPYTHONDIR": "ipython",
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "run",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    "XDG_CONFIG_HOME": "xdg-config",
    "XDG_DATA_HOME": "xdg-data",
    "XDG_STATE_HOME": "xdg-state",
    "XDG_CACHE_HOME": "xdg-cache",
}


def jupyter_directories(home: Path) -> dict[str, str]:
    """Make the directories of Jupyter's clients below another one.

    Args:
        home: where they are made; none of them exists yet.

    Returns:
        The environment variables that name them.
    """
    for folder in _FOLDERS.values():
        (home / folder).mkdir()
    return {variable: str(home / folder) for variable, folder in _FOLDERS.items()}
