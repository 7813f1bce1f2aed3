"""A cell that exceeds a limit is refused more, or gets an error, or its worker is ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from capsule_durable.config.limits import Limits
from capsule_durable.sandbox.resource_monitor import LimitViolation, ResourceMonitor, RunningCell
from tests.support.kernels import Kernel, kernel
from tests.support.sandboxes import Setup, need_bubblewrap, sandboxed_kernel, users
from tests.support.waiting import poll_until

#: Catches every exception, and continues.
STUBBORN = "import time\nwhile True:\n    try:\n        while True: {work}\n    except BaseException: pass"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def running(one: Kernel) -> int:
    """Return how many processes a kernel has, without zombies."""
    count = 0
    for each in psutil.Process(one.front).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            count += each.status() != psutil.STATUS_ZOMBIE
    return count


def traceback(one: Kernel, code: str, ename: str) -> str:
    """Run a cell that fails, and return its traceback."""
    done = one.run(code)
    assert done.reply["ename"] == ename, done.reply
    return "\n".join(done.reply["traceback"])


def test_a_limit_that_a_cell_sets_applies_and_does_no_harm(home: Path) -> None:
    """Even a hard limit, which no process can raise again."""
    with kernel(home, profile="notebook", memory_limit="1GB") as one:
        text = one.text(
            "import resource, time\nresource.setrlimit(resource.RLIMIT_DATA, (700_000_000, 800_000_000))\n"
            "for _ in range(5): print('x', flush=True); time.sleep(0.05)\n"
            "print(resource.getrlimit(resource.RLIMIT_DATA))"
        )
        assert text == "x\n" * 5 + "(700000000, 800000000)\n"
        assert one.text("print(resource.getrlimit(resource.RLIMIT_DATA))") == "(800000000, 800000000)\n"
        assert one.run("1 / 0").reply["ename"] == "ZeroDivisionError"


@pytest.mark.parametrize("profile", ["open", "notebook"])
def test_a_file_gets_no_larger_than_its_limit(home: Path, tmp_path: Path, profile: str) -> None:
    with kernel(home, profile=profile, file_size_limit="10MB") as one:
        said = traceback(one, f"open({str(tmp_path / 'large')!r}, 'wb').write(bytes(20_000_000))", "OSError")
        assert "File too large" in said
        assert "file_size_limit" in said
        assert (tmp_path / "large").stat().st_size <= 10_000_000
        one.ok("x = 1")


def test_the_number_of_open_files_is_limited(home: Path) -> None:
    with kernel(home, open_file_limit=128) as one:
        said = traceback(one, "files = []\nfor _ in range(200): files.append(open('/dev/null'))", "OSError")
        assert "Too many open files" in said
        assert "open_file_limit" in said
        one.ok("for file in files: file.close()")


@pytest.mark.parametrize("user", users())
def test_the_number_of_processes_is_limited(user: str) -> None:
    """The front counts the processes of root, which the system does not limit."""
    storm = (
        "import os, time\nfor number in range(600):\n    if os.fork() == 0: time.sleep(3); os._exit(0)\ntime.sleep(60)"
    )
    with sandboxed_kernel(Setup("notebook"), user, process_limit=120) as (one, _):
        one.ok("kept = [1]")
        one.ok("kept.append(2)")
        done = one.run(storm)
        assert done.reply["ename"] in ("OSError", "BlockingIOError", "WorkerDied")
        said = done.reply["evalue"] + "\n".join(done.reply["traceback"])
        assert "process" in said
        assert "limit" in said
        assert one.text("print(kept)") == "[1, 2]\n"
        poll_until(lambda: running(one) < 60, "the storm is over")


def test_an_endless_fork_is_ended_with_all_its_processes(home: Path) -> None:
    need_bubblewrap()
    storm = (
        "import os, time\ndef grow(left):\n    for _ in range(left):\n        try:\n"
        "            if os.fork() == 0:\n                os.setsid(); time.sleep(60); os._exit(0)\n"
        "        except OSError: pass\ngrow(300)\nwhile True:\n    try: time.sleep(60)\n    except OSError: pass"
    )
    with kernel(home, profile="notebook", process_limit=150) as one:
        one.ok("kept = [1]")
        one.ok("kept.append(2)")
        told = one.died(storm)
        assert "the limit of 150 processes and threads is exceeded" in told
        assert one.text("print(kept)") == "[1, 2]\n"
        poll_until(lambda: running(one) < 20, "nothing of it is left")


@pytest.mark.parametrize("profile", ["open", "notebook"])
def test_a_cell_that_takes_too_long_gets_an_error(home: Path, profile: str) -> None:
    with kernel(home, profile=profile, execution_timeout=1) as one:
        one.ok("import asyncio, time\nkept = 1")
        for code in ("time.sleep(60)", "while True: pass", "await asyncio.sleep(60)"):
            said = traceback(one, code, "TimeoutError")
            assert "the limit of 1 s for a cell is exceeded; execution_timeout sets it" in said
        assert one.text("print(kept)") == "1\n"


@pytest.mark.parametrize("profile", ["open", "notebook"])
def test_a_cell_that_ignores_the_error_is_ended_and_the_variables_restored(home: Path, profile: str) -> None:
    with kernel(home, profile=profile, execution_timeout=1) as one:
        one.ok("kept = [1]")
        one.ok("kept.append(2)")
        for work in ("time.sleep(60)", "time.sleep(0.001)"):
            told = one.died(STUBBORN.format(work=work))
            assert "the limit of 1 s for a cell is exceeded" in told
            assert "variables are restored" in told
            assert one.text("print(kept)") == "[1, 2]\n"


def test_c_code_that_takes_too_long_is_ended(home: Path) -> None:
    with kernel(home, execution_timeout=1) as one:
        one.ok("kept = 1")
        told = one.died("import ctypes\nctypes.PyDLL(None).sleep(60)")
        assert "the limit of 1 s for a cell is exceeded" in told
        assert one.text("print(kept)") == "1\n"


def test_processor_time_includes_that_of_child_processes(home: Path) -> None:
    with kernel(home, cpu_limit=1) as one:
        one.ok("import subprocess, sys, time\ntime.sleep(1.5)\nkept = 1")
        said = traceback(one, "while True: pass", "TimeoutError")
        assert "the limit of 1 s of processor time for a cell is exceeded; cpu_limit sets it" in said
        # What earlier cells have used does not count.
        one.ok("sum(range(1_000_000))")
        started = time.monotonic()
        traceback(one, "subprocess.run([sys.executable, '-c', 'while True: pass'])", "TimeoutError")
        assert time.monotonic() - started < 30
        assert one.text("print(kept)") == "1\n"


def test_files_in_memory_count(home: Path) -> None:
    need_bubblewrap()
    fill = (
        "import time\nwith open('/dev/shm/large', 'wb') as file:\n"
        "    for _ in range(60): file.write(bytes(10_000_000)); time.sleep(0.01)\n"
    )
    with kernel(home, profile="notebook", memory_limit="300MB") as one:
        one.ok("kept = [1]")
        one.ok("kept.append(2)")
        assert "of them by temporary files" in traceback(one, fill, "MemoryError")
        # Where they stay, all that is in the sandbox ends, and they with it.
        done = one.run(STUBBORN.format(work="time.sleep(1)"))
        assert done.reply["ename"] == "WorkerDied"
        assert "variables are restored" in done.reply["evalue"]
        assert one.text("import os\nprint(kept, os.path.exists('/dev/shm/large'))") == "[1, 2] False\n"


# -- the meter ----------------------------------------------------------------------------------------------------


@pytest.fixture
def sleeper() -> Iterator[psutil.Popen]:
    with psutil.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_the_monitor_returns_each_limit_that_is_exceeded(sleeper: psutil.Popen) -> None:
    now = 100.0
    limits = Limits(memory=1000, processes=5, cell_time=10.0, cpu_time=10.0)
    meter = ResourceMonitor(limits, sleeper.pid, clock=lambda: now)
    breaches = meter.violations(RunningCell("e1", since=80.0))
    assert [breach.setting for breach in breaches] == ["memory_limit", "execution_timeout"]
    assert breaches[1] == LimitViolation(
        "the limit of 10 s for a cell is exceeded", "execution_timeout", "TimeoutError"
    )
    assert [breach.setting for breach in meter.violations(None)] == ["memory_limit"]
    assert [breach.setting for breach in meter.violations(RunningCell("e2", since=95.0))] == ["memory_limit"]


def test_without_limits_none_is_exceeded(sleeper: psutil.Popen) -> None:
    assert not Limits().is_watched
    assert not Limits(file_size=1, open_files=1).is_watched
    assert ResourceMonitor(Limits(), sleeper.pid).violations(RunningCell("e1", since=0.0)) == []


def test_the_system_limits_processes_only_in_a_user_namespace() -> None:
    limits = Limits(memory=1, processes=2, file_size=3)
    assert limits.enforced_by_system(has_user_namespace=True) == {"memory": 1, "processes": 2, "file_size": 3}
    assert limits.enforced_by_system(has_user_namespace=False) == {"memory": 1, "file_size": 3}
