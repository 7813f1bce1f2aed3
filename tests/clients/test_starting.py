"""What a client can ask for when it starts a kernel."""

from __future__ import annotations

import json
import sqlite3
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from tests.support.conversation import Conversation
from tests.support.kernels import KERNEL, kernel_environment
from tests.support.waiting import DEADLINE, poll_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.kernels import Opened


def test_history_stays_in_memory_where_the_client_wants_it(open_kernel: Callable[..., Opened]) -> None:
    in_memory, in_file = "'nowhere to be found'", "'to be found'"
    _, kernel = open_kernel(extra_arguments=["--HistoryManager.hist_file=:memory:"])
    kernel.run(in_memory)
    _, other = open_kernel()
    other.run(in_file)
    history = Path(other.run("print(get_ipython().history_manager.hist_file)").text().strip())
    with sqlite3.connect(history) as database:

        def known() -> set[str]:
            return {source for (source,) in database.execute("SELECT source FROM history")}

        other.listen_until(lambda: in_file in known(), "history is written")
        assert in_memory not in known()
    assert kernel.run("get_ipython().history_manager.hist_file").result == "':memory:'"


def test_jupyter_run_runs_a_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("print('from the script')")
    command = [sys.executable, "-m", "jupyter_client.runapp", f"--kernel={KERNEL}", script]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (0, "from the script\n"), ran.stderr


def start_by_hand(directory: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start a kernel as a person does in a terminal, in a directory."""
    module = "capsule_kernel" if KERNEL == "capsule" else "ipykernel_launcher"
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=directory,
        env=kernel_environment() | environment,
    )


@contextmanager
def connected(process: subprocess.Popen[str], file: Path) -> Iterator[Conversation]:
    """Converse with a kernel that was started by hand, and end it."""
    client = BlockingKernelClient()
    try:
        # A file may be there before all is in it.
        poll_until(
            lambda: file.exists() and json.loads(file.read_text() or "{}").get("hb_port", 0) > 0, "it is written"
        )
        client.load_connection_file(str(file))
        client.start_channels()
        client.wait_for_ready(timeout=DEADLINE)
        yield Conversation(client)
        client.shutdown()
        process.wait(DEADLINE)
    finally:
        client.stop_channels()
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", ["", "mine.json", "{here}/folder/mine.json"])
def test_a_kernel_that_is_started_by_hand_writes_its_connection_file(home: Path, tmp_path: Path, name: str) -> None:
    name = name.format(here=tmp_path)
    process = start_by_hand(tmp_path, *(["-f", name] if name else []))
    file = Path(name) if "/" in name else home / "run" / (name or f"kernel-{process.pid}.json")
    with connected(process, file) as kernel:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert kernel.run("6 * 7").result == "42"
        assert kernel.run("from ipykernel.connect import get_connection_file\nget_connection_file()").result == repr(
            str(file)
        )
        assert process.stdout is not None
        told = ""
        while "--existing" not in told:
            told = process.stdout.readline()
        assert told.split() == ["--existing", str(file) if "/" in name else file.name]
    assert not file.exists()


def test_ports_that_a_connection_file_leaves_open_are_written_there(tmp_path: Path) -> None:
    file = tmp_path / "open.json"
    ports = dict.fromkeys(("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"), 0)
    file.write_text(json.dumps({**ports, "key": "a key of mine", "ip": "127.0.0.1", "transport": "tcp"}))
    with connected(start_by_hand(tmp_path, "-f", str(file)), file) as kernel:
        assert json.loads(file.read_text())["key"] == "a key of mine"
        assert kernel.run("6 * 7").result == "42"
    assert file.exists()


def test_options_of_a_kernelspec_for_any_kernel_are_obeyed(open_kernel: Callable[..., Opened], home: Path) -> None:
    profile = home / "ipython" / "profile_work"
    profile.mkdir()
    (profile / "ipython_config.py").write_text("get_config().InteractiveShellApp.exec_lines = ['from_profile = 3']\n")
    options = ["--matplotlib=agg", "--ext=autoreload", "--ext=storemagic", "-c", "from_code = 2", "--no-secure"]
    # Without a key a client would be believed by ipykernel, but not the other way round.
    options = options[: None if KERNEL == "capsule" else -1]
    _, kernel = open_kernel(extra_arguments=[*options, "--profile=work", "--debug", "--no-pprint"])
    kernel.run("import matplotlib")
    assert kernel.run("matplotlib.get_backend().lower(), from_code, from_profile").result == "('agg', 2, 3)"
    assert kernel.run("%load_ext autoreload").text().startswith("The autoreload extension is already loaded")
    assert kernel.run("get_ipython().display_formatter.formatters['text/plain'].pprint").result == "False"


@pytest.mark.capsule_only
def test_a_kernel_that_cannot_start_says_why(tmp_path: Path) -> None:
    for arguments, why in {
        ("--profile=unknown",): "IPython has no",
        ("--no-such-option",): "unrecognized arguments: --no-such-option",
        ("-f", str(tmp_path)): f"connection file {tmp_path}",
    }.items():
        process = start_by_hand(tmp_path, *arguments)
        said = process.communicate(timeout=DEADLINE)[1]
        assert (process.returncode, why in said, "Traceback" in said) == (2, True, False), said
