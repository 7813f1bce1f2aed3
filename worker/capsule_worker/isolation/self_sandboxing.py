"""The rights that a process gives up, for itself and its children, before any code of the notebook runs.

These are system calls that notebooks do not need (``seccomp``), signals to processes outside, and abstract sockets that
were made there. Without namespaces, Landlock hides files as well; see ``Documentation/userspace-api/landlock.rst`` of
the Linux kernel. Landlock has no exceptions within a directory: to hide one entry, all others are allowed one by one,
and what is made there later is allowed to no process. So in a directory with a secret somewhere below it, names can be
listed but no new file can be made. In the working directory of cells, and in that of temporary files, this would be
unusable, and the layer is missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from capsule_worker.isolation.error_hints import CLOSED

if TYPE_CHECKING:
    from landlockpy import AccessFS, Ruleset

#: Directories of the system that are read only.
_SYSTEM = ("/proc", "/sys")
#: Devices that are harmless.
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm")
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _CAPABILITY_VERSION = 24, 38, 0x20080522
#: Landlock's calls have the same numbers on all machines.
_CREATE_RULESET, _RESTRICT_SELF, _ASK_VERSION = 444, 446, 1
#: The scopes of abstract sockets and signals; and the first version of Landlock that has them.
_SCOPES, _SCOPES_SINCE = 0b11, 6
#: All of ``/run`` that cells can read, for the lookup of host names. The rest has the sockets of system services.
_RESOLVER = "/run/systemd/resolve"


@dataclass(frozen=True)
class Confinement:
    """What to give up.

    Args:
        required: layers without which nothing is started.
        scopes: whether to give up signals and abstract sockets.
        hidden: files and directories that Landlock hides; None without Landlock.
        fixed: directories that can be read and not changed.
        shown: directories within hidden ones that can be read and changed.
        devices: names and patterns of devices that can be used, besides the harmless ones.
        directory: the working directory of cells.
    """

    required: Sequence[str] = ()
    scopes: bool = True
    hidden: Sequence[str] | None = None
    fixed: Sequence[str] = ()
    shown: Sequence[str] = ()
    devices: Sequence[str] = ()
    directory: str = "/"

    @classmethod
    def from_json(cls, text: str) -> Confinement:
        """Return the confinement of a command line argument.

        Args:
            text: a JSON object with these fields.
        """
        return cls(**json.loads(text))


def apply(confinement: Confinement) -> Iterator[tuple[str, str]]:
    """Give the rights up, layer by layer.

    Args:
        confinement: what to give up.

    Yields:
        The name of each layer, and why it is missing; an empty text if it is active.
    """
    if confinement.scopes:
        yield "scopes", _apply_layer(_scope, confinement)
    if confinement.hidden is not None:
        yield "files", _apply_layer(_hide, confinement)
        if os.geteuid() == 0:
            yield "capabilities", _apply_layer(_drop_capabilities, confinement)
    yield "system calls", _apply_layer(_refuse_calls, confinement)


def _apply_layer(layer: Callable[[Confinement], None], confinement: Confinement) -> str:
    """Apply a layer; return why it is missing, or an empty text."""
    try:
        layer(confinement)
    except ImportError as error:
        return f"{error.name} is not installed"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _refuse_calls(confinement: Confinement) -> None:
    from capsule_worker.isolation import seccomp

    seccomp.enforce(alone=confinement.hidden is not None)


def _scope(_confinement: Confinement) -> None:
    """Give up signals to processes outside, and their abstract sockets.

    These are two system calls, made directly: every kernel makes them before its first cell, and the library for
    Landlock takes 25 ms to import.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    _check_landlock(max(0, version))
    if version < _SCOPES_SINCE:
        raise OSError(0, "it needs Linux 6.12 or newer")
    # `struct landlock_ruleset_attr`: no rights of files, none of the network, and the scopes.
    wanted = struct.pack("QQQ", 0, 0, _SCOPES)
    rules = libc.syscall(_CREATE_RULESET, wanted, len(wanted), 0)
    refused = rules < 0 or libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(_RESTRICT_SELF, rules, 0)
    number = ctypes.get_errno()
    if rules >= 0:
        os.close(rules)
    if refused:
        raise OSError(number, os.strerror(number))


def _hide(confinement: Confinement) -> None:
    """Hide files."""
    import tempfile

    from landlockpy import AccessFS, AccessNet, LandlockError, Ruleset, abi_version, fs_for_abi

    _check_landlock(abi_version())
    assert confinement.hidden is not None
    hidden = [Path(path).resolve() for path in confinement.hidden]
    fixed = [Path(path).resolve() for path in confinement.fixed]
    above = {parent for path in (*hidden, *fixed) for parent in path.parents}
    for place in (Path(confinement.directory).resolve(), Path(tempfile.gettempdir()).resolve()):
        if place in above:
            raise OSError(0, f"the kernel keeps its own files below {place}, where cells make new ones")
    everything = fs_for_abi(abi_version())
    reading = AccessFS.READ_FILE | AccessFS.READ_DIR | AccessFS.EXECUTE
    try:
        with Ruleset(handled_fs=everything, handled_net=AccessNet.NONE) as rules:
            rules.allow_path("/", AccessFS.READ_DIR)
            special = {*hidden, *fixed, *above, *map(Path, ("/dev", *_SYSTEM))}
            for path in _siblings(above, special):
                _allow(rules, path, everything)
            for path in (*fixed, *map(Path, (*_SYSTEM, _RESOLVER))):
                _allow(rules, path, reading)
            for path in (*map(Path, confinement.shown), *_usable_devices(confinement.devices)):
                _allow(rules, path, everything)
            rules.restrict()
    except LandlockError as error:
        raise OSError(0, str(error)) from error
    os.environ[CLOSED] = os.pathsep.join(map(str, above))


def _drop_capabilities(_confinement: Confinement) -> None:
    """Give up the capabilities of root, as in a user namespace: see capabilities(7)."""
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(64):
        libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _check_landlock(version: int) -> None:
    if not version:
        raise OSError(0, "this system has no Landlock, or it is turned off")


def _siblings(above: set[Path], special: set[Path]) -> Iterator[Path]:
    """Yield the entries of some directories, except special ones."""
    for directory in sorted(above):
        try:
            yield from (path for path in directory.iterdir() if path not in special and not path.is_symlink())
        except OSError:
            continue


def _usable_devices(patterns: Sequence[str]) -> Iterator[Path]:
    for pattern in (*_DEVICES, *patterns):
        yield from Path("/dev").glob(pattern)


def _allow(rules: Ruleset, path: Path, access: AccessFS) -> None:
    """Allow access to a file, or to everything below a directory, if it exists."""
    from landlockpy import AccessFS, LandlockError

    if not path.exists():
        return
    if not path.is_dir():
        access &= AccessFS.EXECUTE | AccessFS.WRITE_FILE | AccessFS.READ_FILE | AccessFS.TRUNCATE | AccessFS.IOCTL_DEV
    # Links to pipes and the like need no permission, and Landlock refuses to give one.
    with contextlib.suppress(OSError, LandlockError):
        rules.allow_path(path, access)


if __name__ == "__main__":
    for name, why in apply(Confinement.from_json(sys.argv[1])):
        print(json.dumps({"layer": name, "why": why}))
