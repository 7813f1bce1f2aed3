"""Attempts to get at the kernel and at the machine, made as cells through the real kernel, in each profile, with each
layer taken away in turn, as root and as an ordinary user. The results are in ``docs/explanation/sandbox.md``.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import zmq

from tests.support import ROOT
from tests.support import escape_table as table
from tests.support.escape_attempts import ALL, KERNEL, Attempt
from tests.support.kernels import Kernel, kernel
from tests.support.sandboxes import SETUPS, Setup, need_bubblewrap, sandboxed_kernel, users

Running = tuple[Setup, str, Kernel, Mapping[str, object]]
#: For each attempt where it has succeeded: setup and user.
succeeded: dict[str, set[tuple[str, str]]] = defaultdict(set)


@pytest.fixture(scope="module", params=[(setup, user) for user in users() for setup in SETUPS], ids=str)
def sandboxed(request: pytest.FixtureRequest) -> Iterator[Running]:
    setup, user = request.param
    with sandboxed_kernel(setup, user) as (one, known):
        yield setup, user, one, known


def test_the_status_names_the_active_layers(sandboxed: Running) -> None:
    setup, user, one, _ = sandboxed
    told = one.shown("%capsule status").partition("Sandbox: ")[2].partition("\n")[0]
    holds = setup.holds(user)
    for layer in ("namespaces", "scopes", "files", "system calls"):
        if setup.profile == "open":
            assert "no sandbox" in told
        elif layer in holds:
            assert layer in told.partition(": active")[0]
        elif layer != "files":
            assert f"{layer}: not active: " in told


@pytest.mark.parametrize("attempt", ALL, ids=lambda attempt: attempt.what)
def test_an_attempt_fails_where_something_stops_it(sandboxed: Running, attempt: Attempt) -> None:
    setup, user, one, known = sandboxed
    escaped = "ESCAPED" in one.run(attempt.code.format(**known)).text()
    if escaped:
        succeeded[attempt.what].add((setup.name, user))
    stopped_by = attempt.stopped_by & setup.holds(user)
    assert not (escaped and stopped_by), stopped_by
    assert one.text("print('continues')") == "continues\n"


@pytest.mark.parametrize("attempt", [one for one in ALL if one.sound], ids=lambda attempt: attempt.what)
def test_an_attempt_succeeds_where_nothing_stops_it(attempt: Attempt) -> None:
    if not succeeded:
        pytest.skip("no attempts were made")
    # As an ordinary user, who cannot run kernels as root, there is less to be seen.
    assert succeeded[attempt.what] or "root" not in users(), attempt.code


def test_no_attempt_reaches_the_kernel_in_the_default_profile() -> None:
    for one in KERNEL:
        assert not [where for where, _ in succeeded[one.what] if where in ("notebook", "restricted")], one.what


def test_no_attempt_succeeds_in_the_restricted_profile() -> None:
    for one in ALL:
        assert not [where for where, _ in succeeded[one.what] if where.startswith("restricted")], one.what


def test_the_table_in_the_documentation_is_what_was_observed() -> None:
    if "root" not in users():
        pytest.skip("the table has a column for root")
    document = ROOT / "docs" / "explanation" / "sandbox.md"
    if table.is_wanted():
        table.write(document, table.of(succeeded))
    # The other attempts depend on what the machine has.
    sound = {f"| {attempt.what} " for attempt in ALL if attempt.sound}
    seen, said = (
        [line for line in text.splitlines() if line[: line.index(" |", 2) + 1] in sound]
        for text in (table.of(succeeded), table.read(document))
    )
    assert seen == said, f"run {table.COMMAND}"


def test_cells_do_not_get_keys_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_KEY", "secret")
    monkeypatch.setenv("WANTED_KEY", "wanted")
    with kernel(tmp_path / "home", profile="notebook", pass_environment="WANTED_*") as one:
        assert one.text("import os\nprint(os.environ['WANTED_KEY'])") == "wanted\n"
        done = one.run("os.environ['DATABASE_KEY']")
        assert done.reply["ename"] == "KeyError"
        assert 'pass_environment = ["DATABASE_KEY"]' in "".join(done.reply["traceback"])
        # Who asks for it otherwise is told nothing, and looks here.
        (status,) = one.ok("%capsule status").of("display_data")
        hidden = status["data"]["application/vnd.capsule+json"]["hidden_environment"]
        assert "DATABASE_KEY" in hidden
        assert "WANTED_KEY" not in hidden
        assert f"Environment variables hidden from cells: {len(hidden)}" in status["data"]["text/plain"]
    with kernel(tmp_path / "home", profile="open") as one:
        assert one.text("import os\nprint(os.environ['DATABASE_KEY'])") == "secret\n"


def test_a_restricted_kernel_names_the_layer_that_is_missing(tmp_path: Path) -> None:
    for missing in ("namespaces", "system calls"):
        with sandboxed_kernel(Setup("restricted", without=missing), "user" if os.geteuid() else "root") as (one, _):
            done = one.run("print('runs')")
            assert done.text() == ""
            assert done.reply["ename"] == "WorkerUnavailable"
            assert f"{missing} are missing" in done.reply["evalue"]
    assert shutil.which("bwrap")


def test_cells_with_an_environment_of_their_own_cannot_change_the_front(tmp_path: Path) -> None:
    need_bubblewrap()
    own = tmp_path / "own"
    (own / "bin").mkdir(parents=True)
    (own / "bin/python").symlink_to(Path(sys.executable).resolve())
    (own / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    packages = own / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    packages.mkdir(parents=True)
    (packages / "all.pth").write_text(
        "\n".join(path for path in sys.path if path.endswith(("site-packages", "worker")))
    )
    theirs = Path(zmq.__file__).parents[1]
    with kernel(tmp_path / "home", profile="notebook", python=own / "bin/python") as one:
        assert one.text("import sys\nprint(sys.prefix)") == f"{own}\n"
        done = one.run(f"open({str(theirs / 'planted.pth')!r}, 'w')")
        assert "Read-only file system" in done.reply["evalue"]
        one.ok(f"open({str(packages / 'installed.py')!r}, 'w').close()")
    assert not (theirs / "planted.pth").exists()
