"""What people set for IPython counts in this kernel as in ipykernel: configuration, startup files, extensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.kernels import KERNEL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.kernels import Opened

#: Files, from the home of a test.
FILES = {
    "ipython/profile_default/startup/00-first.py": "from_startup = [1]; name = __file__\nprint('hello from startup')\n",
    "ipython/profile_default/startup/01-second.ipy": "%precision 3\nfrom_shell = !echo shell\n",
    "ipython/profile_default/startup/02-third.py": "1/0\n",
    "ipython/profile_default/ipython_config.py": """
c = get_config()
c.InteractiveShellApp.exec_lines = ["from_line = 7", "%load_ext autoreload"]
c.InteractiveShellApp.exec_files = ["on_start.py"]
c.InteractiveShellApp.extensions = ["an_extension", "one_that_is_not_there"]
c.InteractiveShell.ast_node_interactivity = "all"
c.StoreMagics.autorestore = True
c.AliasManager.user_aliases = [("greet", "echo hello")]
""",
    "ipython/profile_default/ipython_kernel_config.py": """
c.Completer.use_jedi = False
c.PlainTextFormatter.max_width = 20
""",
    "an_extension.py": "def load_ipython_extension(shell): shell.push({'from_extension': 8})\n",
    "on_start.py": "from_file = 9\n",
    "python_startup.py": "from_python_startup = 10\n",
}


@pytest.fixture
def configured(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write files as a person would, and return the directory in which kernels start."""
    for name, text in FILES.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    monkeypatch.chdir(home)
    monkeypatch.setenv("PYTHONSTARTUP", str(home / "python_startup.py"))
    monkeypatch.setenv("JPY_SESSION_NAME", "/notebooks/this.ipynb")
    return home


def test_configuration_startup_files_and_extensions_count(configured: Path, open_kernel: Callable[..., Opened]) -> None:
    kernel = open_kernel()[1]
    first = kernel.run("from_startup\n1.23456")
    assert [content["data"]["text/plain"] for content in first.of("execute_result")] == ["[1]", "1.235"]
    assert first.reply["status"] == "ok"
    if KERNEL == "capsule":
        # What startup has to say, and what is wrong with it, is shown with the first cell.
        assert "hello from startup" in first.text()
        assert "No module named 'one_that_is_not_there'" in first.text("stderr")
        assert [error["ename"] for error in first.of("error")] == ["ZeroDivisionError"]
    names = "from_shell[0], from_line, from_extension, from_file, from_python_startup, __session__, 'name' in globals()"
    assert kernel.run(f"print({names})").text() == "shell 7 8 9 10 /notebooks/this.ipynb True\n"
    assert kernel.run("%who").text() == "Interactive namespace is empty.\n"
    assert kernel.run("%greet").text().split() == ["hello"]
    assert kernel.run("%load_ext autoreload").text().startswith("The autoreload extension is already loaded")
    settings = "get_ipython().Completer.use_jedi, get_ipython().display_formatter.formatters['text/plain'].max_width"
    assert kernel.run(f"print({settings})").text() == "False 20\n"
    kernel.run(
        "kept = 11\n%store kept\nfrom_startup.append(2)\n%config InteractiveShell.ast_node_interactivity = 'none'"
    )
    if KERNEL == "capsule":
        # A new worker begins as the first did; then the variables come back.
        kernel.run("import os; os._exit(3)", stop_on_error=False)
        assert kernel.run("print(from_startup, from_line, kept)").text().endswith("[1, 2] 7 11\n")
    else:
        kernel = open_kernel()[1]
        assert kernel.run("print(from_startup, from_line, kept)").text().endswith("[1] 7 11\n")


def test_a_profile_is_taken_from_the_given_directory(open_kernel: Callable[..., Opened], tmp_path: Path) -> None:
    (tmp_path / "startup").mkdir()
    (tmp_path / "startup" / "one.py").write_text("from_here = 12\n")
    for arguments in (["--profile-dir", str(tmp_path)], [f"--ProfileDir.location={tmp_path}"]):
        assert open_kernel(extra_arguments=arguments)[1].run("from_here").result == "12"


def test_an_environment_that_is_active_elsewhere_is_not_on_the_path_of_cells(
    open_kernel: Callable[..., Opened], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))
    kernel = open_kernel()[1]
    assert kernel.run(f"import sys\n[each for each in sys.path if {str(tmp_path)!r} in each]").result == "[]"


def test_parts_of_the_shell_are_configured_by_the_names_that_they_have_in_ipykernel(
    open_kernel: Callable[..., Opened],
) -> None:
    options = ["--HistoryManager.db_log_output=True", "--ZMQDisplayPublisher.store_display_history=True"]
    kernel = open_kernel(extra_arguments=options)[1]
    for name in ("HistoryManager", "ZMQDisplayPublisher"):
        assert "Current: True" in kernel.run(f"%config {name}").text()
    kernel.run("display(21)")
    kernel.run(
        "outputs = get_ipython().history_manager.outputs\n"
        "kept = {number: one.bundle for number in outputs for one in outputs[number]"
        " if one.output_type == 'display_data'}"
    )
    assert kernel.run("[*kept.values()]").result == "[{'text/plain': '21'}]"
    if KERNEL == "capsule":  # ipykernel gives it to the cell behind
        assert kernel.run("[In[number] for number in kept]").result == "['display(21)']"
