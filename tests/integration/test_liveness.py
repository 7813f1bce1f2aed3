"""Liveness where a pid is not enough: the pid was reused, or belongs to another namespace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.session_locks import SESSION_LOCK
from capsule_durable.config.paths import SESSIONS
from capsule_worker.protocol import manifest as mf
from tests.support import ROOT
from tests.support.kernels import kernel
from tests.support.waiting import DEADLINE

CAPSULE = [sys.executable, "-c", "import sys; from capsule_kernel.cli.main import main; sys.exit(main())"]


def _unshare() -> list[str]:
    """Return the command that runs another one in a pid namespace of its own, with its own /proc."""
    found = shutil.which("unshare")
    command = [found or "unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if found is None or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare cannot make a pid namespace here")
    return command


@pytest.fixture(scope="module")
def unshare() -> list[str]:
    return _unshare()


#: Is a kernel that keeps checkpoints: it says its session, and ends when told to.
FRONT = """
import asyncio, sys
from pathlib import Path
from capsule_durable.checkpoints.recovery import Recovery
from capsule_durable.checkpoints.service import CheckpointService
from capsule_durable.config.settings import Settings
from tests.support.catalogues import checkpoint, publish

async def main():
    service = CheckpointService(Settings(home=sys.argv[1]), "kernel-1", "a.ipynb", print)
    service.start()
    message = await service.configure()
    recovered = await Recovery(service).at_start()
    if len(sys.argv) > 2:
        print(recovered and recovered.manifest and recovered.manifest.session)
    else:
        publish(Path(message.directory), checkpoint(message.session, 1))
        print(message.session, flush=True)
        input()

asyncio.run(main())
"""

#: Kills a front, and gives its pid to another process before the next front begins.
REUSE = """
import signal, subprocess, sys
from pathlib import Path

def front(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", sys.argv[2], sys.argv[1], *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )

first = front()
session = first.stdout.readline().strip()
first.kill()
first.wait()
for _ in range(100):
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(first.pid - 1))
    other = subprocess.Popen(["sleep", "1000"])
    if other.pid == first.pid:
        break
    other.kill()
    other.wait()
else:
    sys.exit("the pid was not given again")
print(session, front("look").communicate()[0].strip())
"""


def in_tree(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's directory."""
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


@pytest.fixture
def front(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A kernel that runs outside of the namespace."""
    with subprocess.Popen(
        [sys.executable, "-c", FRONT, str(tmp_path / "home")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


@pytest.mark.sandbox
def test_a_kernel_whose_pid_was_reused_is_recovered(tmp_path: Path, unshare: list[str]) -> None:
    done = in_tree([*unshare, sys.executable, "-c", REUSE, str(tmp_path / "home"), FRONT])
    assert done.returncode == 0, done.stderr
    before, inherited = done.stdout.split()
    assert inherited == before, done.stderr


@pytest.mark.sandbox
@pytest.mark.parametrize("proc", ["its own /proc", "the other /proc"])
def test_gc_in_another_pid_namespace_leaves_the_draft_of_a_live_session_alone(
    tmp_path: Path, front: subprocess.Popen[str], unshare: list[str], proc: str
) -> None:
    assert front.stdout is not None
    session = front.stdout.readline().strip()
    incoming = tmp_path / "home" / SESSIONS / session / mf.INCOMING
    draft = incoming / f"00000002-someid{mf.DRAFT_SUFFIX}"
    draft.write_bytes(b"being written")
    pack = incoming.parent / mf.PACKS / f"00000002-abcdefgh{mf.PACK_SUFFIX}"
    pack.write_bytes(b"being written")
    command = unshare if proc == "its own /proc" else unshare[:-1]
    collect = [*command, *CAPSULE, "gc", "--json"]
    done = in_tree(collect, CAPSULE_HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert draft.exists(), done.stdout
    assert pack.exists(), done.stdout
    # It is not reached from here, whichever process has its pid.
    done = in_tree([*command, *CAPSULE, "undo", "--session", session], CAPSULE_HOME=str(tmp_path / "home"))
    assert done.returncode == 1
    assert f"the kernel of session {session} runs in another container" in done.stderr
    # Its locks tell when it has ended.
    front.kill()
    front.wait()
    done = in_tree(collect, CAPSULE_HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert not draft.exists()
    assert not pack.exists()
    with Catalogue(tmp_path / "home") as catalogue:
        assert [one.number for one in catalogue.checkpoints(session=session)] == [1]


@pytest.mark.sandbox
def test_a_process_that_sees_the_proc_of_another_namespace_knows_no_start_times(unshare: list[str]) -> None:
    code = (
        "from capsule_durable.storage.process_identity import state, this_process\n"
        "from dataclasses import replace\n"
        "me = this_process()\n"
        "print(me.pid, me.start, state(me), state(replace(me, start=1)), state(replace(me, pid=2**22 + 1)))"
    )
    assert in_tree([*unshare[:-1], sys.executable, "-c", code]).stdout == "1 0 unknown unknown ended\n"
    pid, start, *states = in_tree([*unshare, sys.executable, "-c", code]).stdout.split()
    assert (pid, states) == ("1", ["running", "ended", "ended"])
    assert int(start) > 1


@pytest.mark.sandbox
@pytest.mark.usefixtures("clients_of_the_dead")
def test_a_kernel_that_is_killed_in_one_container_is_recovered_in_the_next(tmp_path: Path, unshare: list[str]) -> None:
    with kernel(tmp_path / "home", by_way_of=(*unshare, "--")) as one:
        one.ok("x = [1, 2]")
        # All processes of a namespace end with its first one, the writers too.
        one.ok("%capsule checkpoint saved")
        one.kill_front()
        done = one.ok("print(x)")
        assert done.text() == "[1, 2]\n"
        assert "The kernel was killed and has restarted." in done.text("stderr")


def test_only_the_front_has_the_lock_of_its_session(tmp_path: Path) -> None:
    with kernel(tmp_path / "home") as one:
        one.ok("x = 1")
        lock = tmp_path / "home" / SESSIONS / one.session / SESSION_LOCK
        front = psutil.Process(one.front)
        processes = [front, *front.children(recursive=True)]
        assert len(processes) > 1
        holders = [
            process.pid
            for process in processes
            for fd in Path(f"/proc/{process.pid}/fd").iterdir()
            if fd.exists() and fd.samefile(lock)
        ]
        assert holders == [one.front]
