"""Checkpoints written by a copy of the process: whatever objects do while they are saved, they do it to themselves."""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from capsule_worker.checkpoints.pickling.placeholder import variable_of
from capsule_worker.checkpoints.storage import pack_writer
from capsule_worker.checkpoints.writing import forked_writer
from capsule_worker.checkpoints.writing.publish import lease_packs
from capsule_worker.checkpoints.writing.strategies import ForkedWrite
from capsule_worker.checkpoints.writing.writer import Writer
from capsule_worker.process import children
from capsule_worker.protocol import manifest as mf
from tests.support.saved_notebook import Notebook, pack_paths
from tests.support.waiting import pass_time, poll_until

pytestmark = pytest.mark.process

#: Seconds without progress that are too many in these tests.
HANG = 1.0
MB = 1 << 20


@pytest.fixture(autouse=True)
def no_other_children() -> None:
    """What ran in this process before is to be gone."""
    with contextlib.suppress(ChildProcessError):
        poll_until(lambda: os.waitpid(-1, os.WNOHANG) is None, "no children")


@pytest.fixture
def notebook(tmp_path: Path) -> Notebook:
    return Notebook(tmp_path)


def wait_for_end(reading: int) -> None:
    """Wait until the guardian and all that it started are gone."""
    poller = select.poll()
    poller.register(reading, select.POLLHUP)
    assert poller.poll(60_000), "a copy of the process still exists"
    os.close(reading)
    while children.has_registered():
        children.reap()


def save_apart(notebook: Notebook, hang: float = HANG) -> list[str]:
    """Make a checkpoint as a worker does where objects may do anything; return how writers failed."""
    job = notebook.job()
    progress = forked_writer.Progress()
    reading, writing = os.pipe()
    telling, told = os.pipe()

    def guard() -> NoReturn:
        os.close(reading)
        # Else what a writer does ends in pytest's own files.
        faulthandler.disable()
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        blamed: dict[str, str] = {}

        def blame(unit: str, how: str) -> None:
            blamed[unit] = how
            os.write(told, f"{how}\n".encode())

        forked_writer.watch(progress, lambda: write(Writer(job, progress.step, blamed)), blame, hang)
        os._exit(0)

    def write(writer: Writer) -> None:
        notebook.carry_out(writer)

    forked_writer.fork_guardian(guard)
    os.close(writing)
    os.close(told)
    wait_for_end(reading)
    with os.fdopen(telling) as text:
        failures = text.read().splitlines()
    progress.close()
    return failures


def look(notebook: Notebook) -> dict[str, str | None]:
    """Return what the latest checkpoint says about each variable: why it is not in it."""
    return {variable.name: variable.reason for variable in notebook.manifest.variables}


def hostile(notebook: Notebook, body: str) -> None:
    """Make a namespace in which the state of one object cannot be asked for without consequences."""
    notebook.run(f"""
import numpy as np

before = [1, 2]
shared = {{"array": np.arange(50_000)}}
holder = [shared]

class Hostile:
    def __init__(self):
        self.asked = 0

    def __reduce__(self):
        import ctypes, os, signal, sys, threading, time
        {body}
        return dict, ()

hostile = Hostile()
with_it = [hostile, shared]
after = "text"
""")


def check_others(notebook: Notebook) -> Notebook:
    """See that all that is not hostile came through."""
    fresh = notebook.restored()
    assert fresh["before"] == [1, 2]
    assert fresh["after"] == "text"
    assert fresh["holder"][0] is fresh["shared"]
    assert (fresh["shared"]["array"] == notebook["shared"]["array"]).all()
    return fresh


LOST: dict[str, tuple[str, str]] = {
    "raises": ("raise ValueError('no state')", "ValueError: no state"),
    "raises what is not caught": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "exits": ("sys.exit('enough')", "SystemExit: enough"),
    "ends the process": ("os._exit(3)", "ended the process that did it (status 3)"),
    "ends the process as if all were well": ("os._exit(0)", "ended the process that did it (status 0)"),
    "crashes": ("ctypes.string_at(0)", "ended the process that did it (SIGSEGV)"),
    "aborts": ("os.abort()", "ended the process that did it (SIGABRT)"),
    "kills": ("os.kill(os.getpid(), signal.SIGKILL)", "ended the process that did it (SIGKILL)"),
    "sleeps": ("time.sleep(1000)", "made no progress for 1 s"),
    "works forever": ("while True: pass", "made no progress for 1 s"),
    "waits for a thread that is not here": ("threading.Event().wait()", "made no progress for 1 s"),
    "asks": ("os.read(0, 1) or sys.exit('no answer')", "SystemExit: no answer"),
    "takes all memory at once": ("bytearray(1 << 45)", "MemoryError"),
    "never ends": ("return dict, (), {'deeper': type(self)()}", "excessively deep recursion"),
}


@pytest.mark.parametrize(("body", "reason"), LOST.values(), ids=LOST)
def test_an_object_that_cannot_be_saved_is_listed_and_all_others_are_saved(notebook, capfd, body, reason):
    hostile(notebook, body)
    save_apart(notebook)
    reasons = look(notebook)
    assert {name for name, why in reasons.items() if why} == {"hostile", "with_it"}
    assert reason in (reasons["hostile"] or "")
    assert reason in (reasons["with_it"] or "")
    fresh = check_others(notebook)
    assert variable_of(fresh["hostile"]) is not None
    assert capfd.readouterr() == ("", "")


SAVED: dict[str, str] = {
    "prints": "print('hello', flush=True); sys.stderr.write('hello'); os.write(1, b'hello'); os.write(2, b'hello')",
    "runs a program": "os.system('echo hello; echo hello >&2')",
    "forks": "os.fork()",
    "forks again and again": "os.fork(); os.fork()",
    "forks, and the copy sleeps": "os.fork() or time.sleep(1000)",
    "forks, and the copy raises": "exec('if not os.fork(): raise ValueError')",
    "starts a thread": "threading.Thread(target=time.sleep, args=(1000,)).start()",
    "changes itself": "self.asked += 1",
    "changes what others hold": "before.append(3); shared.clear(); globals().pop('after', None)",
    "changes the directory": "os.chdir('/')",
    "ignores signals": "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
}


@pytest.mark.parametrize("body", SAVED.values(), ids=SAVED)
def test_what_an_object_does_while_it_is_saved_stays_within_the_copy(notebook, capfd, body):
    hostile(notebook, body)
    directory, files = Path.cwd(), sorted(path.name for path in Path("/proc/self/fd").iterdir())
    assert save_apart(notebook, hang=30) == []
    assert capfd.readouterr() == ("", "")
    assert notebook["hostile"].asked == 0
    assert (notebook["before"], notebook["after"], len(notebook["shared"]["array"])) == ([1, 2], "text", 50_000)
    assert Path.cwd() == directory
    assert sorted(path.name for path in Path("/proc/self/fd").iterdir()) == files
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert len(notebook.manifests()) == len(pack_paths(notebook.directory)) == 1
    assert not any(look(notebook).values())
    if body != SAVED["changes what others hold"]:
        check_others(notebook)


def test_a_save_that_takes_more_and_more_memory_is_stopped(notebook, monkeypatch):
    monkeypatch.setattr(forked_writer, "_ROOM", 64 * MB)
    monkeypatch.setattr(forked_writer, "_PART", 0.0)
    hostile(notebook, "hoard = [time.sleep(0.01) or b'x' * 1_000_000 * (n % 2 + 1) for n in range(1000)]")
    (failure, *_) = save_apart(notebook, hang=30)
    assert failure == "saving it took more than 67 MB of memory"
    assert look(notebook)["hostile"] == failure
    check_others(notebook)


def test_an_array_on_a_file_that_has_shrunk_costs_only_itself(notebook, tmp_path):
    file = tmp_path / "array.bin"
    file.write_bytes(bytes(1_000_000))
    notebook.run(f"""
        import mmap
        import numpy as np

        before = np.arange(50_000)
        with open({str(file)!r}, "r+b") as file:
            mapped = np.frombuffer(mmap.mmap(file.fileno(), 0), "u1")
        after = np.arange(60_000)
        del file
    """)
    os.truncate(file, 0)
    save_apart(notebook)
    reasons = look(notebook)
    assert {name for name, why in reasons.items() if why} == {"mapped"}
    assert "SIGBUS" in (reasons["mapped"] or "")
    fresh = notebook.restored()
    assert (fresh["before"] == notebook["before"]).all()
    assert (fresh["after"] == notebook["after"]).all()


def test_any_number_of_objects_may_end_the_writer(notebook):
    notebook.run("""
        class Hostile:
            def __reduce__(self):
                import os
                os._exit(1)

        for number in range(30):
            globals()[f"hostile_{number}"] = Hostile()
        del number
        fine = [1]
    """)
    assert len(save_apart(notebook, hang=30)) == 30
    assert {name for name, why in look(notebook).items() if why} == {f"hostile_{number}" for number in range(30)}
    assert notebook.restored()["fine"] == [1]


def test_large_data_is_progress_however_long_it_takes(notebook, monkeypatch):
    """Writing takes its time; only what the objects themselves do is bounded."""
    write, fsync = os.write, os.fsync

    def slow_write(file: int, data: bytes) -> int:
        pass_time(0.3)
        return write(file, data)

    def slow_fsync(file: int) -> None:
        if os.fstat(file).st_size > MB:
            pass_time(2 * HANG)
        fsync(file)

    notebook.run("import random\nnoise = random.Random(1).randbytes(4_000_000)")
    monkeypatch.setattr(pack_writer, "_COLLECT", MB // 2)
    monkeypatch.setattr(os, "write", slow_write)
    monkeypatch.setattr(os, "fsync", slow_fsync)
    assert save_apart(notebook) == []
    assert not any(look(notebook).values())


def test_a_writer_that_fails_for_no_object_is_not_tried_again():
    progress = forked_writer.Progress()
    blamed: list[str] = []

    def write() -> None:
        progress.step(5, "")
        os._exit(1)

    def act() -> int:
        return int(forked_writer.watch(progress, write, lambda unit, _: blamed.append(unit), HANG))

    assert run(act) == 0
    assert blamed == []


def test_a_unit_that_is_blamed_twice_is_not_retried_indefinitely():
    progress = forked_writer.Progress()

    def write() -> None:
        progress.step(5, "always the same")
        os._exit(1)

    def act() -> int:
        blamed: list[str] = []
        done = forked_writer.watch(progress, write, lambda unit, _: blamed.append(unit), HANG)
        return 2 if blamed == ["always the same"] and not done else 0

    assert run(act) == 2


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def run(act: Callable[[], int]) -> int:
    """Run something in a child and return its status."""
    child = os.fork()
    if not child:
        status = 100
        try:
            status = act()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_guardian_is_not_this_process_s_child():
    reading, writing = os.pipe()
    forked_writer.fork_guardian(lambda: pass_time(0.5) or os._exit(0))  # type: ignore[func-returns-value]
    os.close(writing)
    assert not children.has_others()
    while children.has_registered():
        children.reap()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, 0)
    poller = select.poll()
    poller.register(reading, select.POLLHUP)
    assert not poller.poll(0), "it goes on"
    assert poller.poll(10_000)
    os.close(reading)


def test_what_fails_in_the_guardian_does_not_reach_the_code_that_forked(notebook):
    def guard() -> NoReturn:
        raise KeyboardInterrupt

    reading, writing = os.pipe()
    forked_writer.fork_guardian(guard)
    os.close(writing)
    wait_for_end(reading)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_writer_that_ends_while_it_commits_is_not_repeated_but_finished(notebook, monkeypatch, when):
    """Once others may have seen a checkpoint, it is not written again, for that would spoil what they have seen."""
    notebook.run("a = [1, 2, 3]")
    commit = Writer.commit
    began = os.pipe()

    def end(writer: Writer) -> None:
        os.write(began[1], b"x")
        if when == "after":
            commit(writer)
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Writer, "commit", end)
    job = notebook.job()
    write = ForkedWrite(job, [])
    assert write.wait(60)
    assert set(write.collect().unsaved) == set()
    write.close()
    os.close(began[1])
    with os.fdopen(began[0], "rb") as told:
        assert told.read() == b"x"
    names = sorted(path.name for path in (notebook.directory / mf.INCOMING).iterdir())
    assert names == [f"{job.head.number:08d}-{job.head.id}{mf.MANIFEST_SUFFIX}"]
    while children.has_registered():
        children.reap()


def test_files_that_a_writer_needs_are_claimed_while_it_runs(notebook):
    notebook.run("a = [1, 2, 3]")
    notebook.save()
    notebook.run("b = [4]")
    job = notebook.job()
    (kept,) = [one.name for one in (notebook.directory / mf.PACKS).iterdir()]
    with lease_packs(job):
        (path,) = (notebook.directory / mf.INCOMING).glob(f"*{mf.CLAIM_SUFFIX}")
        assert kept.removesuffix(mf.PACK_SUFFIX) in path.read_text().split()
        assert f"{job.head.number:08d}-{job.head.id[-8:]}" in path.read_text().split()
        with path.open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert not path.exists()


def test_progress_is_seen_by_processes_that_share_it():
    progress = forked_writer.Progress()
    assert progress.look() == (0, 0, "")
    progress.step(5, "a name")
    progress.step(7)
    assert progress.look() == (2, 7, "a name")
    progress.step(8, "ü" * 5000)
    assert progress.look()[2].startswith("üü")
    assert not progress.done
    progress.finish()
    assert progress.done
    assert progress.look()[:2] == (3, 8)
    progress.close()


def test_writers_do_not_end_with_an_interrupt(notebook):
    """The interrupt of a cell is not meant for the checkpoint of the one before."""
    hostile(notebook, f"os.kill(os.getpid(), {int(signal.SIGINT)})")
    assert save_apart(notebook) == []
    assert not any(look(notebook).values())
