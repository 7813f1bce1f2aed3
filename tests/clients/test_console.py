"""A person at `jupyter console`, in a terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.kernels import INTERRUPT, KERNEL, kernel_environment
from tests.support.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.processes import Family

WAITS = {
    "time.sleep": "import time; print('un' + 'der way'); time.sleep(30)",
    "a busy loop": "print('un' + 'der way'); x = [None for _ in iter(int, 1)]",
    "a child process": "!echo un'der way'; sleep 30",
}

#: Whether `exit` asks the client to leave, for which there is a separate test.
LEAVES = KERNEL not in {"async", "xpython"}


@pytest.fixture
def console(kernel_name: str, family: Family) -> Iterator[Terminal]:
    """Return a console at its first prompt; when the test is over nothing of it may be left."""
    jupyter = Path(sys.executable).with_name("jupyter")
    with Terminal([str(jupyter), "console", "--kernel", kernel_name], kernel_environment()) as terminal:
        terminal.see(r"In \[1\]: ")
        yield terminal
        family.meet()
        if LEAVES:
            terminal.type("exit")
            assert terminal.wait_for_end() == 0
    if LEAVES:
        family.wait_until_gone()


def test_an_expression_shows_its_value_and_the_next_prompt_counts_on(console: Terminal) -> None:
    console.type("6 * 7")
    console.see(r"Out\[1\]: 42")
    console.see(r"In \[2\]: ")
    console.type("_ + 1")
    console.see(r"Out\[2\]: 43")
    console.see(r"In \[3\]: ")


def test_a_definition_continues_over_lines_until_an_empty_one(console: Terminal) -> None:
    console.type("def double(x):")
    console.see(r"\.\.\.: ")
    console.type("return x * 2")
    console.see(r"\.\.\.: ")
    console.type("")
    console.see(r"In \[2\]: ")
    console.type("double(21)")
    console.see(r"Out\[2\]: 42")
    console.see(r"In \[3\]: ")


def test_output_and_errors_are_shown_as_they_are_in_ipython(console: Terminal) -> None:
    console.type("import sys; print('o' + 'ut'); print('e' + 'rr', file=sys.stderr)")
    console.see(r"(?s)out.*err|err.*out")
    console.see(r"In \[2\]: ")
    console.type("1 / 0")
    console.see(r"ZeroDivisionError +Traceback \(most recent call last\)")
    console.see(r"ZeroDivisionError: division by zero")
    console.see(r"In \[3\]: ")


def test_a_question_is_answered_at_the_terminal(console: Terminal) -> None:
    console.type("name = input('Who? ')")
    console.see(r"\nWho\? ")
    console.type("Ada")
    console.see(r"In \[2\]: ")
    console.type("name * 2")
    console.see(r"Out\[2\]: 'AdaAda'")
    console.see(r"In \[3\]: ")


def test_a_password_is_not_shown(console: Terminal) -> None:
    console.type("import getpass; secret = getpass.getpass('PIN: ')")
    console.see(r"\nPIN: ")
    console.type("sesame")
    console.see(r"In \[2\]: ")
    assert "sesame" not in console.shown
    console.type("len(secret), secret[0]")
    console.see(r"Out\[2\]: \(6, 's'\)")
    console.see(r"In \[3\]: ")


@pytest.mark.parametrize("wait", WAITS)
def test_control_c_ends_the_cell_and_keeps_the_namespace(console: Terminal, wait: str) -> None:
    console.type("kept = 'ke' + 'pt'")
    console.see(r"In \[2\]: ")
    console.type(WAITS[wait])
    console.see("under way")
    console.interrupt()
    if wait != "a child process":
        console.see(INTERRUPT)
    console.see(r"In \[3\]: ")
    console.type("kept")
    console.see(r"Out\[3\]: 'kept'")
    console.see(r"In \[4\]: ")


@pytest.mark.capsule_only
def test_a_killed_worker_is_an_error_and_the_console_continues(console: Terminal) -> None:
    console.type("import os; os.kill(os.getpid(), 9)")
    console.see("WorkerDied")
    console.see(r"In \[2\]: ")
    console.type("6 * 7")
    console.see(r"Out\[2\]: 42")
    console.see(r"In \[3\]: ")
