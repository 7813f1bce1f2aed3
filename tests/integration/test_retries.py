"""Cells that are tried again, in an interactive kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kernels import Kernel, kernel


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Kernel]:
    with kernel(tmp_path / "home") as opened:
        opened.ok(f"import os, pathlib\nlog = pathlib.Path({str(tmp_path / 'log')!r})\nkept = []")
        yield opened


COUNT = "kept.append(1)\nlog.write_text((log.read_text() if log.exists() else '') + 'x')\n"


def test_each_attempt_begins_with_the_state_before_the_cell(one: Kernel) -> None:
    done = one.ok(
        "%%capsule retry=3 delay=0.01\n" + COUNT + "n = len(log.read_text())\n"
        "if n == 1: raise OSError('not yet')\nif n == 2: os.abort()\nprint(n, kept)"
    )
    assert done.text() == "3 [1]\n"
    said = done.text("stderr")
    assert "OSError: not yet. Tried again in 0.01 s; attempts left: 3" in said
    assert "SIGABRT" in said
    assert done.of("execute_input")[0]["execution_count"] == 2
    assert one.text("print(kept, len(log.read_text()))") == "[1] 3\n"


def test_the_last_failure_is_the_cell_s(one: Kernel) -> None:
    done = one.run("%%capsule retry=2 delay=0.01\n" + COUNT + "raise OSError('never')")
    assert done.reply["ename"] == "OSError"
    assert one.text("print(len(log.read_text()))") == "3\n"


def test_what_would_fail_again_is_not_tried(one: Kernel) -> None:
    done = one.run("%%capsule retry=2 delay=0.01\n" + COUNT + "unknown")
    assert done.reply["ename"] == "NameError"
    assert "line 4" in "".join(done.reply["traceback"])
    assert one.text("print(len(log.read_text()))") == "1\n"


def test_an_interrupt_ends_the_attempts(one: Kernel) -> None:
    request = one.talk.client.execute("%%capsule retry=5 delay=60\nraise OSError('not yet')")
    one.talk.listen_until(lambda: "Tried again" in one.talk.exchange(request).text("stderr"), "the pause")
    one.manager.interrupt_kernel()
    (done,) = one.talk.finish(request)
    assert done.reply["ename"] == "OSError"
    assert one.text("print('continues')") == "continues\n"


def test_an_invalid_policy_is_reported(one: Kernel) -> None:
    assert "%%capsule retry=3" in one.refused("%%capsule retry=often\nx = 1")
    assert one.text("print('x' in globals())") == "False\n"


def test_interrupts_do_not_end_a_worker_that_is_starting(tmp_path: Path) -> None:
    with kernel(tmp_path / "home", spare_worker="false", checkpoints="off") as bare:
        for _ in range(5):
            bare.died()
            waits = str(bare.talk.client.execute("3"))
            for _ in range(30):
                interrupt = bare.talk.send_control("interrupt_request")
                bare.talk.listen_until(lambda: bare.talk.exchange(interrupt).replies, "interrupt_reply")  # noqa: B023
            (done,) = bare.talk.finish(waits)
            assert done.reply.get("ename") in (None, "KeyboardInterrupt"), done.reply
            assert bare.ok("4").result == "4"
