"""What the kernel is started with."""

from __future__ import annotations

import pytest

from capsule_kernel.jupyter.arguments import parse


def test_a_kernelspec_of_ipykernels_starts_this_kernel_as_well() -> None:
    options = parse(
        ["-f", "file.json", "--matplotlib=inline", "--ext=one", "--ext", "two", "--pylab", "-c", "x = 1", "--no-pdb"]
    )
    assert options.connection_file == "file.json"
    assert options.ipython == [
        "--InteractiveShellApp.matplotlib=inline",
        "--InteractiveShellApp.extra_extensions=one",
        "--InteractiveShellApp.extra_extensions=two",
        "--InteractiveShellApp.pylab=auto",
        "--InteractiveShellApp.code_to_run=x = 1",
        "--InteractiveShell.pdb=False",
    ]
    assert options.unused == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--no-secure"], "--no-secure"),
        (["--Session.key=hush"], "--Session.key"),
        (["--Session.key", "hush"], "--Session.key"),
        (["--IPKernelApp.capture_fd_output=False"], "--IPKernelApp.capture_fd_output"),
        (["--parent=1"], "--parent"),
        (["--trio-loop"], "--trio-loop"),
    ],
)
def test_an_unused_argument_is_reported_and_does_not_end_the_start(words: list[str], said: str) -> None:
    options = parse(["-f", "file.json", *words])
    (line,) = options.unused
    assert line.startswith(f"{said} is not used: ")
    assert "hush" not in line
    assert options.ipython == []


def test_traits_are_handed_on_with_their_values_wherever_these_stand() -> None:
    options = parse(["--HistoryManager.hist_file=:memory:", "--IPKernelApp.exec_lines", "a\nb", "script.py"])
    assert options.ipython == ["--HistoryManager.hist_file=:memory:", "--IPKernelApp.exec_lines=a\nb"]
    assert options.connection_file is None


def test_both_spellings_of_the_connection_are_accepted() -> None:
    options = parse(["--IPKernelApp.connection_file=a.json", "--ip=0.0.0.0", "--hb=7", "--IPKernelApp.shell_port=8"])
    assert options.connection_file == "a.json"
    assert options.connection == {"ip": "0.0.0.0", "hb_port": 7, "shell_port": 8}


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ([], None),
        (["--debug"], "DEBUG"),
        (["--quiet"], "ERROR"),
        (["--log-level=10"], "DEBUG"),
        (["--Application.log_level=info"], "INFO"),
        (["--log-level=CRITICAL"], "ERROR"),
    ],
)
def test_the_log_level_is_given_in_ipythons_terms(words: list[str], level: str | None) -> None:
    assert parse(words).log_level == level


@pytest.mark.parametrize("words", [["--no-such-option"], ["--log-level=loud"], ["--hb=first"], ["--conn=a.json"]])
def test_an_unknown_argument_is_an_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(words)
    assert ended.value.code == 2
    assert words[0].partition("=")[2] in capsys.readouterr().err
