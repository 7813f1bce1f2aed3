"""Ends of kernels and workers, wanted and unwanted: what is told, what lives on, and that nothing is left."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from tests.support.processes import outside
from tests.support.waiting import poll_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jupyter_client.manager import KernelManager

    from tests.support.conversation import Conversation
    from tests.support.kernels import Opened
    from tests.support.processes import Family

GRANDCHILDREN = "import subprocess\nsubprocess.Popen(['sh', '-c', 'echo started; sleep 600 & wait'])"

DEATHS = {
    "kill -9": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    "a segmentation fault": ("import ctypes\nctypes.string_at(0)", "SIGSEGV"),
    "abort": ("import os\nos.abort()", "SIGABRT"),
}


def _pid(manager: KernelManager) -> int:
    provisioner = manager.provisioner
    assert isinstance(provisioner, LocalProvisioner)
    assert provisioner.pid is not None
    return provisioner.pid


def _with_grandchildren(kernel: Conversation, family: Family) -> None:
    # Not every kernel shows what a child writes, so its output cannot prove that it runs.
    kernel.run(GRANDCHILDREN)
    poll_until(lambda: any(map(_is_grandchild, family.meet())), "the grandchild runs")


def _is_grandchild(process: psutil.Process) -> bool:
    return "600" in _command(process)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has just ended
        return []


@pytest.mark.capsule_only
def test_workers_share_the_memory_of_what_they_are_made_of(open_kernel: Callable[..., Opened]) -> None:
    """With the forkserver, from the beginning; a standby, which shares more, does not exist yet."""
    _, kernel = open_kernel()
    shared = kernel.run(
        "lines = open('/proc/self/smaps_rollup').read().splitlines()\n"
        "next(int(line.split()[1]) for line in lines if line.startswith('Shared_Dirty'))"
    )
    assert int(str(shared.result)) > 8_000, "kB of its own making"


def test_shutdown_answers_and_leaves_no_process(family: Family, open_kernel: Callable[..., Opened]) -> None:
    manager, kernel = open_kernel()
    _with_grandchildren(kernel, family)
    request = kernel.send_control("shutdown_request", {"restart": False})
    (reply,) = kernel.listen_until(lambda: kernel.exchange(request).replies, "shutdown_reply")
    assert (reply["status"], reply["restart"]) == ("ok", False)
    manager.finish_shutdown()
    assert not manager.is_alive()
    family.wait_until_gone()


def test_shutdown_in_the_middle_of_a_cell_leaves_no_process(family: Family, open_kernel: Callable[..., Opened]) -> None:
    manager, kernel = open_kernel()
    kernel.start("import time\nprint('started')\nwhile True: time.sleep(60)")
    family.meet()
    manager.shutdown_kernel()
    family.wait_until_gone()


@pytest.mark.capsule_only
def test_shutdown_is_answered_in_the_middle_of_a_cell(family: Family, open_kernel: Callable[..., Opened]) -> None:
    manager, kernel = open_kernel()
    kernel.start("import time\nprint('started')\nwhile True: time.sleep(60)")
    family.meet()
    request = kernel.send_control("shutdown_request", {"restart": False})
    (reply,) = kernel.listen_until(lambda: kernel.exchange(request).replies, "shutdown_reply")
    assert reply["status"] == "ok"
    poll_until(lambda: not manager.is_alive(), "the kernel has ended by itself")
    family.wait_until_gone()


def test_shutdown_at_once_leaves_no_process(family: Family, open_kernel: Callable[..., Opened]) -> None:
    manager, kernel = open_kernel()
    _with_grandchildren(kernel, family)
    manager.shutdown_kernel(now=True)
    family.wait_until_gone()


def test_a_restart_gives_a_clean_namespace_and_leaves_no_process_of_before(
    family: Family, open_kernel: Callable[..., Opened]
) -> None:
    manager, kernel = open_kernel()
    kernel.run("before = 1")
    _with_grandchildren(kernel, family)
    old = family.meet()
    manager.restart_kernel()
    kernel.client.wait_for_ready(timeout=30)
    exchange = kernel.run("before")
    assert exchange.reply["ename"] == "NameError"
    assert exchange.reply["execution_count"] == 1
    poll_until(lambda: not old & family.alive(), "the processes of before are gone")


def test_quit_in_a_cell_asks_the_client_to_end_the_kernel(open_kernel: Callable[..., Opened]) -> None:
    _, kernel = open_kernel()
    (payload,) = kernel.run("exit()").reply["payload"]
    assert payload["source"] == "ask_exit"


@pytest.mark.capsule_only
def test_a_kill_of_the_kernel_leaves_no_process(family: Family, open_kernel: Callable[..., Opened]) -> None:
    manager, kernel = open_kernel()
    _with_grandchildren(kernel, family)
    os.kill(_pid(manager), signal.SIGKILL)
    family.wait_until_gone(deadline=10)


@pytest.mark.capsule_only
@pytest.mark.parametrize(
    "busy", ["import time\nprint('started')\ntime.sleep(600)", "print('started')\nwhile True: pass"]
)
def test_a_kill_of_the_kernel_ends_a_running_cell(
    family: Family, open_kernel: Callable[..., Opened], busy: str
) -> None:
    manager, kernel = open_kernel()
    kernel.start(busy)
    assert family.below(_pid(manager))
    os.kill(_pid(manager), signal.SIGKILL)
    family.wait_until_gone(deadline=10)


@pytest.mark.capsule_only
@pytest.mark.parametrize("death", DEATHS)
def test_a_crash_of_the_worker_fails_only_its_cell_and_names_the_signal(shared_kernel: Opened, death: str) -> None:
    manager, kernel = shared_kernel
    code, signal_name = DEATHS[death]
    front = _pid(manager)
    exchange = kernel.run(f"print('last words')\n{code}")
    assert exchange.reply["ename"] == "WorkerDied"
    assert signal_name in exchange.reply["evalue"]
    assert [error["ename"] for error in exchange.of("error")] == ["WorkerDied"]
    assert exchange.text() == "last words\n"
    assert exchange.states == ["busy", "idle"]
    assert kernel.run("6 * 7").result == "42"
    assert _pid(manager) == front


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """Return a control group whose processes may use 400 MB together."""
    root = Path("/sys/fs/cgroup/memory")
    root = root if root.is_dir() else Path("/sys/fs/cgroup")
    group = root / f"capsule-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        limit = next(
            (group / name for name in ("memory.limit_in_bytes", "memory.max") if (group / name).exists()), None
        )
        if limit is None:
            pytest.skip("the memory of a control group cannot be limited here")
        limit.write_text(str(400 << 20))
        yield group
    finally:
        poll_until(lambda: not (group / "cgroup.procs").read_text(), "the control group is empty")
        group.rmdir()


@pytest.mark.capsule_only
def test_a_worker_that_runs_out_of_memory_is_reported_as_such(shared_kernel: Opened, memory_group: Path) -> None:
    manager, kernel = shared_kernel
    worker = outside(_pid(manager), int(kernel.run("import os; os.getpid()").result))
    (memory_group / "cgroup.procs").write_text(str(worker))
    exchange = kernel.run("hoard = [bytearray(b'x') * (50 << 20) for _ in range(16)]")
    assert exchange.reply["ename"] == "WorkerDied"
    assert "SIGKILL" in exchange.reply["evalue"]
    assert "out of memory" in exchange.reply["evalue"]
    assert kernel.run("6 * 7").result == "42"


@pytest.mark.capsule_only
def test_a_worker_that_exits_in_a_cell_fails_it_with_its_exit_status(kernel: Conversation) -> None:
    exchange = kernel.run("import os\nos._exit(3)")
    assert exchange.reply["ename"] == "WorkerDied"
    assert "3" in exchange.reply["evalue"]
    assert kernel.run("6 * 7").result == "42"


@pytest.mark.capsule_only
def test_a_crash_of_the_worker_aborts_the_cells_in_the_queue(kernel: Conversation, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    dying = kernel.start(
        "import os, pathlib, time\nprint('started')\n"
        f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\nos._exit(1)"
    )
    queued = kernel.client.execute("1")
    kernel.finish(kernel.send_control("kernel_info_request"))
    gate.touch()
    first, second = kernel.finish(dying, queued)
    assert (first.reply["status"], second.reply["status"]) == ("error", "aborted")


@pytest.mark.capsule_only
def test_a_dead_worker_leaves_no_child_of_its_cells(family: Family, open_kernel: Callable[..., Opened]) -> None:
    _, kernel = open_kernel()
    _with_grandchildren(kernel, family)
    children = {process for process in family.meet() if "600" in " ".join(_command(process))}
    assert children
    kernel.run("import os\nos._exit(1)")
    poll_until(lambda: not children & family.alive(), "the children of the dead worker are gone")
    assert kernel.run("6 * 7").result == "42"
