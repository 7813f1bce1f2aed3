"""The command `capsule`: exit status, errors, the directory of data, and texts for people and programs."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import typer

from capsule_durable.config.settings import Settings
from capsule_kernel.cli import config
from capsule_kernel.cli import main as command
from capsule_kernel.cli.main import main
from capsule_kernel.cli.notebook_runner import CellReport, Report, State, last_line
from capsule_kernel.console.terminal import confirm, duration, first_line


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Return a list whose exception ``capsule config`` raises."""
    errors: list[BaseException] = []

    def raise_it(*_: object) -> None:
        raise errors[0]

    monkeypatch.setattr(config, "effective", raise_it)
    return errors


def test_an_unexpected_error_is_an_internal_error(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(KeyError("nope"))
    assert main(["config"]) == 1
    assert capsys.readouterr().err == (
        "capsule: Internal error (KeyError: 'nope'). Please report it with the output of capsule doctor --json.\n"
    )


def test_an_interrupted_command_has_the_exit_status_of_interrupted_programs(failing: list[BaseException]) -> None:
    failing.append(KeyboardInterrupt())
    assert main(["config"]) == 130


def test_sigterm_interrupts_a_command_and_stays_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "effective", lambda _: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert main(["config"]) == 130
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("arguments", [["--nonsense"], ["nonsense"], ["answer"], ["outputs", "x", "--cell", "one"]])
def test_wrong_usage_has_the_exit_status_two(arguments: list[str]) -> None:
    assert main(arguments) == 2


def test_the_directory_of_data_is_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAPSULE_HOME", str(tmp_path / "other"))
    monkeypatch.chdir(tmp_path)
    assert main(["--home", "mine", "config", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["settings"]["home"] == {"value": str(tmp_path / "mine"), "origin": "CAPSULE_HOME"}
    assert shown["schema"] == "capsule.config/1"
    assert os.environ["CAPSULE_HOME"] == str(tmp_path / "other")
    assert main(["--home", "mine", "verify"]) == 1
    assert f"Nothing is recorded yet ({tmp_path}/mine/" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_each_setting_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSULE_MEMORY_LIMIT", "0")
    monkeypatch.setenv("CAPSULE_FILE_SIZE_LIMIT", "1.5GB")
    assert main(["config"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(Settings.model_fields)
    values = dict(line.split(maxsplit=1) for line in lines)
    assert values["memory_limit"] == "= unlimited  (CAPSULE_MEMORY_LIMIT)"
    assert values["file_size_limit"] == "= 1.5GB  (CAPSULE_FILE_SIZE_LIMIT)"
    assert values["history_size"] == "= 2GB  (default)"
    assert values["execution_timeout"] == "= none  (default)"


def test_nothing_is_removed_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for text, is_confirmed in (("y", True), ("Yes ", True), ("", False), ("n", False)):
        monkeypatch.setattr("builtins.input", lambda _, text=text: text)
        assert confirm("Remove?", ["/kernels/a"]) is is_confirmed


def test_every_command_has_help_and_an_example() -> None:
    group = typer.main.get_command(command.app)
    for name, each in group.commands.items():  # type: ignore[attr-defined]
        assert each.help, name
        assert each.epilog.startswith("For example: capsule "), name


def test_the_last_line_of_a_run_counts_its_cells() -> None:
    def line(*states: State) -> str:
        cells = [CellReport(place, "x", state) for place, state in enumerate(states, 1)]
        return last_line(Report("r2", "ok.ipynb", "ok.out.ipynb", "capsule run", cells, 3.21))

    assert line("ran", "ran", "replayed", "ran", "ran") == ("Wrote ok.out.ipynb: 4 run, 1 replayed, 0 failed in 3.2 s")
    assert line("failed", "not run", "not run") == (
        "Wrote ok.out.ipynb: 0 run, 0 replayed, 1 failed, 2 not run in 3.2 s"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (4, "4 s"), (90, "1.5 min"), (7200, "2.0 h"), (259200, "3.0 d")]
)
def test_a_duration_has_the_unit_that_fits_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_first_line_of_a_cell_is_not_blank() -> None:
    assert first_line("\n  \nx = 1\ny") == "x = 1"
    assert first_line(" \n") == ""
    assert first_line("x" * 100) == "x" * 80
