"""Find out whether a sandbox works on this machine. A success is remembered until the next boot."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from capsule_durable.sandbox.policy import SandboxPaths

#: Seconds that a program may take that does nothing.
TIMEOUT = 10.0
#: The file in the directory for data that remembers the success.
FILE_NAME = "sandbox.json"


def problem_of(prefix: Sequence[str], paths: SandboxPaths) -> str:
    """Return why a program cannot be started with a prefix; empty if it can.

    Args:
        prefix: the words before the program's command.
        paths: the paths from which the prefix was made.
    """
    key = _key(prefix, paths)
    file = paths.home / FILE_NAME
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(file.read_text())[key])
    try:
        done = subprocess.run([*prefix, "true"], capture_output=True, timeout=TIMEOUT, check=False)  # noqa: S603
        problem = done.stderr.decode("utf-8", "replace").strip()[:500] if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        return problem  # not remembered: the user may fix it at any time
    with contextlib.suppress(OSError):
        unfinished = file.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps({key: problem}))
        unfinished.replace(file)
    return problem


def _key(prefix: Sequence[str], paths: SandboxPaths) -> str:
    """Return the key of the result: the boot, the program, the user, and the prefix without the kernel's paths."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    own = [path for path in (paths.session, paths.directory) if path is not None]
    own += [path for path in paths.secrets if not path.is_dir()]
    names = {str(path.resolve()) for path in own}
    words = [word for word in prefix if word not in names]
    return "\0".join([boot, str(Path(prefix[0]).stat().st_mtime), str(os.geteuid()), *words])
