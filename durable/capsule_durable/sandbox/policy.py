"""What stands between a notebook's code and the kernel: the layers, which of them hold here, and why others do not."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from capsule_durable import ids
from capsule_durable.config.limits import PathRules
from capsule_durable.config.paths import SESSIONS, configuration, ensure

#: Of what a person may ask for, by name.
PROFILES = ("notebook", "restricted", "open")
#: Devices that cells may use, beside the harmless ones: those of GPUs and other accelerators.
_DEVICES = ("nvidia*", "dri", "kfd", "accel*", "dxg", "habanalabs")
#: Where programs keep keys, which cells do not see in the profile ``restricted`` if nothing else is said.
KEYS = (
    *("~/.ssh", "~/.gnupg", "~/.netrc", "~/.pgpass", "~/.git-credentials", "~/.pypirc", "~/.npmrc"),
    *("~/.aws", "~/.azure", "~/.boto", "~/.config/gcloud", "~/.databrickscfg", "~/.kaggle", "~/.oci", "~/.snowflake"),
    *("~/.config/gh", "~/.config/rclone", "~/.docker", "~/.kube", "~/.s3cfg", "~/.vault-token"),
    *("~/.cache/huggingface/token", "~/.huggingface"),
)
#: What programs make in the home directory when they are used first; without namespaces cells could not.
_USUAL = ("~/.cache", "~/.config", "~/.ipython", "~/.jupyter", "~/.local/bin", "~/.local/lib", "~/.local/share")
#: Directories that are empty and their own in the profile ``restricted``, and what programs keep there, since it can be
#: kept nowhere else.
_SCRATCH = ("/tmp", "/var/tmp")  # noqa: S108  # mounts, no files
_IN_SCRATCH = {"IPYTHONDIR": "/tmp/ipython", "MPLCONFIGDIR": "/tmp/matplotlib", "XDG_CACHE_HOME": "/tmp/cache"}  # noqa: S108
#: What mends layers that wardens see to.
_FIXES = {
    "scopes": "use Linux 6.12 or newer, with Landlock among its security modules",
    "files": "install bubblewrap; or start notebooks in a directory of their own",
    "system calls": "use a Linux with CONFIG_SECCOMP_FILTER on x86_64 or aarch64",
}
#: Seconds that a program may take which does nothing.
_PROBE_TIMEOUT = 10.0
#: The file in which it is kept what could be had, in the directory for data.
_FILE = "sandbox.json"


class SandboxRefused(OSError):
    """What a profile promises cannot be held here, so nothing is started. The message says why, and what to do."""


class Layer(NamedTuple):
    """A part of the isolation.

    Args:
        name: what it is.
        enforced: whether it holds.
        why: why it does not; empty if it does.
        mend: what would mend that.
    """

    name: str
    enforced: bool
    why: str = ""
    fix: str = ""


class Sandbox(NamedTuple):
    """How workers are kept apart.

    Args:
        profile: one of ``PROFILES``.
        layers: what it consists of, as far as this profile wants it, and the front sees to it.
        prefix: what stands before the command of the warden.
        confinement: what the warden is to give up, as ``capsule_worker.isolation.self_sandboxing``
            has it; None for nothing.
        scratch: directories in there that are in memory.
    """

    profile: str
    layers: tuple[Layer, ...] = ()
    prefix: tuple[str, ...] = ()
    confinement: str | None = None
    scratch: tuple[str, ...] = ()

    def check(self) -> None:
        """See that what the profile promises is held.

        Raises:
            SandboxRefused: it is not, and the profile is one that holds all or nothing.
        """
        for layer in self.layers:
            if self.profile == "restricted" and not layer.enforced:
                raise SandboxRefused(
                    f"the profile restricted cannot be held here, since {layer.name} are missing: {layer.why}. To mend"
                    f" that, {layer.fix}; or choose another profile"
                )

    def summary(self, more: Iterable[Layer] = ()) -> str:
        """Return what holds and what does not, in a line.

        Args:
            more: layers of which a warden has told.
        """
        if self.profile == "open":
            return "open: cells run as you, in processes of their own but in no sandbox"
        layers = [*self.layers, *more]
        held = ", ".join(layer.name for layer in layers if layer.enforced)
        lost = "; ".join(f"{layer.name} are missing: {layer.why}" for layer in layers if not layer.enforced)
        return f"{self.profile}: " + "; ".join([*([f"{held} hold"] if held else []), *([lost] if lost else [])])


def layer(name: str, why: str) -> Layer:
    """Return a layer of which a warden has told.

    Args:
        name: the layer's.
        why: why it does not hold; empty if it does.
    """
    return Layer(name, enforced=not why, why=why, fix=_FIXES.get(name, "") if why else "")


class SandboxPaths(NamedTuple):
    """Directories and files, as absolute paths. Where two contradict each other, the one named later holds.

    Args:
        home: the directory for data, which cells do not see, whatever is said.
        session: what of it they do see, since their worker writes checkpoints there; None for nothing.
        secrets: other directories, and files, that they do not see, whatever is said.
        fixed: directories that they see, and cannot change.
        directory: where cells begin; in the profile ``restricted`` they can write there, and nowhere else.
        hidden: what they do not see.
        readable: what of that they do see.
        writable: what they may change.
    """

    home: Path
    session: Path | None = None
    secrets: Sequence[Path] = ()
    fixed: Sequence[Path] = ()
    directory: Path | None = None
    hidden: Sequence[Path] = ()
    readable: Sequence[Path] = ()
    writable: Sequence[Path] = ()


def sandbox_paths(
    connection_file: Path,
    home: Path,
    session: Path | None,
    environ: Mapping[str, str],
    directory: Path | None = None,
    rules: PathRules | None = None,
    profile: str = "notebook",
    python: str = sys.executable,
) -> SandboxPaths:
    """Return what is to be hidden from the cells of a kernel, and what is to be kept as it is.

    Args:
        connection_file: the kernel's, with the key to it.
        home: the directory for data.
        session: the session's directory in it.
        environ: the environment.
        directory: where cells begin.
        rules: what a person wants.
        profile: one of ``PROFILES``.
        python: the interpreter that runs cells.
    """
    rules = rules or PathRules()
    usual, kept = (KEYS, [*_made_of(), _prefix(python)]) if profile == "restricted" else ((), _apart_from(python))
    data = Path(environ.get("JUPYTER_DATA_DIR") or "~/.local/share/jupyter").expanduser()
    runtime = Path(environ.get("JUPYTER_RUNTIME_DIR") or data / "runtime")
    return SandboxPaths(
        home=home,
        session=session,
        # Where other kernels' files are, and servers' with their tokens; and this kernel's file, wherever it is.
        secrets=[runtime, connection_file.absolute()],
        # What starts the next kernel, outside of any sandbox.
        fixed=[data / "kernels", configuration(environ), *kept],
        directory=directory,
        hidden=[Path("/run"), *_expanded(rules.hidden if rules.hidden is not None else usual)],
        readable=_expanded(rules.readable),
        writable=_expanded(rules.writable),
    )


def plan(profile: str, where: SandboxPaths) -> Sandbox:
    """Return the isolation that a profile means here.

    Args:
        profile: one of ``PROFILES``.
        where: what is to be kept from cells.
    """
    if profile == "open":
        return Sandbox(profile)
    program = _found("bwrap")
    if program is None:
        mend = "install bubblewrap (apt-get install bubblewrap, dnf install bubblewrap)"
        missing = Layer("namespaces", enforced=False, why="there is no bubblewrap", fix=mend)
        return Sandbox(profile, (missing,), confinement=_without_namespaces(where))
    prefix = (program, *_flags(where, restricted=profile == "restricted"))
    why = _probe(prefix, where)
    if why:
        mend = "allow user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)"
        missing = Layer("namespaces", enforced=False, why=why, fix=mend)
        return Sandbox(profile, (missing,), confinement=_without_namespaces(where))
    scratch = ("/dev", *(path for flag, path in pairwise(prefix) if flag == "--tmpfs"))
    required = ["system calls"] if profile == "restricted" else []
    return Sandbox(profile, (Layer("namespaces", enforced=True),), prefix, json.dumps({"required": required}), scratch)


def _found(program: str) -> str | None:
    """Return where a program is, as ``shutil.which`` (5 ms to import); None if it is not there."""
    paths = (Path(directory, program) for directory in os.get_exec_path())
    return next((str(path) for path in paths if path.is_file() and os.access(path, os.X_OK)), None)


def _without_namespaces(where: SandboxPaths) -> str:
    """Return what the warden is to give up where it is in no namespaces of its own."""
    shown = [where.session] if where.session is not None else []
    given_up: dict[str, object] = {
        "hidden": [where.home, *where.secrets, *where.hidden],
        "fixed": [*where.fixed, *where.readable],
        "shown": [*shown, *where.writable],
        "directory": where.directory or Path.cwd(),
        "devices": _DEVICES,
    }
    return json.dumps(given_up, default=str)


def enter(
    profile: str,
    connection_file: Path,
    home: Path,
    environ: Mapping[str, str],
    rules: PathRules | None = None,
    python: str = sys.executable,
    *,
    keep: bool = True,
) -> tuple[Sandbox, str | None]:
    """Return the isolation of a kernel's cells, and the id of its session, whose directory they see.

    Args:
        profile: one of ``PROFILES``.
        connection_file: the kernel's.
        home: the directory for data.
        environ: the environment.
        rules: what a person wants.
        python: the interpreter that runs cells.
        keep: whether checkpoints are to be kept.
    """
    if profile == "open":
        return Sandbox(profile), None
    session = ids.new_session_id(time.time())
    directory = home / SESSIONS / session
    where = sandbox_paths(connection_file, home, directory, environ, Path.cwd(), rules, profile, python)
    try:
        for path in (home, home / SESSIONS, directory) if keep else (home,):
            ensure(path)
    except OSError:
        keep = False  # which is told where they would be
    where = where if keep else where._replace(session=None)
    _make(where.fixed[:2])  # what is not there cannot be kept as it is
    sandbox = plan(profile, where)
    if not sandbox.prefix:
        _make(Path(path).expanduser() for path in _USUAL)
    return sandbox, session if keep else None


def _make(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.mkdir(parents=True, exist_ok=True)


def _flags(where: SandboxPaths, *, restricted: bool) -> list[str]:
    """Return bubblewrap's arguments. The order counts: what comes later lies above."""
    flags = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--as-pid-1", "--cap-drop", "ALL"]
    flags += ["--unshare-net", "--ro-bind", "/", "/"] if restricted else ["--bind", "/", "/"]
    # Of devices only what is harmless, and what calculates: root may read a whole disk by its device.
    flags += ["--dev", "/dev", "--proc", "/proc"]
    devices = [device for pattern in _DEVICES for device in sorted(Path("/dev").glob(pattern))]
    flags += _binding("--dev-bind-try", devices)
    flags += _binding("--ro-bind", map(Path, ("/proc/sys", "/sys")))
    if restricted:
        flags += _room(where.directory)
    flags += _hiding(where.hidden)
    # Where the names of hosts are looked up.
    flags += _binding("--ro-bind-try", [Path("/run/systemd/resolve"), *where.readable])
    flags += _binding("--bind-try", where.writable)
    flags += _binding("--ro-bind-try", where.fixed)
    flags += _hiding([where.home, *where.secrets])
    if where.session is not None:
        flags += _binding("--bind", [where.session.resolve()])
    return flags


def _binding(flag: str, paths: Iterable[Path]) -> list[str]:
    """Return the arguments by which what is there is there, in another way."""
    return [word for path in paths for word in (flag, str(path), str(path))]


def _hiding(paths: Iterable[Path]) -> list[str]:
    """Return the arguments by which directories and files are empty."""
    flags = []
    for path in paths:
        if path.is_dir():
            flags += ["--tmpfs", str(path.resolve())]
        elif path.exists():
            flags += ["--ro-bind", os.devnull, str(path.resolve())]
    return flags


def _expanded(paths: Iterable[str]) -> list[Path]:
    return [Path(path).expanduser().absolute() for path in paths]


def _prefix(python: str) -> Path:
    """Return the directory of an interpreter's environment."""
    return Path(python).absolute().parent.parent


def _apart_from(python: str) -> list[Path]:
    """Return what this process is made of, as far as it is no part of an environment in which cells install packages.

    Where they share this one it is theirs to change, and what they put there is run by the next front.
    """
    theirs = _prefix(python)
    return [] if theirs == Path(sys.prefix) else [path for path in _made_of() if not theirs.is_relative_to(path)]


def _made_of() -> list[Path]:
    """Return the directories of which this process is made: they may be where cells write, or where all is empty."""
    return [path for path in dict.fromkeys(map(Path, (sys.prefix, *sys.path))) if path.is_absolute() and path.is_dir()]


def _room(directory: Path | None) -> list[str]:
    """Return the arguments for places to write where all else is as it is."""
    flags = []
    for path in _SCRATCH:
        flags += ["--tmpfs", path]
    for name, value in _IN_SCRATCH.items():
        flags += ["--setenv", name, value]
    if directory is not None and directory != Path("/"):
        flags += ["--bind", *[str(directory.resolve())] * 2]
    return flags


def _probe(prefix: Sequence[str], where: SandboxPaths) -> str:
    """Return why a program does not run behind ``prefix``; empty if it does, which is kept until the next boot."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    # What differs from kernel to kernel makes no difference.
    own = {str(path.resolve()) for path in (where.session, *where.secrets) if path is not None and not path.is_dir()}
    own |= {str(path.resolve()) for path in (where.session, where.directory) if path is not None}
    alike = [
        boot,
        str(Path(prefix[0]).stat().st_mtime),
        str(os.geteuid()),
        *(word for word in prefix if word not in own),
    ]
    key = "\0".join(alike)
    kept = where.home / _FILE
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(kept.read_text())[key])
    try:
        done = subprocess.run([*prefix, "true"], capture_output=True, timeout=_PROBE_TIMEOUT, check=False)  # noqa: S603
        why = done.stderr.decode("utf-8", "replace").strip()[:500] if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    if why:
        return why  # a person may mend it at any time
    with contextlib.suppress(OSError):
        unfinished = kept.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps({key: why}))
        unfinished.replace(kept)
    return why
