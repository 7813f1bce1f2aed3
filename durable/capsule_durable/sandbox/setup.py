"""Set up the sandbox of a kernel: find out what works here, and create what must exist before its cells run."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from capsule_durable import ids
from capsule_durable.config.limits import PathRules
from capsule_durable.config.paths import SESSIONS, ensure
from capsule_durable.sandbox import bubblewrap, probe
from capsule_durable.sandbox.policy import Sandbox, SandboxPaths, plan, sandbox_paths

#: Directories that programs create in the home directory when they are first used. Without namespaces cells could not.
_USUAL_DIRECTORIES = (
    "~/.cache",
    "~/.config",
    "~/.ipython",
    "~/.jupyter",
    "~/.local/bin",
    "~/.local/lib",
    "~/.local/share",
)


def detect(profile: str, paths: SandboxPaths) -> Sandbox:
    """Return the sandbox that a profile means on this machine.

    Args:
        profile: one of ``policy.PROFILES``.
        paths: what is hidden from cells, and what they can read or write.
    """
    program = bubblewrap.find() if profile != "open" else None
    if program is None:
        return plan(profile, paths)
    prefix = bubblewrap.command(program, paths, restricted=profile == "restricted")
    return plan(profile, paths, prefix, probe.problem_of(prefix, paths), bubblewrap.scratch_directories(prefix))


def set_up(
    profile: str,
    connection_file: Path,
    home: Path,
    environ: Mapping[str, str],
    rules: PathRules | None = None,
    python: str = sys.executable,
    *,
    has_checkpoints: bool = True,
) -> tuple[Sandbox, str | None]:
    """Return the sandbox of a kernel's cells, and the id of the session whose directory they see.

    The id is None if the profile is ``open``, or if there are no checkpoints.

    Args:
        profile: one of ``policy.PROFILES``.
        connection_file: the kernel's connection file.
        home: the directory for data.
        environ: the environment.
        rules: the configured exceptions for paths.
        python: the interpreter that runs cells.
        has_checkpoints: whether checkpoints are configured.
    """
    if profile == "open":
        return Sandbox(profile), None
    session = ids.new_session_id(time.time())
    directory = home / SESSIONS / session
    paths = sandbox_paths(connection_file, home, directory, environ, Path.cwd(), rules, profile, python)
    try:
        for path in (home, home / SESSIONS, directory) if has_checkpoints else (home,):
            ensure(path)
    except OSError:
        has_checkpoints = False  # the catalogue reports why
    paths = paths if has_checkpoints else paths._replace(session=None)
    _create(paths.fixed[:2])  # only what exists can be made read-only
    sandbox = detect(profile, paths)
    if not sandbox.prefix:
        _create(Path(path).expanduser() for path in _USUAL_DIRECTORIES)
    return sandbox, session if has_checkpoints else None


def _create(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.mkdir(parents=True, exist_ok=True)
