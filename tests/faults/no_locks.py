"""Runs a program for which no file system has locks: every call that locks a file fails with ``ENOLCK``.

``python no_locks.py PROGRAM [ARGUMENT ...]``. A filter of system calls does it, so SQLite meets it as well.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

#: The numbers of ``fcntl`` and ``flock``, by machine.
NUMBERS = {"x86_64": (72, 73), "aarch64": (25, 32)}
#: ``F_SETLK``, ``F_SETLKW``, ``F_OFD_SETLK``, ``F_OFD_SETLKW``.
LOCKING = (6, 7, 37, 38)
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000 | errno.ENOLCK
NUMBER, SECOND_ARGUMENT = 0, 24
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2


def instructions() -> list[tuple[int, int, int, int]]:
    """Return the filter: code, how many to skip if true, if false, and the operand."""
    fcntl, flock = NUMBERS[platform.machine()]
    commands = len(LOCKING)
    return [
        (LOAD, 0, 0, NUMBER),
        (JUMP_IF_EQUAL, commands + 3, 0, flock),
        (JUMP_IF_EQUAL, 0, commands + 1, fcntl),
        (LOAD, 0, 0, SECOND_ARGUMENT),
        *((JUMP_IF_EQUAL, commands - place, 0, command) for place, command in enumerate(LOCKING)),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, FAIL),
    ]


def refuse_locks() -> None:
    """Have all locks refused from now on, here and in every process that is started from here."""
    packed = b"".join(struct.pack("HBBI", *one) for one in instructions())
    code = ctypes.create_string_buffer(packed)
    program = struct.pack("HP", len(packed) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "no filter of system calls can be had")


if __name__ == "__main__":
    refuse_locks()
    os.execv(sys.argv[1], sys.argv[1:])
