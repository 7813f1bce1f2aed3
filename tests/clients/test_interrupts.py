"""Interrupting a cell, whatever it is doing. Interrupts come from Jupyter's own kernel manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.kernels import INTERRUPT

if TYPE_CHECKING:
    from tests.support.kernels import Opened

WAITS = {
    "time.sleep": "import time\nprint('started')\ntime.sleep(60)",
    "a busy loop": "print('started')\nwhile True: pass",
    "a child process": "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\nprint('started')\nchild.wait()",
    "a shell magic": "!echo started; sleep 60",
    "a cell magic": "%%bash\necho started\nsleep 60",
    "an await": "import asyncio\nprint('started')\nawait asyncio.sleep(60)",
    "a lock": "import threading\nprint('started')\nthreading.Event().wait(60)",
    "a thread being joined": (
        "import threading\nt = threading.Thread(target=threading.Event().wait, args=(60,), daemon=True)\n"
        "t.start()\nprint('started')\nt.join()"
    ),
}

MAGICS = {"a shell magic", "a cell magic"}
"""Their cells end without an error when they are interrupted, or with one about the child."""


# ipykernel notices the interrupt of an await only when its event loop wakes for another reason.
ONLY_HERE = {"an await"}


@pytest.mark.parametrize(
    "wait", [pytest.param(wait, marks=[pytest.mark.capsule_only] * (wait in ONLY_HERE)) for wait in WAITS]
)
def test_an_interrupt_ends_the_cell_and_keeps_the_namespace(shared_kernel: Opened, wait: str) -> None:
    manager, kernel = shared_kernel
    kernel.run("kept = 'kept'")
    request = kernel.start(WAITS[wait])
    manager.interrupt_kernel()
    (exchange,) = kernel.finish(request)
    if wait not in MAGICS:
        assert exchange.reply["ename"] == INTERRUPT
        assert [error["ename"] for error in exchange.of("error")] == [INTERRUPT]
    assert kernel.run("kept").result == "'kept'"


def test_an_interrupt_ends_a_question_to_the_user(shared_kernel: Opened) -> None:
    manager, kernel = shared_kernel
    request = kernel.client.execute("kept = 1\nanswer = input('Name? ')", allow_stdin=True)
    kernel.asked(request)
    manager.interrupt_kernel()
    (exchange,) = kernel.finish(request)
    assert exchange.reply["ename"] == INTERRUPT
    assert kernel.run("kept").result == "1"


# ipykernel's breakpoint() does not stop.
@pytest.mark.parametrize(
    "stop", ["import pdb; pdb.set_trace()", pytest.param("breakpoint()", marks=pytest.mark.capsule_only)]
)
def test_an_interrupt_ends_a_cell_that_is_in_the_debugger(shared_kernel: Opened, stop: str) -> None:
    manager, kernel = shared_kernel
    request = kernel.client.execute(f"kept = 1\n{stop}\nkept = 2", allow_stdin=True)
    kernel.asked(request)
    manager.interrupt_kernel()
    kernel.finish(request)
    assert kernel.run("kept in (1, 2)").result == "True"


def test_a_question_after_an_interrupted_one_gets_its_own_answer(shared_kernel: Opened) -> None:
    manager, kernel = shared_kernel
    interrupted = kernel.client.execute("input('first')", allow_stdin=True)
    kernel.asked(interrupted)
    manager.interrupt_kernel()
    kernel.finish(interrupted)
    asking = kernel.client.execute("input('second')", allow_stdin=True)
    assert kernel.asked(asking)["prompt"] == "second"
    kernel.answer("the answer")
    (exchange,) = kernel.finish(asking)
    assert exchange.result == "'the answer'"


def test_output_written_before_the_interrupt_is_all_there(shared_kernel: Opened) -> None:
    manager, kernel = shared_kernel
    request = kernel.start("for i in range(1000): print(i)\nprint('started')\nwhile True: pass")
    manager.interrupt_kernel()
    (exchange,) = kernel.finish(request)
    assert exchange.text() == "".join(f"{i}\n" for i in range(1000)) + "started\n"
    assert exchange.reply["ename"] == INTERRUPT


def test_code_may_catch_the_interrupt_and_continue(shared_kernel: Opened) -> None:
    manager, kernel = shared_kernel
    request = kernel.start(
        "import time\ntry:\n    print('started')\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    caught = True\ncaught"
    )
    manager.interrupt_kernel()
    (exchange,) = kernel.finish(request)
    assert exchange.reply["status"] == "ok"
    assert exchange.result == "True"


def test_the_child_of_an_interrupted_cell_ends_with_it(shared_kernel: Opened) -> None:
    manager, kernel = shared_kernel
    request = kernel.start(
        "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\nprint('started')\nchild.wait()"
    )
    manager.interrupt_kernel()
    kernel.finish(request)
    # It has ended long before its time. (Its status may be lost: Python loses it where the interrupt comes between
    # the system's answer and its keeping.)
    assert kernel.run("child.wait(timeout=20)").reply["status"] == "ok"


def test_two_interrupts_in_quick_succession_are_as_good_as_one(shared_kernel: Opened) -> None:
    manager, kernel = shared_kernel
    kernel.run("kept = 'kept'")
    for _ in range(3):
        request = kernel.start("import time\nprint('started')\ntime.sleep(60)")
        manager.interrupt_kernel()
        manager.interrupt_kernel()
        (exchange,) = kernel.finish(request)
        assert exchange.reply["ename"] == INTERRUPT
        kernel.finish(kernel.send_control("kernel_info_request"))
        assert kernel.run("kept").result == "'kept'"


def test_an_interrupt_between_cells_harms_neither_the_kernel_nor_the_next_cell(shared_kernel: Opened) -> None:
    manager, kernel = shared_kernel
    kernel.run("kept = 'kept'")
    manager.interrupt_kernel()
    kernel.finish(kernel.send_control("kernel_info_request"))
    exchange = kernel.run("import time\ntime.sleep(0.05)\nkept")
    assert exchange.reply["status"] == "ok"
    assert exchange.result == "'kept'"


def test_an_interrupted_cell_aborts_those_queued_behind_it(shared_kernel: Opened) -> None:
    manager, kernel = shared_kernel
    kernel.run("ran = False")
    request = kernel.start("import time\nprint('started')\ntime.sleep(60)")
    queued = kernel.client.execute("ran = True")
    kernel.finish(kernel.send_control("kernel_info_request"))
    manager.interrupt_kernel()
    first, second = kernel.finish(request, queued)
    assert (first.reply["status"], second.reply["status"]) == ("error", "aborted")
    assert kernel.run("ran").result == "False"


@pytest.mark.capsule_only
def test_an_interrupt_request_on_the_control_channel_does_the_same(shared_kernel: Opened) -> None:
    _, kernel = shared_kernel
    request = kernel.start("import time\nkept = 1\nprint('started')\ntime.sleep(60)")
    (reply,) = kernel.finish(kernel.send_control("interrupt_request"))
    assert reply.reply["status"] == "ok"
    (exchange,) = kernel.finish(request)
    assert exchange.reply["ename"] == INTERRUPT
    assert kernel.run("kept").result == "1"
