"""The connection file: read as a manager has left it, or made, with a key and ports that are free."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from capsule_durable.errors import CapsuleError

#: The ports that a connection file names.
PORTS = tuple(f"{channel}_port" for channel in ("shell", "iopub", "stdin", "control", "hb"))


class ConnectionFileError(CapsuleError):
    """The connection file can be neither read nor made; the message says why."""


class ConnectionFile:
    """A connection file.

    Args:
        path: its path, whether it exists yet or not.
        values: its content. A port of 0 is chosen when it is bound.
        written: whether the file is complete.
    """

    def __init__(self, path: Path, values: dict[str, Any], *, written: bool = True) -> None:
        self.path = path
        self.values = values
        self.written = written
        #: Files that this process has made and removes in the end.
        self.made: list[Path] = []

    def publish(self) -> None:
        """Write the file, if a manager has not. Do so when the ports are bound: clients wait for nothing else."""
        if self.written:
            return
        text = json.dumps(self.values, indent=2)
        if self.path.exists():
            # In its place: where it is hidden from cells, a file of its name would not be.
            self.path.write_text(text, encoding="utf-8")
        elif self.path.parent == runtime_directory():
            self._make(self.path, text)
        else:
            # Cells do not see Jupyter's runtime directory, but they may see this one.
            kept = runtime_directory() / f"kernel-{os.getpid()}.json"
            self._make(kept, text)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.symlink_to(kept)
            self.made.append(self.path)
        self.written = True

    def _make(self, path: Path, text: str) -> None:
        """Write a file that only this user can read, and that no process sees half of."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        staging = path.with_name(f".{path.name}")
        staging.unlink(missing_ok=True)
        with open(os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)
        staging.replace(path)
        self.made.append(path)

    def close(self) -> None:
        """Remove the files that were made for this kernel."""
        for path in self.made:
            with contextlib.suppress(OSError):
                path.unlink()

    def advice(self) -> str:
        """Return how another client connects."""
        name = self.path.name if self.path.parent == runtime_directory() else self.path
        return f"To connect another client to this kernel, use:\n    --existing {name}"


def resolve(name: str | None, wanted: Mapping[str, str | int]) -> ConnectionFile:
    """Return the connection file of a path or a name; one that is not there is to be made, as ipykernel does it.

    Args:
        name: its path, or its name in the working directory or in Jupyter's runtime directory; None for a new one.
        wanted: what it shall have in it where it says nothing itself (``ip``, ``transport``, ``shell_port``).

    Raises:
        ConnectionFileError: it cannot be read.
    """
    path = place(name, os.getpid())
    try:
        found = path.exists()
        values = json.loads(path.read_text(encoding="utf-8")) if found else {}
    except (OSError, ValueError) as error:
        raise ConnectionFileError(f"the connection file {path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConnectionFileError(f"the connection file {path} has no table in it")
    if all(values.get(port) for port in PORTS):
        return ConnectionFile(path, values)
    values.setdefault("key", os.urandom(16).hex())
    values.setdefault("signature_scheme", "hmac-sha256")
    values = {**values, **{key: value for key, value in wanted.items() if not values.get(key)}}
    ipc = values.setdefault("transport", "tcp") == "ipc"
    values["ip"] = values.get("ip") or (f"{path.with_suffix('').absolute()}-ipc" if ipc else "127.0.0.1")
    number = 0
    for port in PORTS:
        values[port] = values.get(port) or 0
        if ipc and not values[port]:
            number = next(n for n in range(number + 1, 1 << 16) if not Path(f"{values['ip']}-{n}").exists())
            values[port] = number
    return ConnectionFile(path, values, written=False)


def place(name: str | None, process: int) -> Path:
    """Return the path of a connection file, as ipykernel finds it.

    Args:
        name: its path or its name; None for that of a process that was given none.
        process: the number of the kernel's process.
    """
    path = Path(name or f"kernel-{process}.json")
    return path if name and (path.exists() or path.name != name) else runtime_directory() / path


def runtime_directory() -> Path:
    """Return the directory in which Jupyter keeps connection files."""
    from jupyter_core.paths import jupyter_runtime_dir

    return Path(jupyter_runtime_dir())
