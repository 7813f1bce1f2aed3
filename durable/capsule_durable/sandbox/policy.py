"""The policy of the sandbox: from a profile and its paths to a plan. Pure: it starts no process and creates no file.

``setup`` finds out what works on this machine, and carries the plan out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from capsule_durable.config.limits import PathRules
from capsule_durable.config.paths import configuration

#: The profiles that a user may choose.
PROFILES = ("notebook", "restricted", "open")
#: Devices that cells may use besides the harmless ones: GPUs and other accelerators. Patterns of names in /dev.
DEVICES = ("nvidia*", "dri", "kfd", "accel*", "dxg", "habanalabs")
#: Where programs keep keys. The profile ``restricted`` hides these from cells unless ``hidden_paths`` is set.
KEYS = (
    *("~/.ssh", "~/.gnupg", "~/.netrc", "~/.pgpass", "~/.git-credentials", "~/.pypirc", "~/.npmrc"),
    *("~/.aws", "~/.azure", "~/.boto", "~/.config/gcloud", "~/.databrickscfg", "~/.kaggle", "~/.oci", "~/.snowflake"),
    *("~/.config/gh", "~/.config/rclone", "~/.docker", "~/.kube", "~/.s3cfg", "~/.vault-token"),
    *("~/.cache/huggingface/token", "~/.huggingface"),
)
#: What fixes the layers that forkservers apply.
_FIXES = {
    "scopes": "use Linux 6.12 or newer, with Landlock among its security modules",
    "files": "install bubblewrap; or start notebooks in a directory of their own",
    "system calls": "use a Linux with CONFIG_SECCOMP_FILTER on x86_64 or aarch64",
}
_INSTALL_BUBBLEWRAP = "install bubblewrap (apt-get install bubblewrap, dnf install bubblewrap)"
_ALLOW_NAMESPACES = (
    "allow user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)"
)


class SandboxRefused(OSError):
    """A layer that the profile requires is missing, so nothing is started. The message says why, and what to do."""


class Layer(NamedTuple):
    """A part of the sandbox.

    Args:
        name: its name, in the plural.
        why: why it is missing; empty if it is active.
        fix: what would make it active.
    """

    name: str
    why: str = ""
    fix: str = ""

    @property
    def is_active(self) -> bool:
        """Whether the layer is active."""
        return not self.why


class Sandbox(NamedTuple):
    """The sandbox of workers.

    Args:
        profile: one of ``PROFILES``.
        layers: the layers of this profile that the front applies.
        prefix: the words before the command that starts a forkserver.
        confinement: what the forkserver gives up, as ``capsule_worker.isolation.self_sandboxing`` reads it; None for
            nothing.
        scratch: directories inside the sandbox that are in memory.
    """

    profile: str
    layers: tuple[Layer, ...] = ()
    prefix: tuple[str, ...] = ()
    confinement: str | None = None
    scratch: tuple[str, ...] = ()

    def check(self) -> None:
        """Check that every layer is active that the profile requires.

        Raises:
            SandboxRefused: a layer of the profile ``restricted`` is missing.
        """
        for layer in self.layers:
            if self.profile == "restricted" and not layer.is_active:
                raise SandboxRefused(
                    f"the profile restricted does not work here, because {layer.name} are missing: {layer.why}. To fix"
                    f" that, {layer.fix}; or choose another profile"
                )

    def summary(self, more: Iterable[Layer] = ()) -> str:
        """Return in one line which layers are active, and why others are missing.

        Args:
            more: the layers that a forkserver has reported.
        """
        if self.profile == "open":
            return "open (no sandbox: cells run with all your rights, in processes of their own)"
        layers = [*self.layers, *more]
        active = ", ".join(layer.name for layer in layers if layer.is_active)
        missing = [f"{layer.name} are missing: {layer.why}" for layer in layers if not layer.is_active]
        return f"{self.profile} ({'; '.join([*([f'{active}: active'] if active else []), *missing])})"


def reported_layer(name: str, why: str) -> Layer:
    """Return a layer that a forkserver has reported.

    Args:
        name: its name.
        why: why it is missing; empty if it is active.
    """
    return Layer(name, why, _FIXES.get(name, "") if why else "")


class SandboxPaths(NamedTuple):
    """Directories and files, as absolute paths. Where two fields contradict each other, the later one applies.

    Args:
        home: the directory for data, always hidden from cells.
        session: the part of it that is visible, because the worker writes checkpoints there; None for nothing.
        secrets: other directories and files that are always hidden.
        fixed: directories that cells can read but never write.
        directory: the working directory. In the profile ``restricted`` cells can write there, and nowhere else.
        hidden: directories and files that are hidden by default.
        readable: parts of these that cells can read.
        writable: paths that cells can write to.
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
    """Return which paths are hidden from the cells of a kernel, and which they can read or write.

    Args:
        connection_file: the kernel's connection file, with its key.
        home: the directory for data.
        session: the session's directory in it; None without checkpoints.
        environ: the environment.
        directory: the working directory of cells.
        rules: the configured exceptions.
        profile: one of ``PROFILES``.
        python: the interpreter that runs cells.
    """
    rules = rules or PathRules()
    keys, own = (KEYS, [*_own_code(), _environment(python)]) if profile == "restricted" else ((), _foreign_code(python))
    data = Path(environ.get("JUPYTER_DATA_DIR") or "~/.local/share/jupyter").expanduser()
    runtime = Path(environ.get("JUPYTER_RUNTIME_DIR") or data / "runtime")
    return SandboxPaths(
        home=home,
        session=session,
        # The connection files of other kernels, the tokens of servers, and this kernel's file, wherever it is.
        secrets=[runtime, connection_file.absolute()],
        # These start the next kernel, outside of any sandbox.
        fixed=[data / "kernels", configuration(environ), *own],
        directory=directory,
        hidden=[Path("/run"), *_expand(rules.hidden if rules.hidden is not None else keys)],
        readable=_expand(rules.readable),
        writable=_expand(rules.writable),
    )


def plan(
    profile: str, paths: SandboxPaths, prefix: Sequence[str] = (), problem: str = "", scratch: Sequence[str] = ()
) -> Sandbox:
    """Return the sandbox that a profile means on a machine.

    Args:
        profile: one of ``PROFILES``.
        paths: what is hidden from cells, and what they can read or write.
        prefix: the command that creates namespaces; empty if no program for that is installed.
        problem: why that command does not work here; empty if it works.
        scratch: directories that the command puts in memory.
    """
    if profile == "open":
        return Sandbox(profile)
    if not prefix or problem:
        why, fix = (problem, _ALLOW_NAMESPACES) if prefix else ("bubblewrap is not installed", _INSTALL_BUBBLEWRAP)
        return Sandbox(profile, (Layer("namespaces", why, fix),), confinement=_without_namespaces(paths))
    required = ["system calls"] if profile == "restricted" else []
    confinement = json.dumps({"required": required})
    return Sandbox(profile, (Layer("namespaces"),), tuple(prefix), confinement, tuple(scratch))


def _without_namespaces(paths: SandboxPaths) -> str:
    """Return as JSON the access that a forkserver gives up if it has no namespaces of its own."""
    session = [paths.session] if paths.session is not None else []
    given_up: dict[str, object] = {
        "hidden": [paths.home, *paths.secrets, *paths.hidden],
        "fixed": [*paths.fixed, *paths.readable],
        "shown": [*session, *paths.writable],
        "directory": paths.directory or Path.cwd(),
        "devices": DEVICES,
    }
    return json.dumps(given_up, default=str)


def _expand(paths: Iterable[str]) -> list[Path]:
    return [Path(path).expanduser().absolute() for path in paths]


def _environment(python: str) -> Path:
    """Return the directory of an interpreter's environment."""
    return Path(python).absolute().parent.parent


def _foreign_code(python: str) -> list[Path]:
    """Return the directories of this process's code that are not part of the environment of cells.

    Where cells share this environment they install packages there, and the next front runs what they install.
    """
    theirs = _environment(python)
    return [] if theirs == Path(sys.prefix) else [path for path in _own_code() if not theirs.is_relative_to(path)]


def _own_code() -> list[Path]:
    """Return the directories of this process's code. Cells could otherwise write there, or find them empty."""
    return [path for path in dict.fromkeys(map(Path, (sys.prefix, *sys.path))) if path.is_absolute() and path.is_dir()]
