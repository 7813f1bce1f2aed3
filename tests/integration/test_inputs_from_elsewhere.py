"""Inputs are promises: listed and answered from another terminal, where the client can ask and where it cannot."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import capsule
from tests.support.kernels import Kernel, kernel
from tests.support.waiting import poll_until

SECRET = "horse-battery-staple"


pytestmark = pytest.mark.usefixtures("clients_of_the_dead")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def one(home: Path) -> Iterator[Kernel]:
    with kernel(home, "/notebooks/ask.ipynb", on_input="wait") as opened:
        yield opened


def pending(home: Path) -> list[dict[str, Any]]:
    done = capsule(home, "pending", "--json")
    assert done.status == 0, done.err
    return list(done.json["inputs"])


def wait_for_input(home: Path) -> dict[str, Any]:
    (found,) = poll_until(lambda: pending(home), "an input that waits")
    return dict(found)


def test_an_input_is_answered_from_another_terminal(home: Path, one: Kernel) -> None:
    request = one.talk.client.execute("name = input('Who? ')\nprint('Hello', name)", allow_stdin=False)
    found = wait_for_input(home)
    assert (found["prompt"], found["cell"], found["password"]) == ("Who? ", 1, False)
    assert found["notebook"] == "/notebooks/ask.ipynb"
    shown = capsule(home, "pending").out
    assert "Who?" in shown
    assert "In [1]" in shown
    short = shown.split("│")[1].strip()
    done = capsule(home, "answer", short, "Ada")
    assert done.status == 0, done.err
    (exchange,) = one.talk.finish(request)
    assert exchange.reply["status"] == "ok"
    assert exchange.text() == "Hello Ada\n"
    assert short == f"{found['id'].removeprefix('exec.')[:8]}-1.1"
    assert f'Waiting for input: "Who?". Answer with: capsule answer {short} VALUE' in exchange.text("stderr")
    assert pending(home) == []
    late = capsule(home, "answer", short, "Bob")
    assert late.status == 1
    assert f"{short} was already answered at " in late.err
    late = capsule(home, "answer", short, "Bob", "--json")
    assert (late.status, late.json["state"]) == (1, "already_answered")


def test_a_secret_reaches_the_cell_and_no_disk(home: Path, one: Kernel) -> None:
    request = one.talk.client.execute("import getpass\nn = len(getpass.getpass('Key: '))", allow_stdin=False)
    found = wait_for_input(home)
    assert found["password"]
    done = capsule(home, "answer", found["id"], text=f"{SECRET}\n")
    assert done.status == 0, done.err
    (exchange,) = one.talk.finish(request)
    assert exchange.reply["status"] == "ok"
    assert one.text("print(n)") == f"{len(SECRET)}\n"
    assert SECRET not in done.out + done.err
    one.close()
    for path in home.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def test_an_input_shown_at_the_client_can_be_answered_elsewhere(home: Path, one: Kernel) -> None:
    request = one.talk.client.execute("print(input('Continue? '))", allow_stdin=True)
    one.talk.listen_until(lambda: [each for each in one.talk.heard if each.kind == "input_request"], "the question")
    capsule(home, "answer", wait_for_input(home)["id"], "yes")
    (exchange,) = one.talk.finish(request)
    assert exchange.text() == "yes\n"


def test_an_input_can_be_cancelled(home: Path, one: Kernel) -> None:
    request = one.talk.client.execute("input('Who? ')", allow_stdin=False)
    done = capsule(home, "cancel", wait_for_input(home)["id"], "--json")
    assert done.json["state"] == "cancelled"
    (exchange,) = one.talk.finish(request)
    assert exchange.reply["ename"] == "EOFError"
    assert pending(home) == []


def test_the_cell_that_runs_can_be_cancelled(home: Path, one: Kernel) -> None:
    request = one.begin("print('there')\nimport time\ntime.sleep(100)")
    assert capsule(home, "cancel", one.session, "--json").json["state"] == "interrupted"
    (cancelled,) = one.talk.finish(request)
    assert cancelled.reply["ename"] == "KeyboardInterrupt"
    assert one.text("print('continues')") == "continues\n"


def test_an_unknown_id_cannot_be_cancelled(home: Path, one: Kernel) -> None:
    one.ok("pass")
    done = capsule(home, "cancel", "unknown")
    assert done.status != 0
    assert 'No input "unknown". No pending inputs.' in done.err
    assert 'No session "unknown" either.' in done.err


def test_an_input_is_an_error_if_the_client_takes_none(home: Path) -> None:
    """Without the setting it is as in ipykernel."""
    with kernel(home) as one:
        (exchange,) = one.talk.finish(one.talk.client.execute("input('Who? ')", allow_stdin=False))
        assert exchange.reply["ename"] == "StdinNotImplementedError"


def test_the_input_of_a_kernel_that_was_killed_waits_no_more(home: Path, one: Kernel) -> None:
    one.talk.client.execute("input('Who? ')", allow_stdin=False)
    found = wait_for_input(home)
    one.kill_front()
    assert "In [1] ran" in one.ok("pass").text("stderr")
    assert pending(home) == []
    with sqlite3.connect(home / "engine.sqlite3") as connection:
        ((state,),) = connection.execute("SELECT state FROM promises WHERE id = ?", (found["id"],)).fetchall()
    connection.close()
    assert state == "rejected_canceled"


def test_without_a_store_nothing_waits(home: Path) -> None:
    assert capsule(home, "pending").out == "No pending inputs.\n"
    done = capsule(home, "answer", "abcd", "x")
    assert done.status == 1
    assert "No pending inputs." in done.err
    assert not home.exists()
