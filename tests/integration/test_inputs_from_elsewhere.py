"""Inputs are promises: listed and answered from another terminal, where the client can ask and where it cannot."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kernels import Kernel, kernel
from tests.support.waiting import DEADLINE, poll_until

SECRET = "horse-battery-staple"


pytestmark = pytest.mark.usefixtures("clients_of_the_dead")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def one(home: Path) -> Iterator[Kernel]:
    with kernel(home, "/notebooks/ask.ipynb", on_input="wait") as opened:
        yield opened


def capsule(home: Path, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("capsule")), *words],
        env=os.environ | {"CAPSULE_HOME": str(home), "COLUMNS": "200"},
        input=text,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def pending(home: Path) -> list[dict[str, Any]]:
    done = capsule(home, "pending", "--json")
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["inputs"])


def wait_for_input(home: Path) -> dict[str, Any]:
    (found,) = poll_until(lambda: pending(home), "an input that waits")
    return dict(found)


def test_an_input_is_answered_from_another_terminal(home: Path, one: Kernel) -> None:
    request = one.talk.client.execute("name = input('Who? ')\nprint('Hello', name)", allow_stdin=False)
    found = wait_for_input(home)
    assert (found["prompt"], found["cell"], found["password"]) == ("Who? ", 1, False)
    assert found["notebook"] == "/notebooks/ask.ipynb"
    shown = capsule(home, "pending").stdout
    assert "Who?" in shown
    assert "In [1]" in shown
    short = shown.split("│")[1].strip()
    done = capsule(home, "answer", short, "Ada")
    assert done.returncode == 0, done.stderr
    (exchange,) = one.talk.finish(request)
    assert exchange.reply["status"] == "ok"
    assert exchange.text() == "Hello Ada\n"
    assert short == f"{found['id'].removeprefix('exec.')[:8]}-1.1"
    assert f'Waiting for input: "Who?". Answer with: capsule answer {short} VALUE' in exchange.text("stderr")
    assert pending(home) == []
    late = capsule(home, "answer", short, "Bob")
    assert late.returncode == 1
    assert f"{short} was already answered at " in late.stderr
    late = capsule(home, "answer", short, "Bob", "--json")
    assert (late.returncode, json.loads(late.stdout)["state"]) == (1, "already_answered")


def test_a_secret_reaches_the_cell_and_no_disk(home: Path, one: Kernel) -> None:
    request = one.talk.client.execute("import getpass\nn = len(getpass.getpass('Key: '))", allow_stdin=False)
    found = wait_for_input(home)
    assert found["password"]
    done = capsule(home, "answer", found["id"], text=f"{SECRET}\n")
    assert done.returncode == 0, done.stderr
    (exchange,) = one.talk.finish(request)
    assert exchange.reply["status"] == "ok"
    assert one.text("print(n)") == f"{len(SECRET)}\n"
    assert SECRET not in done.stdout + done.stderr
    one.close()
    for path in home.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def test_who_has_been_asked_at_the_client_may_be_overtaken(home: Path, one: Kernel) -> None:
    request = one.talk.client.execute("print(input('Go on? '))", allow_stdin=True)
    one.talk.listen_until(lambda: [each for each in one.talk.heard if each.kind == "input_request"], "the question")
    capsule(home, "answer", wait_for_input(home)["id"], "yes")
    (exchange,) = one.talk.finish(request)
    assert exchange.text() == "yes\n"


def test_an_input_can_be_cancelled(home: Path, one: Kernel) -> None:
    request = one.talk.client.execute("input('Who? ')", allow_stdin=False)
    done = capsule(home, "cancel", wait_for_input(home)["id"], "--json")
    assert json.loads(done.stdout)["state"] == "cancelled"
    (exchange,) = one.talk.finish(request)
    assert exchange.reply["ename"] == "EOFError"
    assert pending(home) == []


def test_the_cell_that_runs_can_be_cancelled(home: Path, one: Kernel) -> None:
    request = one.begin("print('there')\nimport time\ntime.sleep(100)")
    assert json.loads(capsule(home, "cancel", one.session, "--json").stdout)["state"] == "interrupted"
    (cancelled,) = one.talk.finish(request)
    assert cancelled.reply["ename"] == "KeyboardInterrupt"
    assert one.text("print('goes on')") == "goes on\n"


def test_what_is_cancelled_must_be_there(home: Path, one: Kernel) -> None:
    one.ok("pass")
    done = capsule(home, "cancel", "unknown")
    assert done.returncode != 0
    assert 'No input "unknown". No pending inputs.' in done.stderr
    assert 'No session "unknown" either.' in done.stderr


def test_an_input_is_not_asked_for_in_vain(home: Path) -> None:
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
    assert capsule(home, "pending").stdout == "No pending inputs.\n"
    done = capsule(home, "answer", "abcd", "x")
    assert done.returncode == 1
    assert "No pending inputs." in done.stderr
    assert not home.exists()
