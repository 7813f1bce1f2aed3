"""Hints for errors that a limit or the sandbox of the kernel caused, which their own text does not say."""

from __future__ import annotations

import errno
import os
import resource
import socket
from pathlib import Path

from capsule_worker.isolation import resource_limits

#: Environment variables: the names of the variables that are hidden from cells; the profile of the sandbox; and the
#: directories in which nothing new can be made. See ``capsule_durable.workers.launcher`` and ``self_sandboxing``.
HIDDEN_ENVIRONMENT, PROFILE, CLOSED = "CAPSULE_HIDDEN_ENVIRONMENT", "CAPSULE_ISOLATION", "CAPSULE_CLOSED"
_NO_NETWORK = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL}


def hints(error: BaseException) -> list[str]:
    """Return lines to show below an error that a limit or the sandbox caused, or may have caused.

    Args:
        error: what the cell raised.
    """
    hint = None
    if type(error) is KeyError and error.args and error.args[0] in os.environ.get(HIDDEN_ENVIRONMENT, "").split():
        hint = (
            f"the variable {error.args[0]} is hidden from cells, because it is not one of the usual ones, and may be a"
            f" key. To pass it to cells, add it to the setting pass_environment (capsule.toml:"
            f' pass_environment = ["{error.args[0]}"]), and restart the kernel.'
        )
    elif (
        isinstance(error, MemoryError)
        and not str(error)
        and (limit := resource_limits.of_cells(resource.RLIMIT_DATA)) is not None
    ):
        hint = f"a process may allocate {limit / 1e9:,.2f} GB of memory. The setting memory_limit changes that."
    elif isinstance(error, OSError):
        hint = _hint_for_os_error(error)
    return [f"capsule: {hint}"] if hint is not None else []


def _hint_for_os_error(error: OSError) -> str | None:
    hint = _hint_for_limit(error)
    if hint is None and os.environ.get(PROFILE) == "restricted":
        hint = _hint_for_restriction(error)
    if hint is None and error.errno in (errno.EACCES, errno.EPERM) and _is_closed(error.filename):
        hint = (
            f"nothing new can be made directly in {Path(error.filename).parent}, because the kernel keeps its own files"
            " below it. Use another directory, make the file outside the notebook, or install bubblewrap."
        )
    return hint


def _hint_for_limit(error: OSError) -> str | None:
    if error.errno == errno.EFBIG and (limit := resource_limits.of_cells(resource.RLIMIT_FSIZE)) is not None:
        return f"a file may be {limit / 1e9:,.2f} GB large. The setting file_size_limit changes that."
    if error.errno == errno.EMFILE and (limit := resource_limits.of_cells(resource.RLIMIT_NOFILE)) is not None:
        return f"a process may have {limit:,} files open. The setting open_file_limit may change that."
    if isinstance(error, BlockingIOError) and (limit := resource_limits.of_cells(resource.RLIMIT_NPROC)) is not None:
        return f"cells may have {limit:,} processes and threads. The setting process_limit changes that."
    return None


def _hint_for_restriction(error: OSError) -> str | None:
    if error.errno == errno.EROFS:
        return (
            "in the profile restricted cells can write to the directory that the kernel was started in, and to"
            " temporary files. The setting writable_paths adds others."
        )
    if error.errno in _NO_NETWORK or isinstance(error, socket.gaierror):
        return "in the profile restricted cells have no network."
    return None


def _is_closed(name: object) -> bool:
    return isinstance(name, str) and str(Path(name).absolute().parent) in os.environ.get(CLOSED, "").split(os.pathsep)
