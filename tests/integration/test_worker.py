"""A real worker process: outputs precede results, nothing is lost, nothing is torn."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from capsule_durable.errors import TransportClosed
from capsule_worker.protocol import messages as m
from tests.support.waiting import DEADLINE, pass_time, poll_until_async
from tests.support.worker import ends, live_worker, text_of

pytestmark = pytest.mark.asyncio

CORPUS = {
    "long": ("for i in range(50_000): print(i)", "".join(f"{i}\n" for i in range(50_000))),
    "progress": ("for i in range(5_000): print(f'\\r{i}', end='')", "".join(f"\r{i}" for i in range(5_000))),
    "small writes": (
        "import sys\nfor i in range(50_000): sys.stdout.write('0123456789abcdef' * 64)",
        "0123456789abcdef" * 64 * 50_000,
    ),
    "one long text": ("print('x' * 5_000_000)", "x" * 5_000_000 + "\n"),
    "child": ("import subprocess\nprint('a'); subprocess.run(['echo', 'b']); print('c')", "a\nb\nc\n"),
    "C": ("import ctypes\nctypes.CDLL(None).printf(b'from C'); None", "from C"),
    "buffer": (
        "import sys\nsys.stdout.buffer.write('é'.encode()[:1]); sys.stdout.buffer.write('é'.encode()[1:]); None",
        "é",
    ),
    "fork": (
        "import os\nif os.fork() == 0:\n    print('child'); os._exit(0)\nos.wait(); print('parent')",
        "child\nparent\n",
    ),
    "threads": (
        "import sys, threading\nts = [threading.Thread(target=sys.stdout.write, args=('t\\n',)) for _ in range(20)]\n"
        "[t.start() for t in ts]; [t.join() for t in ts]; None",
        "t\n" * 20,
    ),
}


async def test_outputs_precede_their_result_and_arrive_whole() -> None:
    async with live_worker() as worker:
        for name, (code, expected) in CORPUS.items():
            messages = await worker.run(code)
            assert isinstance(messages[-1], m.ResultMessage), name
            assert messages[-1].status == "ok", (name, messages[-1])
            assert text_of(messages) == expected, name
            assert messages[-1].execution_time > 0


async def test_200_000_prints_are_few_messages() -> None:
    async with live_worker() as worker:
        messages = await worker.run("for i in range(200_000): print(i)")
        assert text_of(messages) == "".join(f"{i}\n" for i in range(200_000))
        assert len(messages) < 200


async def test_the_first_line_of_a_cell_is_seen_while_it_runs() -> None:
    async with live_worker() as worker:
        execution_id = worker.send("print('first')\nanswer = input()", allow_stdin=True)
        messages = await worker.until(lambda message: isinstance(message, m.InputMessage))
        assert text_of(messages) == "first\n"
        worker.worker.transport.send(m.InputResponseMessage(input_id=messages[-1].id, value="x"))
        await worker.until(ends(execution_id))


async def test_a_drain_timeout_gives_one_error_and_no_result() -> None:
    async with live_worker(drain_timeout=0.3) as worker:
        transport = worker.worker.transport
        transport._transport.pause_reading()  # a front that does not read
        # More than the socket holds, and less than what makes the cell itself wait.
        first = worker.send("import sys\nsys.stdout.write('x' * 1_000_000); None")
        # The cell is over, as far as it can be, when its process has nothing left to do.
        await _asleep(worker.worker.pid)
        transport._transport.resume_reading()
        messages = await worker.until(ends(first))
        assert isinstance(messages[-1], m.ErrorMessage)
        assert messages[-1].error_type == "OutputDrainTimeout"
        after = await worker.run("print('after')")
        assert [message for message in after if ends(first)(message)] == []
        assert text_of(after) == "after\n"


#: Looks in a row, a fiftieth of a second apart.
_QUIET = 50


async def _asleep(pid: int) -> None:
    """Wait until a process uses no more processor time than a waiting one."""
    seen: list[list[str]] = []

    def is_read_only() -> bool:
        seen.append(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])
        return len(seen) > _QUIET and all(times == seen[-1] for times in seen[-_QUIET:])

    await poll_until_async(is_read_only, "a process that waits")


async def test_a_second_execution_is_rejected_while_the_worker_is_busy_and_disturbs_nothing() -> None:
    async with live_worker() as worker:
        first = worker.send("print('before'); answer = input(); print('after', answer)", allow_stdin=True)
        asked = await worker.until(lambda message: isinstance(message, m.InputMessage))
        second = worker.send("print('never')")
        busy = await worker.until(ends(second))
        assert busy[-1].error_type == "Busy"
        worker.worker.transport.send(m.InputResponseMessage(input_id=asked[-1].id, value="x"))
        rest = await worker.until(ends(first))
        assert rest[-1].status == "ok"
        assert text_of(asked + busy + rest) == "before\nafter x\n"
        assert {message.execution_id for message in rest if isinstance(message, m.OutputMessage)} == {first}


async def test_an_interrupt_hits_only_the_execution_that_it_names() -> None:
    async with live_worker() as worker:
        execution_id = worker.send("print('started')\nimport time\ntime.sleep(60)")
        await worker.until(lambda message: isinstance(message, m.OutputMessage))
        worker.worker.transport.send(m.InterruptMessage(id="1", execution_id="another"))
        reply = await worker.until(lambda message: isinstance(message, m.InterruptReplyMessage))
        assert not reply[-1].interrupted
        worker.worker.transport.send(m.InterruptMessage(id="2", execution_id=execution_id))
        messages = await worker.until(ends(execution_id))
        assert messages[-1].ename == "KeyboardInterrupt"


async def test_a_storm_of_interrupts_tears_no_frame() -> None:
    async with live_worker() as worker:
        for _ in range(5):
            execution_id = worker.send(
                "n = 0\nwhile n < 200_000:\n    try:\n        while n < 200_000:\n            print(n); n += 1\n"
                "    except KeyboardInterrupt:\n        pass"
            )
            await worker.until(lambda message: isinstance(message, m.OutputMessage))
            for _ in range(20):
                os.killpg(worker.worker.pid, signal.SIGINT)
                await asyncio.to_thread(pass_time, 0.002)
            await worker.until(ends(execution_id))
        assert text_of(await worker.run("print('whole')")) == "whole\n"


async def test_questions_are_answered_while_a_cell_runs() -> None:
    async with live_worker() as worker:
        execution_id = worker.send("name_of_mine = 1\ninput()", allow_stdin=True)
        asked = await worker.until(lambda message: isinstance(message, m.InputMessage))
        worker.worker.transport.send(m.CompleteMessage(id="c", code="name_of_m", cursor_pos=9))
        reply = await worker.until(lambda message: isinstance(message, m.CompleteReplyMessage))
        assert reply[-1].content["matches"] == ["name_of_mine"]
        worker.worker.transport.send(m.InputResponseMessage(input_id=asked[-1].id, value=""))
        await worker.until(ends(execution_id))


async def test_a_heartbeat_says_what_runs() -> None:
    async with live_worker() as worker:
        worker.worker.transport.send(m.HeartbeatMessage(id="h"))
        assert (await worker.receive()).execution_id is None


async def test_a_worker_that_keeps_no_checkpoints_says_so_when_it_is_asked_for_one() -> None:
    async with live_worker() as worker:
        worker.worker.transport.send(m.CheckpointMessage(id="k"))
        reply = await worker.receive()
        assert reply.request_id == "k"
        assert "no checkpoints are saved" in reply.message


async def test_streams_survive_what_cells_do_to_them() -> None:
    async with live_worker() as worker:
        for code in (
            "import sys\nsys.stdout.close()",
            "sys.stdout.flush()",
            "print('x', file=sys.__stdout__, flush=True)",
        ):
            assert (await worker.run(code))[-1].status == "ok"
        assert text_of(await worker.run("print('still here')")) == "still here\n"


async def test_a_worker_and_all_that_it_started_end_with_the_connection(tmp_path: Path) -> None:
    async with live_worker() as worker:
        code = (
            "from subprocess import Popen\n"
            "ps = [Popen(['sleep', '600'], start_new_session=new) for new in (False, True)]\n"
            "print(*[p.pid for p in ps])"
        )
        pids = [int(pid) for pid in text_of(await worker.run(code)).split()]
        worker.worker.transport.close()
        end = await asyncio.wait_for(asyncio.shield(worker.worker.exited), DEADLINE)
        assert end.returncode == 0
        await poll_until_async(lambda: not any(_runs(pid) for pid in pids), "no process left")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def test_the_last_words_of_a_dying_worker_are_found() -> None:
    async with live_worker() as worker:
        worker.send("import os, ctypes\nprint('python'); os.write(1, b'pipe'); os.kill(os.getpid(), 9)")
        with pytest.raises(TransportClosed):
            while True:
                message = await worker.receive()
                assert isinstance(message, m.OutputMessage)
        end = await worker.worker.exited
        assert end.returncode == -signal.SIGKILL
        assert end.peak_memory > 10_000_000


async def test_a_crash_leaves_its_python_stack() -> None:
    async with live_worker() as worker:
        worker.send("import ctypes\ndef crash():\n    ctypes.string_at(0)\ncrash()")
        end = await asyncio.wait_for(asyncio.shield(worker.worker.exited), DEADLINE)
        assert end.returncode == -signal.SIGSEGV
        assert "in crash" in end.stack
