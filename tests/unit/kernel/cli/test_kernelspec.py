"""Kernelspecs are written whole, recognised, and removed only when they are Capsule's."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

import capsule_kernel
from capsule_durable.workers import interpreter
from capsule_kernel.cli import kernelspec
from capsule_kernel.cli.kernelspec import InvalidName, KernelspecError
from capsule_kernel.cli.main import main
from tests.support.waiting import poll_until

FRONT = [sys.executable, "-E", "-P", "-m", "capsule_kernel", "-f", "{connection_file}"]


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only directory in which Jupyter finds kernelspecs."""
    directory = tmp_path / "data" / "kernels"
    monkeypatch.setattr(kernelspec, "jupyter_data_dir", lambda: str(tmp_path / "data"))
    monkeypatch.setattr(kernelspec, "search_path", lambda _prefix=None: [directory])
    return directory


def foreign(kernels: Path, name: str, content: str | None = None) -> Path:
    """Make the kernelspec of another kernel."""
    directory = kernels / name
    directory.mkdir(parents=True)
    argv = ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (directory / "kernel.json").write_text(content or json.dumps({"argv": argv, "display_name": "Another"}))
    return directory


# -- what is in kernel.json ----------------------------------------------------------------------------------


def test_the_front_is_started_by_absolute_path_and_in_isolation() -> None:
    assert kernelspec.contents()["argv"] == FRONT
    assert Path(FRONT[0]).is_absolute()


def test_python_and_profile_become_arguments_of_the_front() -> None:
    spec = kernelspec.contents(python=Path("/envs/a b/bin/python"), profile="open")
    assert spec["argv"] == [*FRONT, "--python", "/envs/a b/bin/python", "--profile", "open"]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({}, "Python 3 (Capsule)"),
        ({"name": "analysis"}, "Python 3 (Capsule: analysis)"),
        ({"name": "analysis", "display_name": "Zählung"}, "Zählung"),
    ],
)
def test_kernels_of_different_names_can_be_distinguished(arguments: dict[str, Any], shown: str) -> None:
    assert kernelspec.contents(**arguments)["display_name"] == shown


# -- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "written"), [("capsule", "capsule"), ("My.Kernel_3-x", "my.kernel_3-x"), ("..x", "..x")]
)
def test_a_name_that_jupyter_accepts_is_written_as_jupyter_writes_it(name: str, written: str) -> None:
    assert kernelspec.check_name(name) == written


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", "../a", ".", "..", "a\n", "ä", "a:b"])
def test_a_name_that_jupyter_does_not_accept_or_that_is_a_directory_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        kernelspec.check_name(name)


def test_a_bad_name_is_wrong_usage_and_writes_nothing(kernels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "--name", ".."]) == 2
    assert '".." cannot be the name of a kernel' in capsys.readouterr().err
    assert not kernels.exists()


def test_clients_know_from_the_kernelspec_that_they_are_welcomed() -> None:
    """A kernel of messaging 5.5 says so on iopub (JEP 65)."""
    assert kernelspec.contents()["kernel_protocol_version"] == "5.5"


# -- writing, finding, removing ------------------------------------------------------------------------------


def test_what_is_written_is_found_again(kernels: Path) -> None:
    directory = kernelspec.write(kernels, "analysis", kernelspec.contents("analysis", python=Path("/p/python")))
    assert sorted(path.name for path in directory.iterdir()) == [
        "kernel.json",
        "logo-32x32.png",
        "logo-64x64.png",
        "logo-svg.svg",
    ]
    [spec] = kernelspec.find([kernels, kernels])
    assert (spec.name, spec.directory, spec.python, spec.front) == ("analysis", directory, "/p/python", sys.executable)
    assert kernelspec.seen_by_jupyter("analysis") == directory


def test_writing_again_replaces_our_own_and_leaves_nothing_else_behind(kernels: Path) -> None:
    kernelspec.write(kernels, "a", kernelspec.contents(python=Path("/p/python")))
    (kernels / "a" / "stale").touch()
    kernelspec.write(kernels, "a", kernelspec.contents())
    assert [path.name for path in kernels.iterdir()] == ["a"]
    assert not (kernels / "a" / "stale").exists()
    [spec] = kernelspec.find([kernels])
    assert spec.python is None


@pytest.mark.parametrize("content", [None, "not JSON", "{}", "[]", '{"argv": "capsule_kernel"}', '{"argv": null}'])
def test_another_kernel_of_that_name_is_replaced_only_by_force(kernels: Path, content: str | None) -> None:
    directory = foreign(kernels, "a", content)
    before = (directory / "kernel.json").read_bytes()
    with pytest.raises(KernelspecError, match=r"is not a kernelspec of Capsule.*--force"):
        kernelspec.write(kernels, "a", kernelspec.contents())
    assert (directory / "kernel.json").read_bytes() == before
    kernelspec.write(kernels, "a", kernelspec.contents(), force=True)
    assert kernelspec.read(directory) is not None


def test_a_linked_kernelspec_is_unlinked_and_what_it_points_to_stays(kernels: Path, tmp_path: Path) -> None:
    target = kernelspec.write(tmp_path / "elsewhere", "a", kernelspec.contents())
    kernels.mkdir(parents=True)
    (kernels / "a").symlink_to(target)
    [spec] = kernelspec.find([kernels])
    kernelspec.remove(spec)
    assert not (kernels / "a").exists()
    assert (target / "kernel.json").exists()


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KernelspecError, match=r"Cannot write .*: Not a directory. Choose another place with --user"):
        kernelspec.write(tmp_path / "file" / "kernels", "a", kernelspec.contents())


@pytest.mark.parametrize(("program", "own"), [("python", True), ("python3.12", True), ("/opt/python", False)])
def test_a_bare_python_is_taken_for_jupyters_own_as_jupyter_does(kernels: Path, program: str, own: bool) -> None:
    foreign(kernels, "a", json.dumps({"argv": [program, "-m", "capsule_kernel"]}))
    [spec] = kernelspec.find([kernels])
    assert spec.front == (sys.executable if own else program)


def test_uninstall_leaves_other_kernels_alone(kernels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = foreign(kernels, "other")
    ours = kernelspec.write(kernels, "ours", kernelspec.contents())
    assert main(["uninstall", "ours", "other", "--yes"]) == 1
    assert (
        f"{other} is not a kernelspec of Capsule. To remove it: jupyter kernelspec uninstall" in capsys.readouterr().err
    )
    assert ours.exists()  # all or nothing
    assert main(["uninstall", "ours", "--yes"]) == 0
    assert capsys.readouterr().out == f"Removed {ours}\n"
    assert [path.name for path in kernels.iterdir()] == ["other"]


def test_uninstall_names_what_there_is(kernels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["uninstall", "--yes"]) == 1
    assert 'Capsule has no kernelspec named "capsule".' in capsys.readouterr().err
    kernelspec.write(kernels, "ours", kernelspec.contents())
    assert main(["uninstall", "--name", "mine", "--yes"]) == 1
    assert "(choose from ours)." in capsys.readouterr().err


# -- interpreters --------------------------------------------------------------------------------------------


def test_a_link_to_an_interpreter_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    assert interpreter.locate(str(tmp_path / "python")) == tmp_path / "python"


def test_an_interpreter_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "python9").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert interpreter.locate("python9") == tmp_path / "python9"


def test_the_command_that_fixes_it_is_quoted_and_fits_an_environment_without_pip() -> None:
    path = Path("/a b/python")
    worker = f"capsule-worker=={capsule_kernel.__version__}"
    assert interpreter.install_command(path, pip=True) == f"'/a b/python' -m pip install {worker}"
    assert interpreter.install_command(path, pip=False) == f"uv pip install --python '/a b/python' {worker}"


@pytest.mark.process
def test_an_interpreter_that_never_answers_is_ended(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nsleep 1000\n")
    script.chmod(0o755)
    with pytest.raises(interpreter.InterpreterUnusable, match=r"did not answer within 1 seconds"):
        interpreter.check(str(script), timeout=1)
    session = int((tmp_path / "pid").read_text())
    poll_until(lambda: not any(_runs_in(session, each) for each in psutil.process_iter()), "no process left")


def _runs_in(session: int, process: psutil.Process) -> bool:
    try:
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False
