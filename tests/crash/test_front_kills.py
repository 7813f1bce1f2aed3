"""The front is killed at each step of its path, and at random moments; then the notebook is continued.

In a batch run the next process must come to the same outputs and variables, and every cell's effect must have happened
once; twice at most where the kill fell between a cell's beginning and its record, which is that cell's risk. In an
interactive kernel what was answered must be there, and what was not is not run again.

``CAPSULE_TEST_STEPS=all`` kills at each step, ``CAPSULE_TEST_MOMENTS`` sets how many random moments there are.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager, KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from tests.support import PROGRAMS
from tests.support.conversation import Conversation
from tests.support.kernels import kernel_environment
from tests.support.waiting import DEADLINE, poll_until

DYING = str(PROGRAMS / "dying_kernel.py")
STEPS = os.environ.get("CAPSULE_TEST_STEPS") or "some"
MOMENTS = int(os.environ.get("CAPSULE_TEST_MOMENTS") or 2)
#: More than there are steps in the notebook below.
MOST = 400
CODES = (
    "a = [1]\nb = a\ndef add(n):\n    a.append(n)",
    "add(2)\nprint(a)",
    "c = {'a': a}\nprint(b is a, c)",
    "print(len(a))",
)
SHOWN = ["", "[1, 2]", "True {'a': [1, 2]}", "2"]


pytestmark = pytest.mark.usefixtures("clients_of_the_dead")


def kernel_spec(_self: object) -> KernelSpec:
    return KernelSpec(argv=[sys.executable, DYING, "-f", "{connection_file}"], display_name="dying", language="python")


class Manager(KernelManager):
    kernel_spec = property(kernel_spec)  # type: ignore[assignment]


class AsyncManager(AsyncKernelManager):
    kernel_spec = property(kernel_spec)  # type: ignore[assignment]


class Place:
    """Where a notebook leaves its traces."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.home, self.log, self.steps = directory / "home", directory / "log", directory / "steps"

    def environment(self, at: int, **more: str) -> dict[str, str]:
        own = {"CAPSULE_HOME": str(self.home), "DYING_AT": str(at), "DYING_LOG": str(self.steps)}
        return kernel_environment() | own | more

    def code(self, number: int) -> str:
        return f"open({str(self.log)!r}, 'a').write('{number} ')\n{CODES[number - 1]}"

    @property
    def effects(self) -> Counter[str]:
        return Counter(self.log.read_text().split() if self.log.exists() else [])


def run(place: Place, at: int = 0, after: float | None = None) -> tuple[list[str], list[bool]]:
    """Execute the notebook as a run; return what cells showed, and which were answered.

    Args:
        place: where.
        at: the step at which the front dies.
        after: seconds after which it is killed, counted from its first cell.
    """
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(place.code(n + 1)) for n in range(len(CODES))])
    answered = [False] * len(CODES)

    def note(cell: Any, cell_index: int, execute_reply: Any) -> None:
        answered[cell_index] = execute_reply["content"]["status"] == "ok"

    def kill(cell: Any, cell_index: int) -> None:
        if cell_index == 0 and after is not None:
            threading.Timer(after, _kill, [client.km.provisioner.process.pid]).start()

    options: dict[str, Any] = {"kernel_manager_class": AsyncManager, "on_cell_executed": note, "on_cell_execute": kill}
    client = NotebookClient(notebook, timeout=DEADLINE, **options)
    with contextlib.suppress(DeadKernelError, CellExecutionError):
        client.execute(env=place.environment(at, CAPSULE_RUN_ID="nightly"))
    texts = ["".join(o.text for o in cell.outputs if o.get("name") == "stdout").strip() for cell in notebook.cells]
    return texts, answered


def _kill(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).kill()


def check_run(place: Place, answered: list[bool]) -> None:
    """See that a run that was killed comes to the same."""
    before = place.effects
    texts, _ = run(place)
    assert texts == SHOWN
    effects = place.effects
    assert sorted(effects) == ["1", "2", "3", "4"]
    twice = [number for number, count in effects.items() if count > 1]
    assert max(effects.values()) <= 2
    assert len(twice) <= 1
    for number, done in enumerate(answered, 1):
        if done:
            assert effects[str(number)] == before[str(number)] == 1
    # And it stays so.
    assert run(place)[0] == SHOWN
    assert place.effects == effects


def count_steps(directory: Path) -> int:
    place = Place(directory)
    assert run(place, MOST)[0] == SHOWN
    return place.steps.stat().st_size


@pytest.mark.timeout(3600)
def test_a_run_whose_front_is_killed_at_any_step_comes_to_the_same(tmp_path: Path) -> None:
    count = count_steps(tmp_path / "0")
    assert count > 60
    steps = range(1, count) if STEPS == "all" else random.Random(count).sample(range(1, count), 3)
    for at in steps:
        place = Place(tmp_path / str(at))
        _, answered = run(place, at)
        try:
            check_run(place, answered)
        except AssertionError as error:
            error.add_note(f"killed at step {at} of {count}")
            raise


@pytest.mark.timeout(3600)
def test_a_run_whose_front_is_killed_at_any_moment_comes_to_the_same(tmp_path: Path) -> None:
    chance = random.Random(17)
    for number in range(MOMENTS):
        place = Place(tmp_path / str(number))
        after = chance.uniform(0, 0.25)
        _, answered = run(place, 0, after)
        try:
            check_run(place, answered)
        except AssertionError as error:
            error.add_note(f"killed after {after:.4f} s")
            raise


@pytest.mark.timeout(3600)
def test_an_interactive_kernel_whose_front_is_killed_at_any_step_continues(tmp_path: Path) -> None:
    count = count_steps(tmp_path / "0")
    steps = range(1, count) if STEPS == "all" else random.Random(-count).sample(range(1, count), 2)
    for at in steps:
        try:
            _live_through(Place(tmp_path / str(at)), at)
        except AssertionError as error:
            error.add_note(f"killed at step {at} of {count}")
            raise


@pytest.mark.timeout(3600)
def test_an_interactive_kernel_whose_front_is_killed_at_any_moment_continues(tmp_path: Path) -> None:
    chance = random.Random(19)
    for number in range(MOMENTS):
        after = chance.uniform(0, 0.25)
        try:
            _live_through(Place(tmp_path / str(number)), 0, after)
        except AssertionError as error:
            error.add_note(f"killed after {after:.4f} s")
            raise


def _live_through(place: Place, at: int, after: float | None = None) -> None:
    """Have an interactive kernel killed, at a step or some seconds after its first cell was sent, and continue."""
    manager = Manager()
    manager.start_kernel(env=place.environment(at, CAPSULE_CHECKPOINTS="sync"))
    process = psutil.Process(manager.provisioner.process.pid)
    answered = 0
    try:
        client: Any = manager.client()
        client.start_channels()
        talk = Conversation(client)
        client.wait_for_ready(timeout=DEADLINE)
        if after is not None:
            threading.Timer(after, _kill, [process.pid]).start()
        for number in range(1, len(CODES) + 1):
            request = client.execute(place.code(number))
            if not _is_answered(talk, request, process):
                break
            answered = number
        poll_until(lambda: not _lives(process) or answered == len(CODES), "the end")
        client.stop_channels()
        # A restarted kernel gets the same environment, and must not die again.
        manager._launch_args["env"]["DYING_AT"] = "0"
        manager.restart_kernel(now=True)
        client = manager.client()
        client.start_channels()
        talk = Conversation(client)
        client.wait_for_ready(timeout=DEADLINE)
        before = place.effects
        assert max(before.values(), default=1) == 1
        said = talk.run("pass").text("stderr")
        assert place.effects == before, "nothing is run again"
        for number in range(1, answered + 1):
            assert before[str(number)] == 1
            assert f"In [{number}] ran" not in said, "it has ended"
        # Cells that were answered had their effect; one that was not may have had it, completely.
        done = talk.run("print([n for n in 'abc' if n in globals()], globals().get('a'))")
        possible = [("[]", "None"), ("['a', 'b']", "[1]"), ("['a', 'b']", "[1, 2]")]
        possible += [("['a', 'b', 'c']", "[1, 2]")] * 2
        states = [f"{names} {value}\n" for names, value in possible]
        assert done.text() in states[answered : answered + 2]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def _is_answered(talk: Conversation, request: str, process: psutil.Process) -> bool:
    """Listen until there is a reply, or the process that could send one has ended."""
    until = time.monotonic() + DEADLINE
    while _lives(process) and time.monotonic() < until and not talk.exchange(request).replies:
        with contextlib.suppress(AssertionError):
            talk.listen_until(lambda: talk.exchange(request).replies, "a reply", 0.2)
    return bool(talk.exchange(request).replies)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
