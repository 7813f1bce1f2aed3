"""Kernels behind servers without JupyterLab: one that ends idle kernels, and the kernel gateway."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.kernels import INTERRUPT, KERNEL
from tests.support.processes import RUN_MODULE
from tests.support.servers import TOKEN, Server, address, serving
from tests.support.waiting import poll_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.processes import Family

#: What is done while the gate stands closed, without a word.
WORK = "import pathlib, time\nkept = 'busy'\nwhile not pathlib.Path('gate').exists(): time.sleep(0.05)\n'through'"


def _open(server: Server, path: str) -> str:
    """Open a notebook as JupyterLab does, and return the id of its kernel."""
    session = {"path": path, "name": path, "type": "notebook", "kernel": {"name": KERNEL}}
    return str(server.ask("POST", "sessions", session)["kernel"]["id"])


def test_a_server_ends_idle_kernels_and_no_busy_ones(
    home: Path, tmp_path: Path, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPSULE_RESUME", "auto")
    log = tmp_path / "log"
    command = [
        *(*RUN_MODULE, "jupyter_server", "--no-browser", "--allow-root", "--ServerApp.port=0"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={tmp_path}", f"--IdentityProvider.token={TOKEN}"),
        *("--MappingKernelManager.cull_idle_timeout=4", "--MappingKernelManager.cull_interval=1"),
        "--MappingKernelManager.cull_connected=True",
    ]
    with serving(command, tmp_path, log) as process:
        server = Server(address(process, home, log), TOKEN, tmp_path)
        busy, idle = _open(server, "busy.ipynb"), _open(server, "idle.ipynb")
        with server.talk(busy) as ours, server.talk(idle) as theirs:
            request = ours.start(WORK)
            ours.hear_until(request, "execute_input")
            assert theirs.run("kept = {'answer': 42}\nkept") == "{'answer': 42}"
            family.meet()
            # The one that is busy has said nothing for longer than the other.
            poll_until(lambda: idle not in server.kernels(), "the idle kernel has been ended")
            assert server.kernels() == {busy: "busy"}
            (tmp_path / "gate").touch()
            heard = ours.hear_until(request, "execute_result")
            assert heard[-1]["content"]["data"]["text/plain"] == "'through'"
        with server.talk(_open(server, "idle.ipynb")) as theirs:
            assert theirs.run("kept") == ("{'answer': 42}" if KERNEL == "capsule" else "NameError")
    family.wait_until_gone()


def test_a_kernel_behind_the_kernel_gateway(tmp_path: Path, family: Family) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    log = tmp_path / "log"
    command = [
        *(
            sys.executable,
            "-m",
            "kernel_gateway",
            "--KernelGatewayApp.ip=127.0.0.1",
            "--KernelGatewayApp.port_retries=0",
        ),
        *(f"--KernelGatewayApp.port={port}", f"--KernelGatewayApp.auth_token={TOKEN}"),
        "--JupyterWebsocketPersonality.list_kernels=True",
    ]
    with serving(command, tmp_path, log) as process:
        server = Server(f"http://127.0.0.1:{port}/", TOKEN, tmp_path)

        def listens() -> bool:
            assert process.poll() is None, f"the server ended:\n{log.read_text()}"
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", port)) == 0

        poll_until(listens, "the gateway listens", 60)
        assert KERNEL in server.ask("GET", "kernelspecs")["kernelspecs"]
        kernel_id = server.ask("POST", "kernels", {"name": KERNEL})["id"]
        with server.talk(kernel_id) as talk:
            assert talk.run("kept = 6\nkept * 7") == "42"
            assert talk.run("1 / 0") == "ZeroDivisionError"
            request = talk.start("import time\nprint('started')\ntime.sleep(600)")
            talk.hear_until(request, "stream")
            server.ask("POST", f"kernels/{kernel_id}/interrupt")
            heard = talk.hear_until(request, "execute_reply")
            assert heard[-1]["content"]["ename"] == INTERRUPT
            server.ask("POST", f"kernels/{kernel_id}/restart")
            assert talk.run("kept") == "NameError"
            family.meet()
        server.ask("DELETE", f"kernels/{kernel_id}")
        assert server.kernels() == {}
        family.wait_until_gone(spare=process.pid)
    family.wait_until_gone()
