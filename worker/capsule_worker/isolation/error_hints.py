"""What there is to say to who has met a limit of the kernel's, and cannot know that it is one."""

from __future__ import annotations

import errno
import os
import resource
import socket
from pathlib import Path

from capsule_worker.isolation import resource_limits

#: Environment variables: the names of those which cells do not get; the profile of the sandbox; and the directories in
#: which nothing new can be made. See ``capsule_durable.workers.launcher`` and
#: ``capsule_worker.isolation.self_sandboxing``.
HIDDEN_ENVIRONMENT, PROFILE, CLOSED = "CAPSULE_HIDDEN_ENVIRONMENT", "CAPSULE_ISOLATION", "CAPSULE_CLOSED"
_NO_NETWORK = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL}


def hints(error: BaseException) -> list[str]:
    """Return lines to show below an error that is a limit's doing, or may be."""
    hint = None
    if type(error) is KeyError and error.args and error.args[0] in os.environ.get(HIDDEN_ENVIRONMENT, "").split():
        hint = (
            f"cells do not get the variable {error.args[0]}, which is not one of the usual ones, and may be a key. To"
            f" hand it on, add it to the setting pass_environment (capsule.toml:"
            f' pass_environment = ["{error.args[0]}"]), and restart the kernel.'
        )
    elif (
        isinstance(error, MemoryError)
        and not str(error)
        and (limit := resource_limits.of_cells(resource.RLIMIT_DATA)) is not None
    ):
        hint = f"a process may ask for {limit / 1e9:,.2f} GB of memory. The setting memory_limit changes that."
    elif isinstance(error, OSError):
        hint = _about_the_system(error)
    return [f"capsule: {hint}"] if hint is not None else []


def _about_the_system(error: OSError) -> str | None:
    hint = _about_limits(error)
    if hint is None and os.environ.get(PROFILE) == "restricted":
        hint = _about_restrictions(error)
    if hint is None and error.errno in (errno.EACCES, errno.EPERM) and _is_closed(error.filename):
        hint = (
            f"nothing new can be made directly in {Path(error.filename).parent}, since the kernel keeps files of its"
            " own somewhere below it. Make it in another directory, outside of the notebook; or install bubblewrap."
        )
    return hint


def _about_limits(error: OSError) -> str | None:
    if error.errno == errno.EFBIG and (limit := resource_limits.of_cells(resource.RLIMIT_FSIZE)) is not None:
        return f"a file may get {limit / 1e9:,.2f} GB large. The setting file_size_limit changes that."
    if error.errno == errno.EMFILE and (limit := resource_limits.of_cells(resource.RLIMIT_NOFILE)) is not None:
        return f"a process may have {limit:,} files open. The setting open_file_limit may change that."
    if isinstance(error, BlockingIOError) and (limit := resource_limits.of_cells(resource.RLIMIT_NPROC)) is not None:
        return f"cells may have {limit:,} processes and threads. The setting process_limit changes that."
    return None


def _about_restrictions(error: OSError) -> str | None:
    if error.errno == errno.EROFS:
        return (
            "in the profile restricted cells write to the directory that the kernel was started in, and to temporary"
            " files. The setting writable_paths adds others."
        )
    if error.errno in _NO_NETWORK or isinstance(error, socket.gaierror):
        return "in the profile restricted cells have no network."
    return None


def _is_closed(name: object) -> bool:
    return isinstance(name, str) and str(Path(name).absolute().parent) in os.environ.get(CLOSED, "").split(os.pathsep)
