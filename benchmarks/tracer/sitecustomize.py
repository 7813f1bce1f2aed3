"""Record the calls of Capsule's functions in this process, for ``trace_cell.py``, which puts this folder on PYTHONPATH.

Python imports a module of this name first, so every process of a kernel records itself: the front, the forkserver and,
since a profile function survives a fork, the workers.

A line of a record is ``NANOSECONDS<tab>KIND<tab>FILE<tab>FUNCTION``. The clock is CLOCK_MONOTONIC, which all processes
share. ``KIND`` is one of

- ``call``: a function was called, or a coroutine or generator started;
- ``resume``: a coroutine or generator continued after a pause;
- ``message``: a message of Capsule's protocol left through a socket; ``FUNCTION`` is the name of its class;
- ``jupyter``: a message was given to Jupyter's session to send; ``FUNCTION`` is its type.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from itertools import pairwise
from types import FrameType
from typing import Any

#: The directory for the records. Without it, this module does nothing.
DIRECTORY = os.environ.get("TRACE_CELL_DIRECTORY")
#: The methods of sockets that send bytes.
SENDING = frozenset({"send", "sendall", "sendmsg"})
#: CO_GENERATOR, CO_COROUTINE and CO_ASYNC_GENERATOR. To import ``inspect`` would make the start slow.
GENERATORS = 0x20 | 0x80 | 0x200

#: The folders that our import packages are in: of a checkout, and of an environment.
PARENTS = frozenset({"kernel", "durable", "worker", "site-packages"})

_names: dict[str, str] = {}


def name_of(filename: str) -> str:
    """Return the path of a source file from its import package on, such as ``capsule_kernel/app.py``.

    Args:
        filename: the path that a code object has.

    Returns:
        An empty string if the file is in none of our import packages.
    """
    name = _names.get(filename)
    if name is None:
        folders = filename.split("/")
        # A checkout, with its environment, may itself be in a folder of such a name.
        ours = [
            n
            for n, (parent, folder) in enumerate(pairwise(folders[:-1]), 1)
            if parent in PARENTS and (folder == "capsule" or folder.startswith("capsule_"))
        ]
        name = _names[filename] = "/".join(folders[ours[-1] :]) if ours and filename.endswith(".py") else ""
    return name


def record(frame: FrameType, event: str, argument: Any) -> None:
    """Append an event to the record of this process. This is the function for ``sys.setprofile``."""
    code = frame.f_code
    if event == "call":
        name = name_of(code.co_filename)
        if name:
            _write("resume" if code.co_flags & GENERATORS and _is_resumed(frame) else "call", name, code.co_qualname)
        elif code.co_name == "send" and code.co_filename.endswith("jupyter_client/session.py"):
            _write("jupyter", "", str(frame.f_locals.get("msg_or_type")))
    elif event == "c_call" and argument.__name__ in SENDING and hasattr(argument.__self__, "recv_into"):
        message = _message_on_stack(frame)
        if message:
            _write("message", "", message)


def _is_resumed(frame: FrameType) -> bool:
    """Return whether a generator continues after a pause. The argument of RESUME is 0 at its start (see ``dis``)."""
    return frame.f_lasti >= 0 and frame.f_code.co_code[frame.f_lasti + 1] & 3 != 0


def _message_on_stack(stack: FrameType | None) -> str:
    """Return the class of the protocol message that a function on the stack has; empty if none has one."""
    frame = stack
    while frame is not None:
        if name_of(frame.f_code.co_filename):
            for value in frame.f_locals.values():
                kind = type(value)
                if kind.__name__.endswith("Message") and kind.__module__.startswith("capsule_"):
                    return kind.__name__
        frame = frame.f_back
    return ""


def _write(kind: str, file: str, function: str) -> None:
    """Append a line. The file is opened for each line because workers close descriptors that they do not know."""
    line = f"{time.monotonic_ns()}\t{kind}\t{file}\t{function}\n"
    fd = os.open(f"{DIRECTORY}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.write(fd, line.encode())
    os.close(fd)


if DIRECTORY:
    threading.setprofile(record)
    sys.setprofile(record)
