"""The interpreter's own state: what cells can have changed besides variables."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

from capsule_worker.checkpoints.adapters.registry import ADAPTERS
from capsule_worker.checkpoints.analysis.small_values import is_atom
from capsule_worker.checkpoints.analysis.user_names import OUTPUT_NAMES

#: Variables of the environment that belong to a process, not to its user.
_OWN_VARIABLES = ("CAPSULE_", "_", "PWD", "OLDPWD", "SHLVL", "JPY_PARENT_PID")


class _Awaited:
    """Stands for an output that is not loaded yet.

    Args:
        number: the output's.
    """

    def __init__(self, number: int) -> None:
        self.number = number


class ShellState:
    """Saves and restores the state of this process and of its shell.

    Args:
        shell: IPython's shell.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._environment = dict(os.environ)
        #: The environment as it was last looked at, encoded, and how it differed from what it was at first.
        self._encoded: dict[Any, Any] | None = None
        self._changes: dict[str, str | None] = {}
        self._extensions = set(shell.extension_manager.loaded)

    def save(self) -> dict[str, Any]:
        """Return the state, made of plain objects only."""
        history = self._shell.history_manager
        namespace = self._shell.user_ns
        state: dict[str, Any] = {
            "path": list(sys.path),
            "environment": self._environment_changes(),
            "session": history.session_number,
            "inputs": [list(map(str, inputs)) for inputs in (history.input_hist_parsed, history.input_hist_raw)],
            "outputs": [
                number
                for number, value in history.output_hist.items()
                if type(value) is _Awaited or f"_{number}" in namespace
            ],
            "latest": self._latest(),
            "own": self._own(),
            "libraries": ADAPTERS.save_states(),
            "extensions": sorted(set(self._shell.extension_manager.loaded) - self._extensions),
            "autoreload": self._autoreload(),
        }
        with contextlib.suppress(OSError):
            state["directory"] = os.getcwd()  # noqa: PTH109  # a text is all that is wanted
        return state

    def restore(self, state: dict[str, Any]) -> list[str]:
        """Restore everything but the history; return which parts could not be restored, and why.

        Args:
            state: what `save` returned.
        """
        parts: dict[str, Callable[[Any], None]] = {
            "directory": os.chdir,
            "path": _restore_path,
            "environment": _restore_environment,
            "extensions": self._restore_extensions,
            "autoreload": self._restore_autoreload,
        }
        failed = []
        for part, restore in parts.items():
            if part in state:
                try:
                    restore(state[part])
                # A directory that is gone, an extension that is not installed here.
                except Exception as error:
                    failed.append(f"{part}: {type(error).__name__}: {error}")
        libraries = ADAPTERS.restore_states(state["libraries"])
        return [*failed, *(f"{library}: {reason}" for library, reason in libraries.items())]

    def restore_history(self, state: dict[str, Any]) -> None:
        """Restore ``In``, ``Out``, ``_`` and the like; outputs are filled in when they are loaded.

        Args:
            state: what `save` returned.
        """
        history, namespace = self._shell.history_manager, self._shell.user_ns
        parsed, raw = state["inputs"]
        history.input_hist_parsed[:] = parsed
        history.input_hist_raw[:] = raw
        for number, line in enumerate(raw):
            if number:
                namespace[f"_i{number}"] = line
        history.continue_session(state.get("session", 0))
        history.output_hist.clear()
        history.output_hist.update({number: _Awaited(number) for number in state["outputs"]})
        for name, number in state["latest"].items():
            if number in history.output_hist:
                namespace[name] = history.output_hist[number]
                setattr(self._shell.displayhook, name, namespace[name])
        namespace.update(state["own"])
        self.fill_outputs()

    def fill_outputs(self) -> None:
        """Put outputs that are loaded by now into their places, wherever cells have moved these meanwhile."""
        namespace, hook, hidden = self._shell.user_ns, self._shell.displayhook, self._shell.user_ns_hidden
        places: list[tuple[dict[Any, Any], Any]] = [
            *((self._shell.history_manager.output_hist, number) for number in self._shell.history_manager.output_hist),
            *((space, name) for space in (namespace, vars(hook), hidden) for name in OUTPUT_NAMES),
        ]
        for space, key in places:
            value = space.get(key)
            if type(value) is _Awaited and f"_{value.number}" in namespace:
                space[key] = namespace[f"_{value.number}"]

    def _latest(self) -> dict[str, int]:
        """Return which outputs ``_``, ``__`` and ``___`` are."""
        namespace, found = self._shell.user_ns, {}
        outputs = {id(value): number for number, value in self._shell.history_manager.output_hist.items()}
        for name in OUTPUT_NAMES:
            number = outputs.get(id(namespace.get(name)))
            if number is not None:
                found[name] = number
        return found

    def _own(self) -> dict[str, Any]:
        """Return what cells have put into ``_``, ``__`` and ``___`` themselves, as in ``for _ in range(3)``."""
        namespace, hook = self._shell.user_ns, self._shell.displayhook
        own = {name: namespace[name] for name in OUTPUT_NAMES if name in namespace}
        return {name: value for name, value in own.items() if is_atom(value) and value is not getattr(hook, name)}

    def _environment_changes(self) -> dict[str, str | None]:
        # To decode all of it takes longer than all else here.
        encoded = getattr(os.environ, "_data", None)
        if encoded is not None and encoded == self._encoded:
            return self._changes
        now, before = dict(os.environ), self._environment
        changes: dict[str, str | None] = {name: value for name, value in now.items() if before.get(name) != value}
        changes.update({name: None for name in before if name not in now})
        self._encoded = None if encoded is None else dict(encoded)
        self._changes = {name: value for name, value in changes.items() if not name.startswith(_OWN_VARIABLES)}
        return self._changes

    def _restore_extensions(self, names: list[str]) -> None:
        for name in names:
            self._shell.extension_manager.load_extension(name)

    def _autoreload(self) -> str | None:
        magics = self._shell.magics_manager.registry.get("AutoreloadMagics")
        reloader = getattr(magics, "_reloader", None)
        if reloader is None or not reloader.enabled:
            return None
        return "2" if reloader.check_all else "1"

    def _restore_autoreload(self, mode: str | None) -> None:
        if mode is not None:
            self._shell.run_line_magic("autoreload", mode)


def _restore_path(path: list[str]) -> None:
    sys.path[:] = path


def _restore_environment(changes: dict[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
