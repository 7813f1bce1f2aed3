"""Attempts to get at the kernel, and at the machine, from a cell.

Each is code that prints ``ESCAPED`` where it succeeds. What it knows of the host is given to it: a person who writes a
cell can know that, too. None does any harm where it succeeds.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field

#: What stops attempts. ``user``: that one is not root. ``process``: what the front does for itself, which does not stop
#: root. The others are layers, and parts of the profile ``restricted``.
NAMESPACES, FILES, SCOPES, CALLS, CAPABILITIES = "namespaces", "files", "scopes", "system calls", "capabilities"
ENVIRONMENT, NETWORK, READ_ONLY, HIDDEN, USER, PROCESS, ALWAYS = (
    "environment",
    "network",
    "read-only",
    "hidden paths",
    "user",
    "process",
    "always",
)
#: Each of Landlock's layers forbids looking into processes outside.
LOOKING = frozenset({NAMESPACES, FILES, SCOPES, PROCESS})


@dataclass(frozen=True)
class Attempt:
    """An attempt.

    Args:
        what: in words.
        code: the cell. ``{connection}`` is the connection file, ``{front}`` the front's process id, ``{home}`` the
            directory for data, ``{person}`` the person's home directory, and so on; see ``sandboxes``.
        stopped_by: any of these stops it.
        sound: whether it succeeds somewhere, if nothing stops it: not what this machine has no use for anyway.
    """

    what: str
    code: str
    stopped_by: frozenset[str] = field(default_factory=lambda: frozenset({NAMESPACES}))
    sound: bool = True


def _call(what: str, number: int, arguments: str, *, sound: bool = True) -> Attempt:
    """Return an attempt to make a system call, which is to be refused for what it is and not for its arguments."""
    code = (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"result = libc.syscall({number}, {arguments})\n"
        f"if {number} == 56 and result == 0: libc._exit(0)\n"
        "print('ESCAPED' if result >= 0 or ctypes.get_errno() not in (1, 38) else '')"
    )
    return Attempt(what, code, frozenset({CALLS}), sound)


_SECRET = frozenset({NAMESPACES, FILES})
KERNEL = [
    Attempt("read the connection file", "print('ESCAPED' if open({connection!r}).read(1) else '')", _SECRET),
    Attempt(
        "read it through a symbolic link",
        "import os, tempfile\nlink = tempfile.mktemp()\nos.symlink({connection!r}, link)\n"
        "try: print('ESCAPED' if open(link).read(1) else '')\nfinally: os.unlink(link)",
        _SECRET,
    ),
    Attempt(
        "read it through a hard link",
        "import os\nlink = {person!r} + '/link'\nos.link({connection!r}, link)\n"
        "try: print('ESCAPED' if open(link).read(1) else '')\nfinally: os.unlink(link)",
        _SECRET | {READ_ONLY},
    ),
    Attempt(
        "read it through /proc/*/root",
        "import glob\nfor root in glob.glob('/proc/*/root'):\n    try:\n"
        "        print('ESCAPED' if open(root + {connection!r}).read(1) else '')\n    except OSError: pass",
        _SECRET,
    ),
    Attempt(
        "read it through a relative path",
        "import os\nbefore = os.getcwd()\nos.chdir(os.path.dirname({connection!r}))\n"
        "try: print('ESCAPED' if open(os.path.basename({connection!r})).read(1) else '')\nfinally: os.chdir(before)",
        _SECRET,
    ),
    Attempt(
        "find its path in the arguments of processes",
        # Processes end while they are looked at.
        "import glob\nfor one in glob.glob('/proc/*/cmdline'):\n    try:\n"
        "        if {connection!r}.encode() in open(one, 'rb').read(): print('ESCAPED', one)\n"
        "    except OSError: pass",
    ),
    Attempt("read the front's environment", "print('ESCAPED', len(open('/proc/{front}/environ').read()))", LOOKING),
    Attempt("open the front's memory", "open('/proc/{front}/mem', 'rb')\nprint('ESCAPED')", LOOKING),
    Attempt(
        "read the front's memory with process_vm_readv",
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "class Vector(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]\n"
        "buffer = ctypes.create_string_buffer(1)\nhere, there = Vector(ctypes.addressof(buffer), 1), Vector(1, 1)\n"
        "libc.process_vm_readv({front}, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)\n"
        "print('ESCAPED' if ctypes.get_errno() == 14 else '')",  # the address is wrong, and that was looked at
        LOOKING,
    ),
    Attempt("list the front's open files", "import os\nprint('ESCAPED', os.readlink('/proc/{front}/fd/0'))", LOOKING),
    Attempt(
        "take a file descriptor from the front",
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nprocess = os.pidfd_open({front})\n"
        "print('ESCAPED' if libc.syscall(438, process, 0, 0) >= 0 else '')",
        LOOKING,
    ),
    Attempt(
        "trace the front",
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "print('ESCAPED' if libc.ptrace(0x4206, {front}, 0, 0) == 0 else '')",
        LOOKING,
    ),
    Attempt(
        "send the front a signal", "import os\nos.kill({front}, 0)\nprint('ESCAPED')", frozenset({NAMESPACES, SCOPES})
    ),
    Attempt(
        "change the front's limits",
        "import resource\nlimit = resource.prlimit({front}, resource.RLIMIT_NOFILE)\n"
        "resource.prlimit({front}, resource.RLIMIT_NOFILE, limit)\nprint('ESCAPED')",
        frozenset({NAMESPACES, CALLS}),
    ),
    Attempt(
        "enter the front's namespaces",
        "import os\nos.setns(os.open('/proc/{front}/ns/uts', os.O_RDONLY))\nprint('ESCAPED')",
        LOOKING | {CALLS, USER},
    ),
    Attempt("read the store", "print('ESCAPED' if open({home!r} + '/store', 'rb').read(1) else '')", _SECRET),
    Attempt("empty the store", "import os\nos.truncate({home!r} + '/store', 8)\nprint('ESCAPED')", _SECRET),
    Attempt(
        "move the store",
        "import os\nos.rename({home!r} + '/store', {home!r} + '/other')\n"
        "os.rename({home!r} + '/other', {home!r} + '/store')\nprint('ESCAPED')",
        _SECRET,
    ),
    Attempt("list the store", "import os\nprint('ESCAPED' if 'store' in os.listdir({home!r}) else '')"),
    Attempt("read another session's checkpoints", "print('ESCAPED', open({other!r}).read())", _SECRET),
    Attempt(
        "list other sessions",
        "import os\nprint('ESCAPED' if 'another' in os.listdir({home!r} + '/sessions') else '')",
    ),
    Attempt(
        "unmount the cover of the store",
        "import subprocess\nsubprocess.run(['umount', {home!r}], check=True)\nprint('ESCAPED')",
        sound=False,
    ),
    Attempt(
        "unmount the cover of the store in a new namespace",
        "import subprocess\n"
        "done = subprocess.run(['unshare', '-Urm', 'sh', '-c', 'umount {home}; cat {home}/store'],\n"
        "    capture_output=True, text=True)\nprint('ESCAPED' if 'promises' in done.stdout else '')",
        _SECRET | {CALLS},
    ),
    Attempt(
        "plant a kernelspec",
        "import os\nos.makedirs({kernels!r} + '/planted')\nos.rmdir({kernels!r} + '/planted')\nprint('ESCAPED')",
        _SECRET | {READ_ONLY},
    ),
    Attempt(
        "change the configuration",
        "import os\npath = {person!r} + '/.config/capsule/capsule.toml'\nopen(path, 'x').close()\nos.unlink(path)\n"
        "print('ESCAPED')",
        _SECRET | {READ_ONLY},
    ),
    Attempt(
        "send the kernel a request without its key",
        "import json, zmq\nwith zmq.Context() as context, context.socket(zmq.DEALER) as sock:\n"
        "    sock.linger = 0\n    sock.connect('tcp://127.0.0.1:{shell_port}')\n"
        "    header = json.dumps(dict(msg_id='1', msg_type='kernel_info_request', session='x', username='x',\n"
        "        date='2020-01-01T00:00:00Z', version='5.4'))\n"
        "    sock.send_multipart([b'<IDS|MSG>', b'0' * 64, header.encode(), b'{{}}', b'{{}}', b'{{}}'])\n"
        "    print('ESCAPED' if sock.poll(500) else '')",
        frozenset({ALWAYS}),
        sound=False,
    ),
    Attempt(
        "use a file descriptor that was left open",
        # The process of cells has what writes its own session's checkpoints: their lock, and while a thread writes one,
        # its files. It has nothing else of the home.
        "import os, re\nfor fd in os.listdir('/proc/self/fd'):\n    try: target = os.readlink('/proc/self/fd/' + fd)\n"
        "    except OSError: continue\n    own = re.escape({home!r}) + '/sessions/(?!another/)[^/]+'\n"
        "    own += '/(writers[.]lock|(incoming|packs)(/.*)?)'\n"
        "    if {home!r} in target and not re.fullmatch(own, target):\n        print('ESCAPED', target)",
        frozenset({ALWAYS}),
        sound=False,
    ),
    Attempt(
        "find a key in the environment",
        "import contextlib, glob\nfor one in glob.glob('/proc/*/environ'):\n    with contextlib.suppress(OSError):\n"
        "        print('ESCAPED' if b'the-secret' in open(one, 'rb').read() else '')",
        frozenset({ENVIRONMENT}),
    ),
]
MACHINE = [
    Attempt(
        "connect to a system service",
        "import socket\nsocket.socket(socket.AF_UNIX).connect({service!r})\nprint('ESCAPED')",
    ),
    Attempt(
        "connect to an abstract socket",
        "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0' + {abstract!r})\nprint('ESCAPED')",
        frozenset({SCOPES, NETWORK}),
    ),
    Attempt("read the shared memory of other processes", "print('ESCAPED', open({shm!r}).read())"),
    Attempt(
        "attach the System V shared memory of other processes",
        "import ctypes\nprint('ESCAPED' if ctypes.CDLL(None).shmget({key}, 0, 0) >= 0 else '')",
    ),
    Attempt(
        "list all processes",
        "import os\nprint('ESCAPED' if any(n == '{outside}' for n in os.listdir('/proc')) else '')",
    ),
    Attempt(
        "change the core dump pattern",
        "path = '/proc/sys/kernel/core_pattern'\ntext = open(path).read()\nopen(path, 'w').write(text)\n"
        "print('ESCAPED')",
        frozenset({NAMESPACES, FILES, USER}),
    ),
    Attempt(
        "change a system setting",
        "path = '/sys/kernel/mm/ksm/run'\ntext = open(path).read()\nopen(path, 'w').write(text)\nprint('ESCAPED')",
        frozenset({NAMESPACES, FILES, USER}),
    ),
    Attempt(
        "read a disk device",
        "import os, glob, stat\nfor path in glob.glob('/dev/*'):\n"
        "    if stat.S_ISBLK(os.stat(path).st_mode):\n        print('ESCAPED', open(path, 'rb').read(1))",
        frozenset({NAMESPACES, FILES, USER}),
        sound=False,
    ),
    Attempt(
        "read the machine's memory",
        "print('ESCAPED', open('/dev/mem', 'rb').read(1))",
        frozenset({NAMESPACES, FILES, USER}),
        sound=False,
    ),
    Attempt(
        "hold a capability",
        "print('ESCAPED' if int(open('/proc/self/status').read().split('CapEff:')[1].split()[0], 16) else '')",
        frozenset({NAMESPACES, CAPABILITIES, USER}),
    ),
    Attempt(
        "gain privileges through a setuid program",
        "print('ESCAPED' if open('/proc/self/status').read().split('NoNewPrivs:')[1].split()[0] != '1' else '')",
        frozenset({NAMESPACES, FILES, SCOPES, CALLS}),
    ),
    Attempt(
        "open a socket to the host of a virtual machine",
        "import socket\nsocket.socket(40, 1)\nprint('ESCAPED')",
        frozenset({CALLS}),
        sound=False,
    ),
    Attempt(
        "type into a terminal",
        "import errno, fcntl, os\nours, theirs = os.openpty()\n"
        "try:\n    fcntl.ioctl(theirs, 0x5412, b'x')\n    print('ESCAPED')\n"
        "except OSError as error:\n    print('ESCAPED' if error.errno not in (errno.EPERM, errno.EIO) else '')",
        frozenset({CALLS}),
        sound=False,
    ),
    *(
        [
            _call("create a namespace", 272, "0x10000000"),
            _call("start a child in its own namespace", 56, "0x10000011, 0, 0, 0, 0"),
            _call("use the keyring of Linux", 250, "0, -4, 0"),
            _call("load a BPF program", 321, "0, 0, 0"),
            _call("use performance counters", 298, "0, 0, -1, -1, 0"),
            _call("use io_uring", 425, "8, 0", sound=False),
            _call("prepare a mount", 430, "0, 0"),
            _call("use userfaultfd", 323, "1", sound=False),
            _call("make a system call of another architecture", 0x40000000 + 41, "2, 1, 0", sound=False),
        ]
        if platform.machine() == "x86_64"
        else []
    ),
]
NET_AND_FILES = [
    Attempt(
        "connect to a local server",
        "import socket\nsocket.create_connection(('127.0.0.1', {port}), 2).close()\nprint('ESCAPED')",
        frozenset({NETWORK}),
    ),
    Attempt(
        "listen to the outputs of another kernel on a known port",
        "import zmq\nwith zmq.Context() as context, context.socket(zmq.SUB) as sock:\n"
        "    sock.linger = 0\n    sock.subscribe(b'')\n    sock.connect('tcp://127.0.0.1:{publisher}')\n"
        "    print('ESCAPED' if sock.poll(2000) else '')",
        frozenset({NETWORK}),
    ),
    Attempt(
        "send a datagram",
        "import socket\nsock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "sock.connect(('192.0.2.1', 53))\nprint('ESCAPED' if sock.send(b'x') else '')",
        frozenset({NETWORK}),
        sound=False,
    ),
    Attempt(
        "connect to the network",
        "import socket\nsock = socket.socket()\nsock.setblocking(False)\n"
        "print('ESCAPED' if sock.connect_ex(('192.0.2.1', 80)) in (0, 115) else '')",
        frozenset({NETWORK}),
        sound=False,
    ),
    Attempt(
        "list network interfaces",
        "import socket\nprint('ESCAPED' if len(socket.if_nameindex()) > 1 else '')",
        frozenset({NETWORK}),
        sound=False,
    ),
    Attempt(
        "write a file in the home directory",
        "import os\npath = {person!r} + '/planted'\nopen(path, 'w').close()\nos.unlink(path)\nprint('ESCAPED')",
        frozenset({READ_ONLY, FILES}),
    ),
    Attempt(
        "write a file in the Python environment",
        "import os, sys\npath = sys.prefix + '/planted'\nopen(path, 'w').close()\nos.unlink(path)\nprint('ESCAPED')",
        frozenset({READ_ONLY, USER}),
    ),
    Attempt(
        "write a system file",
        "open('/etc/hosts', 'a').close()\nprint('ESCAPED')",
        frozenset({READ_ONLY, USER}),
    ),
    Attempt(
        "change the permissions of a file",
        "import os\nos.chmod({mine!r}, 0o600)\nprint('ESCAPED')",
        frozenset({READ_ONLY}),
    ),
    Attempt(
        "list temporary files of other processes",
        "import os\nprint('ESCAPED' if {marker!r} in os.listdir('/tmp') else '')",
        frozenset({READ_ONLY}),
    ),
    Attempt(
        "read the user's SSH key", "print('ESCAPED', open({person!r} + '/.ssh/id_test').read())", frozenset({HIDDEN})
    ),
]
ALL = [*KERNEL, *MACHINE, *NET_AND_FILES]
