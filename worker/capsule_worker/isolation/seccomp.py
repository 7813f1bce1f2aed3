"""A filter of system calls, which refuses those that attackers need and notebooks do not.

They are for: new namespaces and mounts (which open more attack surface), keys of the Linux kernel, programs for the
Linux kernel (BPF), its modules and performance counters, input and output that no filter sees (io_uring), unusual
families of sockets, and input into the terminals of other processes. The filter cannot be removed, and child processes
inherit it. See ``Documentation/userspace-api/seccomp_filter.rst`` of the Linux kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

#: For each machine: its number in a filter (``AUDIT_ARCH``), and the numbers of calls by name.
_MACHINES: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (
        0xC000003E,
        {
            "ioctl": 16,
            "socket": 41,
            "clone": 56,
            "syslog": 103,
            "pivot_root": 155,
            "acct": 163,
            "mount": 165,
            "umount2": 166,
            "swapon": 167,
            "swapoff": 168,
            "reboot": 169,
            "iopl": 172,
            "ioperm": 173,
            "init_module": 175,
            "delete_module": 176,
            "quotactl": 179,
            "kexec_load": 246,
            "add_key": 248,
            "request_key": 249,
            "keyctl": 250,
            "unshare": 272,
            "perf_event_open": 298,
            "open_by_handle_at": 304,
            "setns": 308,
            "finit_module": 313,
            "prlimit64": 302,
            "kexec_file_load": 320,
            "bpf": 321,
            "userfaultfd": 323,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "ioctl": 29,
            "umount2": 39,
            "mount": 40,
            "pivot_root": 41,
            "quotactl": 60,
            "acct": 89,
            "unshare": 97,
            "kexec_load": 104,
            "init_module": 105,
            "delete_module": 106,
            "syslog": 116,
            "reboot": 142,
            "socket": 198,
            "add_key": 217,
            "request_key": 218,
            "keyctl": 219,
            "clone": 220,
            "swapon": 224,
            "swapoff": 225,
            "perf_event_open": 241,
            "open_by_handle_at": 265,
            "setns": 268,
            "finit_module": 273,
            "prlimit64": 261,
            "bpf": 280,
            "userfaultfd": 282,
            "kexec_file_load": 294,
        },
    ),
}
#: Calls that have the same number on all machines.
_NEW = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "clone3": 435,
    "mount_setattr": 442,
    "quotactl_fd": 443,
}
#: Calls whose arguments are checked; all others of the above are refused.
_SPECIAL = ("ioctl", "socket", "clone", "clone3", "unshare", "prlimit64")
#: ``CLONE_NEW*``: user, pid, network, ipc, uts, cgroup and mount namespaces; for ``unshare`` also time namespaces.
_NAMESPACES, _TIMES = 0x7E020000, 0x80
#: ``TIOCSTI`` and ``TIOCLINUX``, which put input into a terminal.
_TYPING = (0x5412, 0x541C)
#: Unix, IPv4, IPv6, and netlink, by which programs look up the addresses of this machine.
_FAMILIES = (1, 2, 10, 16)
#: Calls of the x32 ABI of the same machine have this bit.
_X32 = 0x40000000

_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_NUMBER, _MACHINE, _FIRST, _SECOND = 0, 4, 16, 24
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2

Instruction = tuple[int, int, int, int]


def program(machine: str, *, alone: bool = False) -> list[Instruction]:
    """Return the filter: for each instruction its code, how many to skip if it is true, if not, and the operand.

    Args:
        machine: its name in ``os.uname()``.
        alone: whether the process has no namespaces of its own; the limits of other processes are protected then.

    Raises:
        OSError: the system calls of this machine are not known.
    """
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"the system calls of {machine} are not known")
    architecture, known = _MACHINES[machine]
    calls = known | _NEW
    refused = sorted(number for name, number in calls.items() if name not in _SPECIAL)
    return [
        (_LOAD, 0, 0, _MACHINE),
        (_EQUAL, 1, 0, architecture),
        _refuse(errno.ENOSYS),
        (_LOAD, 0, 0, _NUMBER),
        *([(_AT_LEAST, 0, 1, _X32), _refuse(errno.ENOSYS)] if machine == "x86_64" else []),
        *_each(refused, errno.EPERM),
        # Its flags are in memory, which a filter cannot read. Without it libraries use `clone`.
        *_each([calls["clone3"]], errno.ENOSYS),
        *_closer(calls["clone"], _FIRST, [(_ANY_BIT, _NAMESPACES)], errno.EPERM),
        *_closer(calls["unshare"], _FIRST, [(_ANY_BIT, _NAMESPACES | _TIMES)], errno.EPERM),
        *_closer(calls["ioctl"], _SECOND, [(_EQUAL, request) for request in _TYPING], errno.EPERM),
        *_closer(calls["socket"], _FIRST, [(_EQUAL, family) for family in _FAMILIES], errno.EAFNOSUPPORT, unless=True),
        *(_closer(calls["prlimit64"], _FIRST, [(_EQUAL, 0)], errno.EPERM, unless=True) if alone else []),
        (_RETURN, 0, 0, _ALLOW),
    ]


def enforce(*, alone: bool = False) -> None:
    """Refuse these calls from now on, in this process and its children.

    Args:
        alone: see ``program``.

    Raises:
        OSError: this system has no such filters; the text says why.
    """
    instructions = program(os.uname().machine, alone=alone)
    packed = b"".join(struct.pack("HBBI", *one) for one in instructions)
    code = ctypes.create_string_buffer(packed, len(packed))
    given = struct.pack("HP", len(instructions), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, given, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"the system accepts no filter of system calls ({errno.errorcode.get(number, number)})")


def _refuse(number: int) -> Instruction:
    return (_RETURN, 0, 0, _REFUSE | number)


def _each(calls: list[int], number: int) -> list[Instruction]:
    """Return instructions that refuse some calls. The number of the call is loaded, and stays loaded."""
    found: list[Instruction] = []
    for call in calls:
        found += [(_EQUAL, 0, 1, call), _refuse(number)]
    return found


def _closer(
    call: int, argument: int, tests: list[tuple[int, int]], number: int, *, unless: bool = False
) -> list[Instruction]:
    """Return instructions that refuse a call if one of the tests of an argument is true, or unless one is."""
    count = len(tests)
    # A true test jumps behind the last test, or beyond the instruction there.
    inside = [
        *((code, count - place, 0, operand) for place, (code, operand) in enumerate(tests)),
        *([] if unless else [(_RETURN, 0, 0, _ALLOW)]),
        _refuse(number),
        *([(_RETURN, 0, 0, _ALLOW)] if unless else []),
    ]
    return [(_EQUAL, 0, len(inside) + 1, call), (_LOAD, 0, 0, argument), *inside]
