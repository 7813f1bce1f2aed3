"""What a process gives up for itself and for all that comes of it, before any of the notebook's code runs.

System calls that notebooks have no use for (``seccomp``), signals to processes outside, and sockets with abstract names
that were made there. Where no namespaces can be had, Landlock keeps files out of reach, too; see the kernel's
``Documentation/userspace-api/landlock.rst``. It knows no exceptions within a directory: whoever is to see all but one
entry of it is given all the others, one by one, and what is made there later is given to nobody. Hence the limits of
this: of a directory with a secret somewhere below it the names can be listed, but no new file can be made in it. Where
cells begin, and where temporary files are, that cannot be borne, and the layer is missing.
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

#: Where a machine is set up: to be read only.
_SYSTEM = ("/proc", "/sys")
#: Devices that are harmless.
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm")
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _CAPABILITY_VERSION = 24, 38, 0x20080522
#: Landlock's calls have the same numbers on all machines.
_CREATE_RULESET, _RESTRICT_SELF, _ASK_VERSION = 444, 446, 1
#: Of abstract sockets and of signals; and the first version that has them.
_SCOPES, _SCOPES_SINCE = 0b11, 6
#: Of ``/run``, where sockets of the system's services are, only where the names of hosts are looked up.
_LOOKED_UP = "/run/systemd/resolve"


@dataclass(frozen=True)
class Confinement:
    """What to give up.

    Args:
        required: layers without which nothing is to be started.
        scopes: whether to give up signals and abstract sockets.
        hidden: files and directories that are not to be seen, where Landlock is to see to that; None where it is not.
        fixed: directories that are to be seen, and not to be changed.
        shown: directories within hidden ones that are to be seen and changed.
        devices: names and patterns of devices that are to be used, beside the harmless ones.
        directory: where cells begin.
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
        """Return what an argument of a program says: an object with these fields."""
        return cls(**json.loads(text))


def apply(what: Confinement) -> Iterator[tuple[str, str]]:
    """Give things up; yield each layer's name, and why it could not be had, which is empty if it was."""
    if what.scopes:
        yield "scopes", _why(_scope, what)
    if what.hidden is not None:
        yield "files", _why(_hide, what)
        if os.geteuid() == 0:
            yield "capabilities", _why(_drop_capabilities, what)
    yield "system calls", _why(_refuse_calls, what)


def _why(give_up: Callable[[Confinement], None], what: Confinement) -> str:
    try:
        give_up(what)
    except ImportError as error:
        return f"there is no {error.name}"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _refuse_calls(what: Confinement) -> None:
    from capsule_worker.isolation import seccomp

    seccomp.enforce(alone=what.hidden is not None)


def _scope(_what: Confinement) -> None:
    """Send no signals to processes outside, and use no sockets of abstract names that are theirs.

    That is two calls. Every kernel makes them before its first cell, and the library that hides files takes 25 ms to be
    imported.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    _check_landlock(max(0, version))
    if version < _SCOPES_SINCE:
        raise OSError(0, "Linux has it from 6.12 on")
    # What is handled of files and of the network, and which scopes: `struct landlock_ruleset_attr`.
    wanted = struct.pack("QQQ", 0, 0, _SCOPES)
    rules = libc.syscall(_CREATE_RULESET, wanted, len(wanted), 0)
    refused = rules < 0 or libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(_RESTRICT_SELF, rules, 0)
    number = ctypes.get_errno()
    if rules >= 0:
        os.close(rules)
    if refused:
        raise OSError(number, os.strerror(number))


def _hide(what: Confinement) -> None:
    """Keep files out of reach."""
    import tempfile

    from landlockpy import AccessFS, AccessNet, LandlockError, Ruleset, abi_version, fs_for_abi

    _check_landlock(abi_version())
    assert what.hidden is not None
    hidden = [Path(path).resolve() for path in what.hidden]
    fixed = [Path(path).resolve() for path in what.fixed]
    above = {parent for path in (*hidden, *fixed) for parent in path.parents}
    for place in (Path(what.directory).resolve(), Path(tempfile.gettempdir()).resolve()):
        if place in above:
            raise OSError(0, f"the kernel keeps files of its own below {place}, where cells make new ones")
    everything = fs_for_abi(abi_version())
    reading = AccessFS.READ_FILE | AccessFS.READ_DIR | AccessFS.EXECUTE
    try:
        with Ruleset(handled_fs=everything, handled_net=AccessNet.NONE) as rules:
            rules.allow_path("/", AccessFS.READ_DIR)
            special = {*hidden, *fixed, *above, *map(Path, ("/dev", *_SYSTEM))}
            for path in _beside(above, special):
                _allow(rules, path, everything)
            for path in (*fixed, *map(Path, (*_SYSTEM, _LOOKED_UP))):
                _allow(rules, path, reading)
            for path in (*map(Path, what.shown), *_usable_devices(what.devices)):
                _allow(rules, path, everything)
            rules.restrict()
    except LandlockError as error:
        raise OSError(0, str(error)) from error
    os.environ[CLOSED] = os.pathsep.join(map(str, above))


def _drop_capabilities(_what: Confinement) -> None:
    """Be root in name only, as in a user namespace: see capabilities(7)."""
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(64):
        libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _check_landlock(version: int) -> None:
    if not version:
        raise OSError(0, "the system has no Landlock, or it is turned off")


def _beside(above: set[Path], special: set[Path]) -> Iterator[Path]:
    """Yield what is in some directories, but for what is special."""
    for directory in sorted(above):
        try:
            yield from (path for path in directory.iterdir() if path not in special and not path.is_symlink())
        except OSError:
            continue


def _usable_devices(patterns: Sequence[str]) -> Iterator[Path]:
    for pattern in (*_DEVICES, *patterns):
        yield from Path("/dev").glob(pattern)


def _allow(rules: Ruleset, path: Path, access: AccessFS) -> None:
    """Allow something for a file, or for all below a directory; what is not there need not be allowed."""
    from landlockpy import AccessFS, LandlockError

    if not path.exists():
        return
    if not path.is_dir():
        access &= AccessFS.EXECUTE | AccessFS.WRITE_FILE | AccessFS.READ_FILE | AccessFS.TRUNCATE | AccessFS.IOCTL_DEV
    # Links to pipes and the like need no leave, and get none.
    with contextlib.suppress(OSError, LandlockError):
        rules.allow_path(path, access)


if __name__ == "__main__":
    for name, why in apply(Confinement.from_json(sys.argv[1])):
        print(json.dumps({"layer": name, "why": why}))
