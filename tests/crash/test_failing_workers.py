"""Workers that die, lie, never come up, or speak another protocol: each fails its cell, and the next one works."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from capsule_durable import ids
from capsule_durable.config.settings import Settings
from capsule_durable.errors import WorkerDied, WorkerUnavailable
from capsule_durable.execution.runtime import Runtime
from capsule_durable.messaging.capabilities import Capabilities
from capsule_durable.workers.launcher import Launcher
from capsule_worker.protocol import messages as m
from tests.support.waiting import DEADLINE, poll_until_async

pytestmark = pytest.mark.asyncio

#: With ``flush``: text that is still waiting would be sent behind a frame that breaks the protocol.
PROTOCOL_SOCKET = (
    "import gc, sys\nfrom capsule_worker.process.channel import Channel\n"
    "sys.stdout.flush()\n"
    "sock = next(o for o in gc.get_objects() if isinstance(o, Channel))._sock\n"
)


class RunningRuntime:
    """A runtime, and the text that its cells wrote."""

    def __init__(self, python: str = sys.executable) -> None:
        self.text = ""
        capabilities = Capabilities(self._stream, lambda *_: None, lambda question: None)
        settings = Settings(python=python, home=os.environ["CAPSULE_HOME"])
        self.runtime = Runtime(uuid.uuid4().hex, settings, capabilities, Launcher(python))
        self.runtime.start()

    def _stream(self, execution_id: str, output: m.StreamOutput) -> None:
        self.text += output.text

    async def run(self, code: str) -> m.ResultMessage:
        request = m.ExecuteMessage(id=ids.new_execution_id(), code=code)
        return await asyncio.wait_for(self.runtime.cells.execute(request), DEADLINE)


@pytest_asyncio.fixture
async def setup() -> AsyncIterator[RunningRuntime]:
    built = RunningRuntime()
    yield built
    await asyncio.wait_for(built.runtime.close(), DEADLINE)
    assert built.runtime.bridge.pending == 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
        ("import os; os._exit(3)", "status 3"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("import os; os.abort()", "SIGABRT"),
        (PROTOCOL_SOCKET + "sock.send(b'\\xff' * 100)\nimport time; time.sleep(60)", "broke the protocol"),
        (
            PROTOCOL_SOCKET + "sock.send(b'\\x00\\x00\\x00\\x05abcde')\nimport time; time.sleep(60)",
            "broke the protocol",
        ),
        (
            PROTOCOL_SOCKET + "import socket as s; sock.shutdown(s.SHUT_RDWR)\nimport time; time.sleep(60)",
            "Python was killed",
        ),
    ],
    ids=["kill", "exit", "crash", "abort", "length", "frame", "hang up"],
)
async def test_a_worker_that_fails_fails_its_cell_only(setup: RunningRuntime, code: str, words: str) -> None:
    assert (await setup.run("1")).status == "ok"
    with pytest.raises(WorkerDied, match=words) as caught:
        await setup.run("print('last words')\n" + code)
    assert caught.value.fields["peak_memory"] > 10_000_000
    assert "last words\n" in setup.text
    assert (await setup.run("1")).status == "ok"


async def test_a_cell_is_not_sent_to_a_worker_that_is_ending(setup: RunningRuntime) -> None:
    assert (await setup.run("1")).status == "ok"
    worker, session = setup.runtime.workers.current, setup.runtime.session
    assert worker is not None
    worker.kill()
    while session.transport is not None:
        await asyncio.sleep(0)
    result = await setup.run("import os; print(os.getpid())")
    assert result.status == "ok"
    assert "Python was killed (SIGKILL, peak memory " in setup.text
    assert str(worker.pid) not in setup.text


async def test_cells_continue_after_the_forkserver_is_killed(setup: RunningRuntime) -> None:
    assert (await setup.run("x = 1\nimport os, signal\nos.kill(os.getppid(), signal.SIGKILL)")).status == "ok"
    assert (await setup.run("print(x)")).status == "ok"
    assert setup.text == "1\n"
    with pytest.raises(WorkerDied):
        await setup.run("os.kill(os.getpid(), signal.SIGKILL)")
    assert (await setup.run("2")).status == "ok"
    cookie = setup.runtime._launcher.front_tag
    await setup.runtime.close()
    await poll_until_async(lambda: not _marked(cookie), "no process left")


async def test_a_forged_result_settles_nothing_but_the_running_cell(setup: RunningRuntime) -> None:
    code = (
        PROTOCOL_SOCKET + "from capsule_worker.protocol import encode, messages as m\n"
        "for forged in ('another', ''):\n"
        "    sock.send(encode(m.ResultMessage(execution_id=forged, status='ok', execution_count=1,\n"
        "        next_execution_count=2, execution_time=0)))\n"
        "7"
    )
    assert (await setup.run(code)).status == "ok"
    assert (await setup.run("1")).status == "ok"


async def test_twenty_crashes_in_a_row_leave_no_process(setup: RunningRuntime) -> None:
    for n in range(20):
        with pytest.raises(WorkerDied):
            await setup.run("import os, subprocess\nsubprocess.Popen(['sleep', '600'])\nos.kill(os.getpid(), 9)")
        assert (await setup.run(f"{n}")).status == "ok"
    cookie = setup.runtime._launcher.front_tag
    await setup.runtime.close()
    await poll_until_async(lambda: not _marked(cookie), "no process left")


def _marked(cookie: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if cookie.encode() in (process / "environ").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found


def _script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return os.fspath(path)


async def test_an_environment_without_the_worker_is_reported_with_its_fix(tmp_path: Path) -> None:
    python = _script(tmp_path / "python", f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    setup = RunningRuntime(python)
    for _ in range(2):
        with pytest.raises(WorkerUnavailable, match=f"uv pip install --python {python} capsule-worker=="):
            await setup.run("1")
    await setup.runtime.close()


async def test_an_interpreter_that_does_not_exist_is_named() -> None:
    setup = RunningRuntime("/nowhere/python")
    with pytest.raises(WorkerUnavailable, match="/nowhere/python cannot be started"):
        await setup.run("1")
    await setup.runtime.close()


async def test_a_worker_that_comes_up_later_is_used(tmp_path: Path) -> None:
    python = _script(tmp_path / "python", "#!/bin/sh\necho not yet >&2; exit 1\n")
    setup = RunningRuntime(python)
    with pytest.raises(WorkerUnavailable, match="not yet"):
        await setup.run("1")
    _script(tmp_path / "python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    assert (await setup.run("1")).status == "ok"
    await setup.runtime.close()


async def test_a_worker_of_another_protocol_is_refused(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'capsule_worker' in ' '.join(sys.orig_argv):\n"
        "    import capsule_worker.protocol as p\n    p.PROTOCOL_VERSION = 999\n"
    )
    python = _script(tmp_path / "python", f'#!/bin/sh\nPYTHONPATH="{site}" exec "{sys.executable}" "$@"\n')
    setup = RunningRuntime(python)
    with pytest.raises(WorkerUnavailable, match="another protocol"):
        await setup.run("1")
    await setup.runtime.close()
