"""Cells run in environments that are not the front's: of other Pythons, old ones, and such as cannot be written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from capsule_kernel import __version__
from capsule_kernel.cli import doctor
from capsule_kernel.cli.kernelspec import Kernelspec
from tests.support import PROGRAMS
from tests.support.environments import ROOT, WORKER, environment, with_ipython, with_the_oldest, with_worker
from tests.support.kernels import NO_STANDBY, Kernel
from tests.support.sandboxes import ORDINARY

# The first run on a machine downloads what the worker depends on.
pytestmark = pytest.mark.timeout(600)

PLACES = {
    "3.10": partial(with_worker, "3.10"),
    "3.10 with the oldest of all": partial(with_the_oldest, "3.10"),
    "3.11": partial(with_worker, "3.11"),
    "3.13": partial(with_worker, "3.13"),
}
CELLS = (
    "import sys\ndef area(r):\n    return 3 * r * r\nkept = {'area': area(2)}\n"
    "print(sys.prefix, '%d.%d' % sys.version_info[:2])"
)

_COLOURS = re.compile("\x1b\\[[0-9;]*m")


def use(kernel: Kernel, python: Path) -> None:
    """Do what people do, in cells that run in some Python."""
    assert kernel.text(CELLS) == f"{python.parents[1]} {_version(python)}\n"
    failed = kernel.run("area('a')")
    assert failed.reply["ename"] == "TypeError"
    assert "3 * r * r" in _COLOURS.sub("", "\n".join(failed.of("error")[0]["traceback"]))
    talk = kernel.talk
    request = talk.client.execute("input('Who? ')", allow_stdin=True)
    assert talk.asked(request)["prompt"] == "Who? "
    talk.client.input("Ada")
    assert talk.finish(request)[0].result == "'Ada'"
    (completed,) = talk.finish(talk.client.complete("kept.upd"))
    assert "update" in str(completed.reply["matches"])
    (inspected,) = talk.finish(talk.client.inspect("area"))
    assert "area(r)" in _COLOURS.sub("", inspected.reply["data"]["text/plain"])
    assert kernel.ok("import asyncio\nawait asyncio.sleep(0, 'awaited')").result == "'awaited'"
    kernel.ok(NO_STANDBY)
    assert "Your variables are restored" in kernel.died()
    assert kernel.ok("kept, area(3)").result == "({'area': 12}, 27)"
    kernel.ok("%capsule checkpoint now")
    kernel.kill_front()
    assert kernel.ok("kept, area(1)").result == "({'area': 12}, 3)"


def _version(python: Path) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[partial[Kernel]]:
    """Return a function that starts a kernel of the test's own; its log is ``tmp_path / "log"``."""
    begun: list[Kernel] = []

    def start(python: Path, *way: str, **settings: object) -> Kernel:
        log = ("/bin/sh", "-c", 'exec 2>"$0"; exec "$@"', str(tmp_path / "log"))
        begun.append(Kernel(tmp_path / "home", by_way_of=(*log, *way), python=python, **settings))
        return begun[-1]

    yield start
    for kernel in begun:
        kernel.close()


@pytest.mark.parametrize("place", PLACES)
def test_a_notebook_runs_in_an_environment_of_its_own(begin: partial[Kernel], place: str) -> None:
    python = PLACES[place]()
    use(begin(python), python)


def test_an_ordinary_user_runs_cells_in_an_environment_that_cannot_be_written(tmp_path: Path) -> None:
    # Of the front's own version: an ordinary user can reach only one Python of another user.
    python = environment("fixed", _version(Path(sys.executable)), ["-e", str(WORKER)], below=tmp_path)
    place = python.parents[1]
    for path in [place, *place.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)
    person = Path(tempfile.mkdtemp(prefix="capsule-test-", dir="/opt" if os.geteuid() == 0 else Path.home()))
    (person / "work").mkdir()
    way: tuple[str, ...] = ()
    if os.geteuid() == 0:
        person.chmod(0o755)
        made_of = (sys.prefix, sys.base_prefix, str(ROOT), str(place))
        helper = PROGRAMS / "as_user.py"
        way = (sys.executable, str(helper), str(ORDINARY), str(person), ":".join(made_of))
    kernel = Kernel(
        person / "data",
        connection_file=str(person / "kernel.json"),
        by_way_of=way,
        directory=person / "work",
        environ={"HOME": str(person), "IPYTHONDIR": str(person / "ipython")},
        python=python,
    )
    try:
        writable = (
            "import os, sys\n[path for path in [sys.prefix, *sys.path] if sys.prefix in path and os.access(path, 2)]"
        )
        assert kernel.ok(writable).result == "[]"
        assert kernel.ok("os.geteuid() != 0").result == "True"
        use(kernel, python)
    finally:
        kernel.close()
        shutil.rmtree(person)
        for path in [place, *place.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)


UNUSABLE = {
    "too old": (partial(environment, "bare-3.9", "3.9"), "is Python 3.9.", "capsule install --python PATH"),
    "no worker": (
        partial(environment, "bare-3.10", "3.10"),
        "has no capsule-worker",
        f"uv pip install --python {{python}} capsule-worker=={__version__}",
    ),
    "an IPython that is too old": (
        partial(with_ipython, "7.34.0", "3.10"),
        "IPython 7.34.0 is too old: cells need 8.20 or newer",
        f"uv pip install --python {{python}} capsule-worker=={__version__}",
    ),
    "nothing": (lambda: Path("/nowhere/python"), "/nowhere/python does not exist", "capsule install --python PATH"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_an_unusable_environment_is_reported_with_the_fix(begin: partial[Kernel], what: str, tmp_path: Path) -> None:
    make, problem, mend = UNUSABLE[what]
    python = make()
    mend = mend.format(python=python)
    kernel = begin(python)
    for _ in range(2):
        reply = kernel.run("6 * 7").reply
        assert reply["ename"] == "WorkerUnavailable"
        assert problem in reply["evalue"]
        assert mend in reply["evalue"]
    log = (tmp_path / "log").read_text()
    assert log.count(problem) == 1
    assert mend in log

    installed = subprocess.run(
        [Path(sys.executable).with_name("capsule"), "install", "--python", python, "--prefix", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert installed.returncode == 1
    assert problem in installed.stderr
    assert not list(tmp_path.rglob("kernel.json"))
    found = doctor.environment(Kernelspec("x", tmp_path, "X", (sys.executable, "--python", str(python))))
    assert found.status == "problem"
    assert problem in found.detail
    assert "capsule install --name x --python PATH" in found.fix if "PATH" in mend else mend == found.fix
