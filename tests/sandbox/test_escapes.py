"""Attempts to get at the kernel from a cell, through the real kernel, in the profile ``notebook``.

Each is code that prints ``ESCAPED`` where it succeeds. What it knows of the host is given to it: a person who writes a
cell can know that, too.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.kernels import Kernel, kernel

#: For each attempt, code; ``{connection}`` is the connection file, ``{front}`` the front's process id, ``{home}`` the
#: directory for data, ``{other}`` a file in another session's directory, ``{shm}`` a file in the host's shared memory,
#: ``{kernels}`` the directory of kernelspecs.
ATTEMPTS = {
    "connection file": "print('ESCAPED' if open({connection!r}).read(1) else '')",
    "connection file by a symbolic link": (
        "import os, tempfile\nlink = tempfile.mktemp()\nos.symlink({connection!r}, link)\n"
        "print('ESCAPED' if open(link).read(1) else '')"
    ),
    "connection file by a hard link": (
        "import os, tempfile\nlink = tempfile.mktemp()\nos.link({connection!r}, link)\n"
        "print('ESCAPED' if open(link).read(1) else '')"
    ),
    "connection file by the roots of processes": (
        "import glob\nfor root in glob.glob('/proc/*/root'):\n    try:\n"
        "        print('ESCAPED' if open(root + {connection!r}).read(1) else '')\n    except OSError: pass"
    ),
    "connection file by a relative path": (
        "import os\nos.chdir(os.path.dirname({connection!r}))\n"
        "print('ESCAPED' if open(os.path.basename({connection!r})).read(1) else '')"
    ),
    "connection file by the arguments of processes": (
        "import glob\nfor one in glob.glob('/proc/*/cmdline'):\n    if b'capsule_kernel' in open(one, 'rb').read():\n"
        "        print('ESCAPED', one)"
    ),
    "the front's environment": "print('ESCAPED', len(open('/proc/{front}/environ').read()))",
    "the front's memory": "open('/proc/{front}/mem', 'rb')\nprint('ESCAPED')",
    "the front's descriptors": "import os\nprint('ESCAPED', os.listdir('/proc/{front}/fd'))",
    "a signal to the front": "import os\nos.kill({front}, 9)\nprint('ESCAPED')",
    "tracing the front": (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "print('ESCAPED' if libc.ptrace(16, {front}, 0, 0) == 0 else '')"
    ),
    "a descriptor of the front": "import os\nos.pidfd_open({front})\nprint('ESCAPED')",
    "the front's limits": "import resource\nresource.prlimit({front}, resource.RLIMIT_NOFILE)\nprint('ESCAPED')",
    "reading the store": "print('ESCAPED' if open({home!r} + '/engine.sqlite3', 'rb').read(1) else '')",
    "emptying the store": "import os\nos.truncate({home!r} + '/engine.sqlite3', 0)\nprint('ESCAPED')",
    "moving the store": ("import os\nos.rename({home!r} + '/engine.sqlite3', {home!r} + '/other')\nprint('ESCAPED')"),
    "listing the store": (
        "import os\nprint('ESCAPED' if any('sqlite' in name for name in os.listdir({home!r})) else '')"
    ),
    "another session": "print('ESCAPED', open({other!r}).read())",
    "other sessions": ("import os\nprint('ESCAPED' if len(os.listdir({home!r} + '/checkpoints')) > 1 else '')"),
    "uncovering the store": ("import subprocess\nsubprocess.run(['umount', {home!r}], check=True)\nprint('ESCAPED')"),
    "uncovering the store in namespaces of its own": (
        "import subprocess\n"
        "done = subprocess.run(['unshare', '-Urm', 'sh', '-c', 'umount {home}; ls {home}'],\n"
        "    capture_output=True, text=True)\nprint('ESCAPED' if 'sqlite' in done.stdout else '')"
    ),
    "namespaces of the front": ("import os\nos.setns(os.open('/proc/{front}/ns/mnt', os.O_RDONLY))\nprint('ESCAPED')"),
    "a kernelspec": ("import os\nos.makedirs({kernels!r} + '/planted')\nprint('ESCAPED')"),
    "the pattern of core dumps": "open('/proc/sys/kernel/core_pattern', 'w').write('x')\nprint('ESCAPED')",
    "a setting of the system": "open('/sys/kernel/mm/ksm/run', 'w').write('0')\nprint('ESCAPED')",
    "shared memory of others": "print('ESCAPED', open({shm!r}).read())",
    "the disk itself": (
        "import os, glob, stat\nfor path in glob.glob('/dev/*'):\n"
        "    if stat.S_ISBLK(os.stat(path).st_mode):\n        print('ESCAPED', open(path, 'rb').read(1))"
    ),
    "the memory of the machine": "print('ESCAPED', open('/dev/mem', 'rb').read(1))",
    "a capability": (
        "print('ESCAPED' if int(open('/proc/self/status').read().split('CapEff:')[1].split()[0], 16) else '')"
    ),
    "programs that give rights": (
        "print('ESCAPED' if open('/proc/self/status').read().split('NoNewPrivs:')[1].split()[0] != '1' else '')"
    ),
    "all processes": (
        "import os\ntry:\n    os.kill(-1, 0)\nexcept ProcessLookupError: pass\n"
        "print('ESCAPED' if len([n for n in os.listdir('/proc') if n.isdigit()]) > 20 else '')"
    ),
    "sockets of the system": (
        "import glob\nprint('ESCAPED' if glob.glob('/run/*.sock') or glob.glob('/run/*/*.sock') else '')"
    ),
    **{
        name: "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"result = libc.syscall({number}, {arguments})\n"
        # Refused for what it is, and not for its arguments.
        "print('ESCAPED' if result >= 0 or ctypes.get_errno() not in (1, 38) else '')"
        for name, number, arguments in [
            ("a namespace of its own", 272, "0x10000000"),
            ("a child in a namespace of its own", 56, "0x10000011, 0, 0, 0, 0"),
            ("keys of the kernel's", 250, "0, -4, 0"),
            ("a program for the kernel", 321, "0, 0, 0"),
            ("counters of the machine", 298, "0, 0, -1, -1, 0"),
            ("rings for input and output", 425, "8, 0"),
            ("a mount by a newer way", 430, "0, 0"),
            ("faults in user space", 323, "1"),
            ("calls of another form", 0x40000000 + 41, "2, 1, 0"),
        ]
        if platform.machine() == "x86_64"
    },
    "a socket to the machine's host": "import socket\nsocket.socket(40, 1)\nprint('ESCAPED')",
    "typing into a terminal": (
        "import errno, fcntl, os\nours, theirs = os.openpty()\n"
        "try:\n    fcntl.ioctl(theirs, 0x5412, b'x')\n    print('ESCAPED')\n"
        "except OSError as error:\n    print('ESCAPED' if error.errno not in (errno.EPERM, errno.EIO) else '')"
    ),
    "descriptors that were left open": (
        "import os\nfor fd in os.listdir('/proc/self/fd'):\n    try: target = os.readlink('/proc/self/fd/' + fd)\n"
        "    except OSError: continue\n"
        "    if {home!r} in target and 'checkpoints' not in target:\n        print('ESCAPED', target)"
    ),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    if shutil.which("bwrap") is None:
        if os.environ.get("CI"):
            pytest.fail("bubblewrap is not installed")
        pytest.skip("bubblewrap is not installed")
    home = tmp_path_factory.mktemp("home")
    other = home / "checkpoints" / "another" / "packs"
    other.mkdir(parents=True)
    (other / "data").write_text("secret")
    shm = Path("/dev/shm") / f"capsule-test-{os.getpid()}"
    shm.write_text("secret")
    yield {"home": str(home), "other": str(other / "data"), "shm": str(shm)}
    shm.unlink()


@pytest.fixture(scope="module")
def one(places: dict[str, object]) -> Iterator[Kernel]:
    with kernel(Path(str(places["home"])), profile="notebook") as opened:
        kernels = Path(os.environ.get("JUPYTER_DATA_DIR") or Path.home() / ".local/share/jupyter") / "kernels"
        places |= {"connection": opened.connection_file, "front": opened.front, "kernels": str(kernels)}
        opened.ok("import sys")
        yield opened


def test_the_sandbox_holds(one: Kernel) -> None:
    assert "notebook: namespaces, scopes, system calls hold" in one.shown("%capsule status")


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_an_attempt_fails(one: Kernel, places: dict[str, object], attempt: str) -> None:
    done = one.run(ATTEMPTS[attempt].format(**places))
    assert "ESCAPED" not in done.text()
    assert one.text("print('goes on')") == "goes on\n"


def test_the_attempts_are_sound(places: dict[str, object]) -> None:
    """Without a sandbox most of them succeed: they would show it if there was a hole."""
    home = places["home"]
    succeeded = []
    with kernel(Path(str(home)), profile="open") as one:
        known = {**places, "connection": one.connection_file, "front": one.front, "kernels": str(home) + "/kernels"}
        names = set(ATTEMPTS) - {"a signal to the front", "tracing the front", "emptying the store", "moving the store"}
        succeeded += [name for name in names if "ESCAPED" in one.run(ATTEMPTS[name].format(**known)).text()]
    assert len(succeeded) >= (15 if os.geteuid() == 0 else 8), (sys.platform, succeeded)


def test_keys_in_the_environment_are_not_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_KEY", "secret")
    monkeypatch.setenv("WANTED_KEY", "wanted")
    code = (
        "import contextlib, glob\nfor one in glob.glob('/proc/*/environ'):\n"
        "    with contextlib.suppress(OSError): print(b'secret' in open(one, 'rb').read())"
    )
    with kernel(tmp_path / "home", profile="notebook", pass_environment="WANTED_*") as one:
        assert one.text("import os\nprint(os.environ['WANTED_KEY'])") == "wanted\n"
        done = one.run("os.environ['DATABASE_KEY']")
        assert done.reply["ename"] == "KeyError"
        assert 'pass_environment = ["DATABASE_KEY"]' in "".join(done.reply["traceback"])
        if shutil.which("bwrap"):
            assert "True" not in one.text(code)
    with kernel(tmp_path / "home", profile="open") as one:
        assert one.text("import os\nprint(os.environ['DATABASE_KEY'])") == "secret\n"
