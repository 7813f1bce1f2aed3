"""The command line of bubblewrap (``bwrap(1)``), which gives workers namespaces of their own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from capsule_durable.sandbox.policy import DEVICES, SandboxPaths

#: Directories that are empty and in memory in the profile ``restricted``.
_SCRATCH = ("/tmp", "/var/tmp")  # noqa: S108  # mounts, not files
#: Variables that make programs write there in that profile, because they can write nowhere else.
_IN_SCRATCH = {"IPYTHONDIR": "/tmp/ipython", "MPLCONFIGDIR": "/tmp/matplotlib", "XDG_CACHE_HOME": "/tmp/cache"}  # noqa: S108


def find() -> str | None:
    """Return the path of bubblewrap, or None if it is not installed."""
    # Like shutil.which, which takes 5 ms to import.
    paths = (Path(directory, "bwrap") for directory in os.get_exec_path())
    return next((str(path) for path in paths if path.is_file() and os.access(path, os.X_OK)), None)


def command(program: str, paths: SandboxPaths, *, restricted: bool) -> list[str]:
    """Return the command that starts a program in namespaces of its own; the program's command follows it.

    The order of the arguments matters: a later mount covers an earlier one.

    Args:
        program: the path of bubblewrap.
        paths: what is hidden from cells, and what they can read or write.
        restricted: whether there is no network, and everything is read-only by default.
    """
    flags = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--as-pid-1", "--cap-drop", "ALL"]
    flags += ["--unshare-net", "--ro-bind", "/", "/"] if restricted else ["--bind", "/", "/"]
    # Only harmless devices and accelerators: root can read a whole disk through its device.
    flags += ["--dev", "/dev", "--proc", "/proc"]
    devices = [device for pattern in DEVICES for device in sorted(Path("/dev").glob(pattern))]
    flags += _bind("--dev-bind-try", devices)
    flags += _bind("--ro-bind", map(Path, ("/proc/sys", "/sys")))
    if restricted:
        flags += _writable(paths.directory)
    flags += _hide(paths.hidden)
    # The resolver of host names needs the first one.
    flags += _bind("--ro-bind-try", [Path("/run/systemd/resolve"), *paths.readable])
    flags += _bind("--bind-try", paths.writable)
    flags += _bind("--ro-bind-try", paths.fixed)
    flags += _hide([paths.home, *paths.secrets])
    if paths.session is not None:
        flags += _bind("--bind", [paths.session.resolve()])
    return [program, *flags]


def scratch_directories(arguments: Sequence[str]) -> list[str]:
    """Return the directories that a command puts in memory.

    Args:
        arguments: the command.
    """
    return ["/dev", *(path for flag, path in pairwise(arguments) if flag == "--tmpfs")]


def _bind(flag: str, paths: Iterable[Path]) -> list[str]:
    """Return the arguments that mount paths at the same place again, with other rights."""
    return [word for path in paths for word in (flag, str(path), str(path))]


def _hide(paths: Iterable[Path]) -> list[str]:
    """Return the arguments that make directories and files empty."""
    flags = []
    for path in paths:
        if path.is_dir():
            flags += ["--tmpfs", str(path.resolve())]
        elif path.exists():
            flags += ["--ro-bind", os.devnull, str(path.resolve())]
    return flags


def _writable(directory: Path | None) -> list[str]:
    """Return the arguments for the places that cells can write to where everything else is read-only."""
    flags = []
    for path in _SCRATCH:
        flags += ["--tmpfs", path]
    for name, value in _IN_SCRATCH.items():
        flags += ["--setenv", name, value]
    if directory is not None and directory != Path("/"):
        flags += _bind("--bind", [directory.resolve()])
    return flags
