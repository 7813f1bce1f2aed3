"""A wrong configuration never keeps a kernel from starting: an unknown setting is a warning, a wrong value an error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.kernels import kernel
from tests.support.waiting import DEADLINE

UNKNOWN = "memry_limit = '8GB'\n"
WRONG = "drain_timeout = -1\n"


def capsule(directory: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a directory with a configuration."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("capsule")), *arguments],
        cwd=directory,
        env=os.environ | {"CAPSULE_HOME": str(directory / "home"), "COLUMNS": "400"} | environ,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def test_a_kernel_starts_with_an_unknown_setting_and_warns_with_the_first_cell(tmp_path: Path) -> None:
    (tmp_path / "capsule.toml").write_text(UNKNOWN)
    with kernel(tmp_path / "home", directory=tmp_path, retriess="2") as one:
        first = one.ok("print(1)")
        assert first.text() == "1\n"
        said = first.text("stderr")
        assert f'Unknown setting "memry_limit" in {tmp_path}/capsule.toml. Did you mean "memory_limit"?' in said
        assert 'Unknown setting "CAPSULE_RETRIESS" in the environment. Did you mean "CAPSULE_RETRIES"?' in said
        assert one.ok("print(2)").text("stderr") == ""


def test_a_kernel_starts_with_a_wrong_value_and_every_cell_fails_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "capsule.toml").write_text(WRONG)
    with kernel(tmp_path / "home", directory=tmp_path, checkpoints="sometimes") as one:
        for _ in range(2):
            reply = one.run("print(1)").reply
            assert (reply["status"], reply["ename"]) == ("error", "WorkerUnavailable")
            reason = reply["evalue"]
            assert f'Wrong value for "drain_timeout" in {tmp_path}/capsule.toml: -1 (input should be' in reason
            assert "Wrong value for \"checkpoints\" in CAPSULE_CHECKPOINTS: 'sometimes' (input should be" in reason
            assert reason.endswith("Correct the configuration, then restart the kernel.")


def test_a_file_that_cannot_be_read_is_the_reason_too(tmp_path: Path) -> None:
    (tmp_path / "capsule.toml").write_text("not toml")
    with kernel(tmp_path / "home", directory=tmp_path) as one:
        assert f"Cannot read {tmp_path}/capsule.toml" in one.run("print(1)").reply["evalue"]


@pytest.mark.parametrize("arguments", [("config", "--json"), ("pending", "--json"), ("gc", "--json")])
def test_commands_show_an_unknown_setting_and_refuse_a_wrong_value(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "capsule.toml").write_text(UNKNOWN)
    done = capsule(tmp_path, *arguments)
    warning = f'Unknown setting "memry_limit" in {tmp_path}/capsule.toml. Did you mean "memory_limit"?'
    assert done.stderr.count(warning) == 1
    if done.returncode == 0:
        json.loads(done.stdout)
    (tmp_path / "capsule.toml").write_text(UNKNOWN + WRONG)
    done = capsule(tmp_path, *arguments)
    assert done.returncode == 1
    assert f'Wrong value for "drain_timeout" in {tmp_path}/capsule.toml: -1' in done.stderr
    assert warning in done.stderr
