"""Nothing is lost under load: much output arrives whole, and in the order in which it was written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from nbclient import NotebookClient

from tests.support.kernels import KERNEL
from tests.support.notebooks import notebook, text
from tests.support.waiting import DEADLINE

if TYPE_CHECKING:
    from tests.support.conversation import Conversation

PRINTS = 200_000
WRITES = 50 * 1024
THREADS, LINES = 8, 20_000
#: Seconds; only a kernel that hangs takes them.
LOAD_DEADLINE = 2 * DEADLINE

PRINTING = f"for n in range({PRINTS}): print(n)"
PRINTED = "".join(f"{n}\n" for n in range(PRINTS))
WRITING = f"import sys\nfor n in range({WRITES}): sys.stdout.write(f'{{n:<1023}}\\n')"
WRITTEN = "".join(f"{n:<1023}\n" for n in range(WRITES))
BELOW = f"import os\nfor n in range({WRITES}): os.write(1, b'%-1023d\\n' % n)"
#: By origin: the code, and what it writes.
LOADS = {
    "prints": (PRINTING, PRINTED),
    "writes": (WRITING, WRITTEN),
    "descriptor": (BELOW, WRITTEN),
    "child process": (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BELOW!r}], check=True)",
        WRITTEN,
    ),
}
THREADED = f"""
import sys, threading
def write(name):
    for n in range({LINES}): sys.stdout.write(f'{{name}} {{n}}\\n')
threads = [threading.Thread(target=write, args=(name,)) for name in range({THREADS})]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def check(arrived: str, written: str) -> None:
    """Compare what arrived with what was written; say where they part, and not all of both."""
    if arrived != written:
        at = next((n for n, (one, other) in enumerate(zip(arrived, written, strict=False)) if one != other), None)
        pytest.fail(f"{len(arrived)} of {len(written)} characters; the first wrong one is number {at}")


@pytest.mark.parametrize("origin", LOADS)
def test_much_output_arrives_whole_and_in_order(kernel: Conversation, origin: str) -> None:
    code, written = LOADS[origin]
    exchange = kernel.run(code, deadline=LOAD_DEADLINE)
    assert exchange.reply["status"] == "ok"
    check(exchange.text(), written)
    kernel.heard.clear()


def test_the_lines_of_each_thread_arrive_whole_and_in_order(kernel: Conversation) -> None:
    exchange = kernel.run(THREADED, deadline=LOAD_DEADLINE)
    lines = exchange.text().splitlines()
    for name in range(THREADS):
        own = [line.partition(" ")[2] for line in lines if line.startswith(f"{name} ")]
        check("\n".join(own), "\n".join(map(str, range(LINES))))
    assert len(lines) == THREADS * LINES
    kernel.heard.clear()


def test_much_output_arrives_whole_in_a_notebook() -> None:
    made = notebook(PRINTING, WRITING, kernel_name=KERNEL)
    NotebookClient(made, timeout=LOAD_DEADLINE).execute()
    check(text(made.cells[0]), PRINTED)
    check(text(made.cells[1]), WRITTEN)
