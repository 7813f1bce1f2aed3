"""Runs a program on a system that lacks something: the calls for it fail, as they do where it does not exist.

``python without.py THING PROGRAM [ARGUMENT ...]``, where ``THING`` is one of ``THINGS``. A filter of system calls does
it, so all that the program starts meets it as well.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

#: The numbers of system calls, by machine.
CALLS = {
    "x86_64": {"clone": 56, "fcntl": 72, "flock": 73, "prctl": 157, "unshare": 272, "seccomp": 317},
    "aarch64": {"clone": 220, "fcntl": 25, "flock": 32, "prctl": 167, "unshare": 97, "seccomp": 277},
}[platform.machine()]
LANDLOCK = 444
#: ``F_SETLK``, ``F_SETLKW``, ``F_OFD_SETLK``, ``F_OFD_SETLKW``.
LOCKING = (6, 7, 37, 38)
NEW_USER, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 0x10000000, 38, 22
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000
NUMBER, FIRST, SECOND = 0, 16, 24

Instruction = tuple[int, int, int, int]


def refuse(call: int, number: int) -> list[Instruction]:
    """Have a call fail with an error's number."""
    return [(EQUAL, 0, 1, call), (RETURN, 0, 0, FAIL | number)]


def refuse_if(call: int, argument: int, code: int, operand: int, number: int) -> list[Instruction]:
    """Have a call fail if a test of one of its arguments is true."""
    inside = [(LOAD, 0, 0, argument), (code, 0, 1, operand), (RETURN, 0, 0, FAIL | number), (LOAD, 0, 0, NUMBER)]
    return [(EQUAL, 0, len(inside), call), *inside]


#: For each thing what fails where it does not exist.
THINGS: dict[str, list[Instruction]] = {
    # A file system.
    "locks": [
        *refuse(CALLS["flock"], errno.ENOLCK),
        *(one for command in LOCKING for one in refuse_if(CALLS["fcntl"], SECOND, EQUAL, command, errno.ENOLCK)),
    ],
    # A container, or a system whose administrator does not want them.
    "namespaces": [
        *refuse_if(CALLS["clone"], FIRST, ANY_BIT, NEW_USER, errno.EPERM),
        *refuse_if(CALLS["unshare"], FIRST, ANY_BIT, NEW_USER, errno.EPERM),
    ],
    # A kernel without CONFIG_SECCOMP_FILTER.
    "system calls": [
        *refuse_if(CALLS["prctl"], FIRST, EQUAL, PR_SET_SECCOMP, errno.EINVAL),
        *refuse(CALLS["seccomp"], errno.ENOSYS),
    ],
    # One before Linux 5.13.
    "landlock": refuse(LANDLOCK, errno.ENOSYS),
}


def do_without(thing: str) -> None:
    """Have it missing from now on, here and in every process that is started from here."""
    instructions = [(LOAD, 0, 0, NUMBER), *THINGS[thing], (RETURN, 0, 0, ALLOW)]
    packed = b"".join(struct.pack("HBBI", *one) for one in instructions)
    code = ctypes.create_string_buffer(packed, len(packed))
    program = struct.pack("HP", len(instructions), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, 2, program, 0, 0):
        raise OSError(ctypes.get_errno(), "no filter of system calls can be had")


if __name__ == "__main__":
    do_without(sys.argv[1])
    os.execv(sys.argv[2], sys.argv[2:])
