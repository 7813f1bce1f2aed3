"""Ways in which managers start kernels and speak with them: with keys, by provisioners, and as their children."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.provisioning import KernelProvisionerFactory
from zmq.utils.monitor import recv_monitor_message

from tests.support.kernels import INTERRUPT, KERNEL, kernel_environment
from tests.support.waiting import DEADLINE, poll_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.kernels import Opened
    from tests.support.processes import Family

FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_DISCONNECTED
)


# -- CurveZMQ -------------------------------------------------------------------------------------------------------


def is_refused(context: zmq.Context[zmq.Socket[bytes]], kind: int, address: str, keys: dict[str, bytes]) -> bool:
    """Say something at an address and tell whether the connection is refused before anything is answered."""
    with context.socket(kind) as socket:
        socket.linger = 0
        for name, key in keys.items():
            setattr(socket, name, key)
        with socket.get_monitor_socket(FAILED) as monitor:
            socket.connect(address)
            if kind == zmq.SUB:
                socket.subscribe(b"")
            else:
                socket.send(b"is anybody there?")
            assert monitor.poll(DEADLINE * 1000), "nothing became of the connection"
            refused = bool(recv_monitor_message(monitor)["event"] & FAILED) and not socket.poll(100)
            socket.disable_monitor()
    return refused


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_a_client_without_the_key_receives_nothing(open_kernel: Callable[..., Opened], transport: str) -> None:
    manager, kernel = open_kernel(transport=transport, encryption="required")
    written = json.loads(Path(manager.connection_file).read_text())
    assert len(written["curve_publickey"]) == len(written["curve_secretkey"]) == 40
    assert kernel.run("print('Ada')\n6 * 7").result == "42"
    request = kernel.client.execute("input('Who? ')", allow_stdin=True)
    assert kernel.asked(request)["prompt"] == "Who? "
    kernel.answer("Ada")
    assert kernel.finish(request)[0].result == "'Ada'"
    request = kernel.start("import time\nprint('started')\ntime.sleep(600)")
    manager.interrupt_kernel()
    assert kernel.finish(request)[0].reply["ename"] == INTERRUPT
    heart = kernel.client.hb_channel
    heart.unpause()
    kernel.listen_until(heart.is_beating, "a heartbeat")
    heart.pause()

    channels = {"shell": zmq.DEALER, "control": zmq.DEALER, "stdin": zmq.DEALER, "iopub": zmq.SUB, "hb": zmq.REQ}
    public, secret = zmq.curve_keypair()
    own = {"curve_publickey": public, "curve_secretkey": secret}
    context = zmq.Context()
    for channel, kind in channels.items():
        address = manager._make_url(channel)
        assert is_refused(context, kind, address, {}), channel
        # One that has keys, but not the kernel's.
        assert is_refused(context, kind, address, own | {"curve_serverkey": public}), channel
    context.term()

    another = BlockingKernelClient(connection_file=manager.connection_file)
    another.load_connection_file()
    another.start_channels()
    another.wait_for_ready(timeout=DEADLINE)
    another.stop_channels()
    manager.restart_kernel(now=True)
    kernel.client.wait_for_ready(timeout=DEADLINE)
    assert kernel.run("6 * 7").result == "42"


# -- provisioners ---------------------------------------------------------------------------------------------------

PROVISIONER = """
from jupyter_client.provisioning import LocalProvisioner
from traitlets import Unicode

class Elsewhere(LocalProvisioner):
    place = Unicode(config=True)
    did = []

    async def launch_kernel(self, cmd, **kwargs):
        self.did.append("launch")
        kwargs["env"]["PLACE"] = self.place
        return await super().launch_kernel(["/usr/bin/env", *cmd], **kwargs)

    async def send_signal(self, signum):
        if signum:
            self.did.append(f"signal {signum}")
        await super().send_signal(signum)

    async def kill(self, restart=False):
        self.did.append("kill")
        await super().kill(restart)
"""


@pytest.fixture
def elsewhere(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the name of a kernel that a provisioner starts, which an installed distribution brings."""
    (tmp_path / "elsewhere_for_tests.py").write_text(PROVISIONER)
    installed = tmp_path / "elsewhere_for_tests-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere-for-tests\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(
        f"[{KernelProvisionerFactory.GROUP_NAME}]\nelsewhere = elsewhere_for_tests:Elsewhere\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    spec = KernelSpecManager().get_kernel_spec(KERNEL).to_dict()
    spec["interrupt_mode"] = "signal"
    provisioner = {"provisioner_name": "elsewhere", "config": {"place": "the attic"}}
    spec["metadata"] |= {"kernel_provisioner": provisioner}
    directory = home / "data" / "kernels" / "elsewhere"
    directory.mkdir(parents=True)
    (directory / "kernel.json").write_text(json.dumps(spec))
    KernelProvisionerFactory.clear_instance()
    yield "elsewhere"
    KernelProvisionerFactory.clear_instance()


def test_a_provisioner_starts_interrupts_restarts_and_kills(
    family: Family, open_kernel: Callable[..., Opened], elsewhere: str
) -> None:
    manager, kernel = open_kernel(name=elsewhere)
    did = manager.provisioner.did
    assert did == ["launch"]
    assert "the attic" in psutil.Process(manager.provisioner.pid).environ()["PLACE"]
    for _ in range(2):
        request = kernel.start("import time\nprint('started')\ntime.sleep(600)")
        manager.interrupt_kernel()
        assert kernel.finish(request)[0].reply["ename"] == INTERRUPT
    assert did == ["launch", "signal 2", "signal 2"]
    kernel.run("before = 1")
    manager.restart_kernel()
    kernel.client.wait_for_ready(timeout=DEADLINE)
    assert kernel.run("before").reply["ename"] == "NameError"
    assert did[3:] == ["signal 2", "launch"]
    kernel.start("print('started')\nwhile True: pass")
    family.meet()
    manager.shutdown_kernel(now=True)
    assert "kill" in did[5:]
    family.wait_until_gone()


# -- parents --------------------------------------------------------------------------------------------------------

PARENT = """
import json, sys
from jupyter_client.manager import KernelManager
manager = KernelManager(kernel_name=sys.argv[1])
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
print(manager.provisioner.pid, flush=True)
sys.stdin.read()
"""


def _start_parent(kernel_name: str) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Start a program that starts a kernel; return both."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, kernel_name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=kernel_environment(),
    )
    assert parent.stdout is not None
    return parent, psutil.Process(int(parent.stdout.readline()))


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_kernel_ends_when_the_process_that_started_it_is_gone(family: Family) -> None:
    parent, front = _start_parent(KERNEL)
    assert front.is_running()
    family.meet()
    _end(parent)
    family.wait_until_gone()


@pytest.mark.capsule_only
def test_a_kernel_ends_when_the_program_between_it_and_jupyter_is_gone(family: Family, home: Path) -> None:
    spec = KernelSpecManager().get_kernel_spec(KERNEL).to_dict()
    spec["argv"] = ["/bin/sh", "-c", '"$@"; exit', "sh", sys.executable, *spec["argv"][1:]]
    directory = home / "data" / "kernels" / "wrapped"
    directory.mkdir(parents=True)
    (directory / "kernel.json").write_text(json.dumps(spec))
    parent, between = _start_parent("wrapped")
    (front,) = between.children()
    family.meet()
    os.kill(between.pid, signal.SIGKILL)
    poll_until(lambda: not front.is_running(), "the front is gone")
    _end(parent)
    family.wait_until_gone()
