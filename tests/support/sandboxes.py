"""Kernels in which attempts are made: of each profile, with a layer missing, of root and of an ordinary user."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import socket
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import PROGRAMS, ROOT
from tests.support import escape_attempts as a
from tests.support.kernels import Kernel

#: The id of a user that does not exist on this machine.
ORDINARY = 54_321
#: What a kernel is made of: the environment, its Python, and this project.
_MADE_OF = (sys.prefix, sys.base_prefix, str(ROOT))


@dataclass(frozen=True)
class Setup:
    """How a kernel is sandboxed.

    Args:
        profile: as in the setting.
        without: what is missing on the machine; see ``programs/without.py``.
        hands_on: whether all of the environment is handed on.
    """

    profile: str
    without: str = ""
    hands_on: bool = False

    @property
    def name(self) -> str:
        """What it is called in tables."""
        missing = self.without or ("environment" if self.hands_on else "")
        return f"{self.profile} without {missing}" if missing else self.profile

    def holds(self, user: str) -> frozenset[str]:
        """Return what stops attempts here.

        Args:
            user: ``root`` or ``user``.
        """
        always = {a.ALWAYS} | ({a.USER, a.PROCESS} if user == "user" else set())
        if self.profile == "open":
            return frozenset(always)
        held = {a.NAMESPACES, a.SCOPES, a.CALLS, a.ENVIRONMENT}
        if self.without == "namespaces":
            held = held - {a.NAMESPACES} | {a.FILES, a.CAPABILITIES}
        if self.without == "landlock":
            held -= {a.SCOPES}
        if self.without == "system calls":
            held -= {a.CALLS}
        if self.hands_on:
            held -= {a.ENVIRONMENT}
        if self.profile == "restricted":
            held |= {a.NETWORK, a.READ_ONLY, a.HIDDEN}
        return frozenset(held | always)


SETUPS = [
    Setup("notebook"),
    Setup("notebook", without="namespaces"),
    Setup("notebook", without="landlock"),
    Setup("notebook", without="system calls"),
    Setup("notebook", hands_on=True),
    Setup("restricted"),
    Setup("restricted", without="landlock"),
    Setup("open"),
]


def users() -> list[str]:
    """Return as whom kernels can be run here."""
    return ["root", "user"] if os.geteuid() == 0 else ["user"]


@contextlib.contextmanager
def sandboxed_kernel(setup: Setup, user: str, **settings: Any) -> Iterator[tuple[Kernel, Mapping[str, object]]]:
    """Start a kernel in a sandbox; yield it, and what an attempt may know.

    Args:
        setup: the setup.
        user: one of ``users()``.
        settings: of the kernel.
    """
    need_bubblewrap()
    # Not below the directory for temporary files, which is empty in the profile `restricted`.
    person = Path(tempfile.mkdtemp(prefix="capsule-test-", dir="/opt" if os.geteuid() == 0 else Path.home()))
    try:
        with _machine(person) as known:
            yield from _running(setup, user, person, known, settings)
    finally:
        shutil.rmtree(person, ignore_errors=True)


def need_bubblewrap() -> None:
    """Skip where there is none; that is a failure where everything is to be tested."""
    if shutil.which("bwrap") is None:
        if os.environ.get("CI"):
            pytest.fail("bubblewrap is not installed")
        pytest.skip("bubblewrap is not installed")


def _running(
    setup: Setup, user: str, person: Path, known: dict[str, object], settings: dict[str, Any]
) -> Iterator[tuple[Kernel, Mapping[str, object]]]:
    home, runtime, work = person / ".local/share/capsule", person / ".local/share/jupyter/runtime", person / "work"
    own = (person / ".config/capsule", person / "tmp", person / ".ssh", person / "own/open", person / "more")
    for path in (home / "sessions/another", runtime, work, *own):
        path.mkdir(parents=True)
    (home / "store").write_text("promises")
    (home / "sessions/another/data").write_text("secret")
    for path in (person / ".ssh/id_test", person / "mine", person / "own/hidden"):
        path.write_text("secret")
    (person / "own/open/text").write_text("read")
    environ = {"HOME": str(person), "TMPDIR": str(person / "tmp"), "THE_KEY": "the-secret"}
    way = [sys.executable, str(PROGRAMS / "without.py"), setup.without] if setup.without else []
    if user == "user" and os.geteuid() == 0:
        person.chmod(0o755)
        way += [sys.executable, str(PROGRAMS / "as_user.py"), str(ORDINARY), str(person), ":".join(_MADE_OF)]
    one = Kernel(
        home,
        connection_file=str(runtime / "kernel.json"),
        by_way_of=tuple(way),
        directory=work,
        environ=environ,
        profile=setup.profile,
        **({"pass_environment": "*"} if setup.hands_on else {}),
        **settings,
    )
    try:
        ports = json.loads((runtime / "kernel.json").read_text())
        yield (
            one,
            known
            | {
                "connection": one.connection_file,
                "front": one.front,
                "home": str(home),
                "other": str(home / "sessions/another/data"),
                "kernels": str(person / ".local/share/jupyter/kernels"),
                "person": str(person),
                "mine": str(person / "mine"),
                "work": str(work),
                "shell_port": ports["shell_port"],
            },
        )
    finally:
        one.close()


@contextlib.contextmanager
def _machine(person: Path) -> Iterator[dict[str, object]]:
    """Set up the targets of the attempts."""
    import threading

    import zmq

    mark = person.name
    marker, shm = Path("/tmp") / mark, Path("/dev/shm") / mark
    service = Path("/run" if os.geteuid() == 0 else person) / f"{mark}.sock"
    libc = ctypes.CDLL(None)
    key = zlib.crc32(mark.encode()) & 0x7FFF_FFFF
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as system,
        zmq.Context() as context,
        context.socket(zmq.PUB) as publisher,
    ):
        publisher.linger = 0
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        over = threading.Event()

        def publish() -> None:
            while not over.wait(0.1):
                publisher.send(b"an output")

        talking = threading.Thread(target=publish)
        talking.start()
        segment = -1
        try:
            for file in (marker, shm):
                file.write_text("secret")
            abstract.bind("\0" + mark)
            system.bind(str(service))
            service.chmod(0o666)
            for one in (abstract, system):
                one.listen()
            segment = libc.shmget(key, 64, 0o1000 | 0o666)
            yield {
                "port": server.getsockname()[1],
                "publisher": port,
                "abstract": mark,
                "service": str(service),
                "shm": str(shm),
                "marker": mark,
                "key": key,
                "outside": os.getpid(),
            }
        finally:
            over.set()
            talking.join()
            libc.shmctl(segment, 0, None)
            for file in (marker, shm, service):
                file.unlink(missing_ok=True)
