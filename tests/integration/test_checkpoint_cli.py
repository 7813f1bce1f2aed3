"""The words of `capsule` that have to do with checkpoints, offline and in a kernel that runs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support import cli
from tests.support.cli import CAPSULE, Done, command_environment
from tests.support.kernels import Kernel, kernel

type Capsule = Callable[..., Done]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel of a notebook, with two checkpoints."""
    with kernel(tmp_path_factory.mktemp("live") / "home", "work/analysis.ipynb") as one:
        one.ok("x = 1\nrows = [1, 2]")
        one.ok("%capsule checkpoint first -m 'all is clean' --tag clean")
        one.ok("x = 'text'\nnew = 2.5")
        one.ok("%capsule checkpoint second")
        yield one


@pytest.fixture
def capsule(live: Kernel) -> Capsule:
    """Return a function that runs the command where the live kernel has its home."""
    return partial(cli.capsule, live.home)


# -- without a kernel ----------------------------------------------------------------------------------------


def test_a_command_reports_that_nothing_was_saved(tmp_path: Path) -> None:
    run = partial(cli.capsule, tmp_path / "home")
    assert run("status") == Done(0, "Sessions: none\n", "")
    assert run("checkpoints") == Done(0, "Checkpoints: none\n", "")
    assert run("status", "--json").json == {"schema": "capsule.sessions/1", "api": 1, "sessions": []}
    nothing = run("checkpoints", "--json").json
    assert (nothing["schema"], nothing["checkpoints"]) == ("capsule.checkpoints/1", [])
    for words in (
        ["diff", "a", "b"],
        ["delete", "a"],
        ["show", "a"],
        ["status", "a"],
        ["checkpoints", "--session", "a"],
    ):
        done = run(*words)
        assert done.status == 1
        assert f"there are no checkpoints in {tmp_path / 'home'}" in done.err
    for words in (["checkpoint", "a"], ["restore", "a"], ["undo"], ["resume"]):
        done = run(*words)
        assert done.status == 1
        assert "no kernel that keeps checkpoints runs; open a notebook with this kernel" in done.err
    assert not (tmp_path / "home").exists()


def test_sessions_and_checkpoints_are_listed(capsule: Capsule, live: Kernel) -> None:
    done = capsule("status")
    assert done.status == 0
    assert f"{live.session}  work/analysis.ipynb" in done.out
    assert f"running (process {live.front})" in done.out
    (session,) = capsule("status", "--json").json["sessions"]
    assert (session["id"], session["state"]) == (live.session, "running")
    for reference in (live.session, live.session[:-3], "analysis.ipynb"):
        assert "second" in capsule("status", reference).out
    assert capsule("status", "analysis.ipynb", "--json").json["head"]["name"] == "second"

    done = capsule("checkpoints", "--session", "work/analysis.ipynb")
    assert all(words in done.out for words in ("first", "all is clean [clean]", "second"))
    assert live.session in capsule("checkpoints").out
    (found,) = capsule("checkpoints", "ALL", "clean", "--json").json["checkpoints"]
    assert (found["name"], found["tags"], found["description"]) == ("first", ["clean"], "all is clean")
    assert len(capsule("checkpoints", "--limit", "1", "--json").json["checkpoints"]) == 1
    nothing = capsule("checkpoints", "nothing")
    assert (nothing.status, nothing.out) == (1, "Checkpoints matching 'nothing': none\n")


def test_checkpoints_are_compared(capsule: Capsule) -> None:
    done = capsule("diff", "first", "second")
    assert done.status == 0
    assert "int → str" in done.out
    changes = capsule("diff", "first", "--json").json["changes"]
    assert {change["name"]: change["kind"] for change in changes} == {"x": "changed", "new": "added"}


def test_the_variables_of_a_checkpoint_are_listed(capsule: Capsule, live: Kernel) -> None:
    done = capsule("show", "first")
    assert done.status == 0
    assert re.search(r'^Checkpoint \d+ "first" \(', done.out)
    assert re.search(r"^rows +list .* In \[1\] +saved$", done.out, re.MULTILINE)
    found = capsule("show", "first", "--json").json
    assert (found["schema"], found["api"]) == ("capsule.checkpoint/1", 1)
    assert [variable["name"] for variable in found["variables"]] == ["rows", "x"]
    # A program reads the same in a notebook.
    (display,) = live.ok("%capsule show first").of("display_data")
    assert display["data"]["application/vnd.capsule+json"] == found


def test_a_list_needs_no_kernel_and_loads_nothing_that_was_saved(live: Kernel) -> None:
    program = (
        "import sys; from capsule_kernel.cli.main import main\n"
        "assert not main(['checkpoints', '--json']) and not main(['diff', 'first', 'second'])\n"
        "not_for_it = ('capsule_worker.checkpoints', 'cloudpickle', 'zmq')\n"
        "sys.exit(' '.join(name for name in sys.modules if name.startswith(not_for_it)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"CAPSULE_HOME": str(live.home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["diff", "first", "nothing"], 1, "there is no checkpoint 'nothing'"),
        (["diff", "first", "1a"], 1, "there is no checkpoint '1a'"),
        (["delete", "first", "nothing"], 1, "there is no checkpoint 'nothing'"),
        (["delete", "second"], 1, "nothing was deleted: a running kernel needs second"),
        (["status", "nothing"], 1, "there is no session 'nothing'"),
        (["checkpoints", "--session", "nothing"], 1, "there is no session 'nothing'"),
        (["restore", "frist"], 1, "restore: there is no checkpoint 'frist'; the closest: first"),
        (["restore", "first", "nothing"], 1, "checkpoint first has no variable nothing; it has rows, x"),
        (["undo", "99"], 1, "undo: the checkpoints go back"),
        (["restore", "first", "--session", "nothing"], 1, "there is no session 'nothing'"),
        (
            ["restore", "first", "--existing", "nothing.json"],
            1,
            'No connection file "nothing.json". To list running kernels: capsule status',
        ),
        (["resume", "nothing"], 1, "resume: there is no session 'nothing'"),
        (["resume"], 1, "resume: there is no earlier session of this notebook"),
        (["checkpoint", " "], 1, "checkpoint: pass a name"),
        (["diff"], 2, "Missing argument"),
        (["delete"], 2, "Missing argument"),
        (["undo", "0"], 2, "Invalid value"),
        (["undo", "many"], 2, "Invalid value"),
        (["checkpoints", "--limit", "0"], 2, "Invalid value"),
        (["restore"], 2, "Missing argument"),
    ],
)
def test_errors_are_reported_with_an_exit_status(capsule: Capsule, words: list[str], status: int, said: str) -> None:
    done = capsule(*words)
    assert (done.status, done.out) == (status, "")
    assert said in " ".join(done.err.split())
    assert done.err.count(said[:20]) <= 1


@pytest.mark.parametrize(
    "word", ["status", "checkpoints", "checkpoint", "show", "restore", "undo", "diff", "delete", "resume"]
)
def test_every_word_shows_an_example(capsule: Capsule, word: str) -> None:
    done = capsule(word, "--help")
    assert done.status == 0
    assert f"For example: capsule {word}" in done.out


# -- in a kernel that runs -----------------------------------------------------------------------------------


def test_a_kernel_saves_and_restores_at_the_command_line_as_in_a_cell(capsule: Capsule, live: Kernel) -> None:
    live.ok("kept = [1]")
    count = live.ok("late = 1").reply["execution_count"]
    done = capsule("checkpoint", "-m", "it's {this}\nand $that", "--tag", "a b", "--tag", "-c", "--", "-third one")
    assert done.status == 0, done.err
    assert '"-third one"' in done.out
    (found,) = capsule("checkpoints", "third", "--json").json["checkpoints"]
    assert found["execution_count"] == count
    assert (found["name"], found["description"], found["tags"]) == (
        "-third one",
        "it's {this} and $that",
        ["a b", "-c"],
    )
    live.ok("kept.append(2)\ndel late")
    shown = capsule("restore", "--json", "--", "-third one", "late").json
    assert shown["schema"] == "capsule.restored/1"
    assert (shown["checkpoint"]["id"], shown["restored"], shown["not_restored"]) == (found["id"], ["late"], {})
    assert live.text("print(late, kept)") == "1 [1, 2]\n"
    assert capsule("restore", "--clear", found["id"]).status == 0
    assert live.text("print(kept)") == "[1]\n"
    live.ok("kept.append(3)")
    undone = capsule("undo", "--session", "analysis.ipynb").out
    assert re.fullmatch(
        r"Undid In \[\d+\]\. Restored \d+ variables to their state after In \[\d+\]\. Changed: kept\."
        r" Redo: %capsule restore \d+\n",
        undone,
    )
    assert live.text("print(kept)") == "[1]\n"
    done = capsule("checkpoint", "by-file", "--existing", live.connection_file, "--json")
    assert done.json["checkpoint"]["name"] == "by-file"
    assert "kept" in [variable["name"] for variable in done.json["variables"] if variable["saved"]]
    # The notebook's own numbers and history do not change.
    assert live.ok("In").reply["execution_count"] == count + 6
    assert "%capsule checkpoint" not in live.text("print(In[-5:])")


def test_a_kernel_that_is_busy_is_waited_for(capsule: Capsule, live: Kernel, tmp_path: Path) -> None:
    go = tmp_path / "go"
    cell = f"from pathlib import Path\nfrom time import sleep\nwhile not Path({str(go)!r}).exists(): sleep(0.01)"
    request = live.talk.start(f"print('started', flush=True)\n{cell}")
    with subprocess.Popen(
        [CAPSULE, "checkpoint", "after-that"],
        env=command_environment(live.home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert process.stderr.readline() == "capsule: the kernel is running a cell; waiting until it has ended\n"
        go.touch()
        assert '"after-that"' in process.stdout.read()
        assert process.wait() == 0
    live.talk.finish(request)


def test_a_failure_gives_up_none_of_the_notebooks_cells(capsule: Capsule, live: Kernel, tmp_path: Path) -> None:
    go = tmp_path / "go"
    cell = f"from pathlib import Path\nfrom time import sleep\nwhile not Path({str(go)!r}).exists(): sleep(0.01)"
    first = live.talk.start(f"print('started', flush=True)\n{cell}")
    with subprocess.Popen(
        [CAPSULE, "undo", "99"], env=command_environment(live.home), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "waiting" in process.stderr.readline()
        second = live.talk.client.execute("print('not given up')")
        go.touch()
        assert "the checkpoints go back" in process.stderr.read()
        assert process.wait() == 1
    assert [one.reply["status"] for one in live.talk.finish(first, second)] == ["ok", "ok"]


def test_a_kernel_that_was_killed_is_gone_on_with_in_a_new_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run = partial(cli.capsule, home)
    with kernel(home, checkpoints="sync") as one:
        one.ok("x = 41")
        earlier = one.session
        one.kill()
    # It could not list its checkpoint any more.
    (entry,) = run("checkpoints", "--json").json["checkpoints"]
    assert (entry["session"], entry["execution_count"]) == (earlier, 1)
    assert "was killed" in run("status").out
    for words in (["undo"], ["undo", "--session", earlier]):
        done = run(*words)
        assert done.status == 1
        assert f"run `%capsule resume {earlier}` there" in done.err
    assert f"no kernel of session {earlier} runs" in run("undo", "--session", earlier).err
    with kernel(home, "a.ipynb") as two:
        # There is one kernel, so it is the one that is meant.
        done = run("resume", earlier, "--json")
        assert done.json["restored"] == ["x"], done.err
        assert two.text("print(x + 1)") == "42\n"
        with kernel(home, "a.ipynb") as three:
            done = run("checkpoint", "a")
            assert done.status == 1
            assert f"choose one with --session: {three.session}" in done.err
            assert two.session in done.err
            assert run("checkpoint", "a", "--session", three.session).status == 0
    # Nothing runs any more, so all of it can go, and with it the files.
    ids = [entry["id"] for entry in run("checkpoints", "--json").json["checkpoints"]]
    removed = run("delete", *ids, "--json").json
    assert {entry["id"] for entry in removed["checkpoints"]} == set(ids)
    assert removed["freed"] > 0
    assert list(home.rglob("*.pack")) == []
