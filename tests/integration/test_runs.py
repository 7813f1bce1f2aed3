"""A notebook that is executed under an id, by one process after the other: nothing is done twice, nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any
from unittest import mock

import nbformat
import papermill
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from papermill.exceptions import PapermillExecutionError

from tests.support.cli import CAPSULE, capsule, command_environment
from tests.support.processes import RUN_MODULE
from tests.support.waiting import DEADLINE, poll_until

pytestmark = pytest.mark.usefixtures("clients_of_the_dead")


class Notebook:
    """A notebook whose cells leave a trace each time that they run."""

    def __init__(self, directory: Path, *codes: str) -> None:
        self.log = directory / "log"
        self.home = directory / "home"
        self.codes = list(codes)
        self.metadata: list[dict[str, Any]] = []

    @property
    def traces(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def content(self) -> nbformat.NotebookNode:
        cells = [
            nbformat.v4.new_code_cell(f"open({str(self.log)!r}, 'a').write('{number} ')\n{code}")
            for number, code in enumerate(self.codes, 1)
        ]
        for cell, metadata in zip(cells, self.metadata, strict=False):
            cell.metadata = nbformat.from_dict(metadata)
        return nbformat.v4.new_notebook(cells=cells)

    def environment(self, **settings: object) -> dict[str, str]:
        given = {f"CAPSULE_{name.upper()}": str(value) for name, value in settings.items()}
        return {"CAPSULE_HOME": str(self.home), "CAPSULE_RUN_ID": "nightly", "CAPSULE_RETRY_DELAY": "0.01", **given}

    def run(self, **settings: object) -> list[str]:
        """Execute it; return what each cell printed, or the name of its error."""
        notebook = self.content()
        environment = {**os.environ, **self.environment(**settings)}
        try:
            NotebookClient(notebook, kernel_name="capsule", timeout=DEADLINE).execute(env=environment)
        except CellExecutionError as error:
            self.failure = str(error)
        return [_shown(cell) for cell in notebook.cells]

    def start(self, path: Path, **settings: object) -> subprocess.Popen[bytes]:
        """Execute it in a process of its own."""
        nbformat.write(self.content(), path)
        return subprocess.Popen(
            [*RUN_MODULE, "nbclient.cli:main", "--kernel_name=capsule", "--inplace", str(path)],
            env={**os.environ, **self.environment(**settings)},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started, at once."""
    for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()


def _shown(cell: Any) -> str:
    texts = [output.get("text", output.get("ename", "")) for output in cell.outputs if output.get("name") != "stderr"]
    return "".join(texts).strip()


def _said(notebook: nbformat.NotebookNode) -> str:
    return "".join(o.text for cell in notebook.cells for o in cell.outputs if o.get("name") == "stderr")


@pytest.fixture
def book(tmp_path: Path) -> Notebook:
    return Notebook(tmp_path, "a = [1]\nb = a", "a.append(2)\nprint(a)", "print(b is a, b)", "print(len(a))")


def test_a_finished_run_returns_at_once_with_what_it_showed(book: Notebook) -> None:
    first = book.run()
    assert first == ["", "[1, 2]", "True [1, 2]", "2"]
    assert book.run() == first
    assert book.traces == "1 2 3 4 "


def test_a_run_continues_where_a_worker_died(book: Notebook, tmp_path: Path) -> None:
    book.codes[2] = f"import os\nif not os.path.exists({str(tmp_path / 'go')!r}): os.abort()\n" + book.codes[2]
    assert book.run()[:3] == ["", "[1, 2]", "WorkerDied"]
    (tmp_path / "go").touch()
    assert book.run() == ["", "[1, 2]", "True [1, 2]", "2"]
    assert book.traces == "1 2 3 3 4 "


def test_a_run_continues_after_all_processes_were_killed(book: Notebook, tmp_path: Path) -> None:
    book.codes[2] = (
        f"import os, time\nif not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(100)\n" + book.codes[2]
    )
    process = book.start(tmp_path / "first.ipynb")
    poll_until(lambda: book.traces == "1 2 3 ", "the third cell")
    kill_all(process)
    (tmp_path / "go").touch()
    assert book.run() == ["", "[1, 2]", "True [1, 2]", "2"]
    assert book.traces == "1 2 3 3 4 "


def test_a_cell_that_was_changed_and_those_behind_it_run_again(book: Notebook) -> None:
    book.run()
    before, book.codes[1] = book.codes[1], "a.append(3)\nprint(a)"
    assert book.run() == ["", "[1, 3]", "True [1, 3]", "2"]
    assert book.traces == "1 2 3 4 2 3 4 "
    # Changed back it is not taken for what ran at first.
    book.codes[1] = before
    assert book.run() == ["", "[1, 2]", "True [1, 2]", "2"]
    assert book.traces == "1 2 3 4 2 3 4 2 3 4 "


def test_a_run_is_executed_by_one_process_at_a_time(book: Notebook, tmp_path: Path) -> None:
    book.codes[1] = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.05)"
    process = book.start(tmp_path / "first.ipynb")
    poll_until(lambda: book.traces == "1 2 ", "the second cell")
    book.run()
    assert "run 'nightly' is being executed by process" in book.failure
    assert book.traces == "1 2 "
    (tmp_path / "go").touch()
    assert process.wait(DEADLINE) == 0
    assert book.traces == "1 2 3 4 "
    book.run()
    assert book.traces == "1 2 3 4 "


def test_a_cell_is_tried_again_from_the_state_before_it(book: Notebook, tmp_path: Path) -> None:
    failing = f"import os, pathlib\np = pathlib.Path({str(tmp_path / 'tries')!r})\na.append('tried')\n"
    failing += "n = len(p.read_text()) if p.exists() else 0\np.write_text('x' * (n + 1))\n"
    book.codes[2] = failing + "if n == 0: os.abort()\nif n == 1: raise OSError('not yet')\nprint(b)"
    assert book.run(retries=2) == ["", "[1, 2]", "[1, 2, 'tried']", "3"]
    assert book.traces == "1 2 3 3 3 4 "


def test_an_error_that_would_repeat_is_not_retried(book: Notebook) -> None:
    book.codes[2] = "print(unknown)"
    assert book.run(retries=5)[2] == "NameError"
    assert book.traces == "1 2 3 "


def test_attempts_come_to_an_end(book: Notebook) -> None:
    book.codes[2] = "raise OSError('never')"
    assert book.run(retries=2)[2] == "OSError"
    assert book.traces == "1 2 3 3 3 "


def test_an_answer_that_was_given_is_given_again(book: Notebook, tmp_path: Path) -> None:
    go = str(tmp_path / "go")
    book.codes[2] = (
        f"import os, time\nname = input('Who? ')\nif not os.path.exists({go!r}): time.sleep(100)\nprint(name)"
    )
    process = book.start(tmp_path / "first.ipynb", on_input="wait")

    def pending() -> str:
        return capsule(book.home, "pending").out

    poll_until(lambda: "Who?" in pending(), "the question")
    # While it waits everything is killed; the answer comes before it is asked for again.
    kill_all(process)
    short = pending().split("│")[1].strip()
    assert capsule(book.home, "answer", short, "Ada").status == 0
    (tmp_path / "go").touch()
    assert book.run(on_input="wait")[2] == "Ada"
    assert book.traces == "1 2 3 3 4 "


def run_papermill(book: Notebook, output: Path) -> list[str]:
    """Execute it with papermill; return what each cell printed."""
    path = output.with_name("book.ipynb")
    nbformat.write(book.content(), path)
    with mock.patch.dict(os.environ, book.environment()), contextlib.suppress(PapermillExecutionError):
        papermill.execute_notebook(
            path, output, {"month": 3}, kernel_name="capsule", language="python", progress_bar=False
        )
    cells = nbformat.read(output, as_version=4).cells
    return [_shown(cell) for cell in cells if "papermill-error-cell-tag" not in cell.metadata.tags]


def test_papermill_continues_a_run(book: Notebook, tmp_path: Path) -> None:
    book.metadata = [{"tags": ["parameters"]}]
    book.codes = [
        "month = 0",
        "print(month)",
        f"import os\nif not os.path.exists({str(tmp_path / 'go')!r}): os.abort()",
    ]
    assert run_papermill(book, tmp_path / "done.ipynb")[2:4] == ["3", "WorkerDied"]
    (tmp_path / "go").touch()
    assert run_papermill(book, tmp_path / "done.ipynb") == ["", "", "3", ""]
    assert book.traces == "1 2 3 3 "


# -- the command ---------------------------------------------------------------------------------------------


def capsule_run(book: Notebook, *words: str) -> tuple[int, dict[str, Any], str]:
    """Run the command; return its status, what it says to programs, and what it says to people."""
    path = book.log.with_name("book.ipynb")
    nbformat.write(book.content(), path)
    done = capsule(book.home, "run", str(path), "--json", *words)
    return done.status, done.json if done.out else {}, done.err


def states(report: dict[str, Any]) -> list[str]:
    return [cell["state"] for cell in report["cells"]]


def test_the_command_continues_a_failed_run(book: Notebook, tmp_path: Path) -> None:
    book.codes[2] = "print(b, 1 / 0)"
    status, report, said = capsule_run(book, "--id", "weekly", "-o", str(tmp_path / "done.ipynb"))
    assert status == 1
    assert states(report) == ["ran", "ran", "failed", "not run"]
    assert "ZeroDivisionError" in report["cells"][2]["error"]
    assert f"Run weekly started. To continue it after an interruption: {report['command']}" in said
    assert "--id weekly" in report["command"]
    # What there is is in the file, the failure included.
    kept = nbformat.read(tmp_path / "done.ipynb", as_version=4)
    assert _shown(kept.cells[1]) == "[1, 2]"
    assert _shown(kept.cells[2]) == "ZeroDivisionError"
    book.codes[2] = "print(b)"
    status, report, said = capsule_run(book, "--id", "weekly", "-o", str(tmp_path / "done.ipynb"))
    assert status == 0
    assert states(report) == ["replayed", "replayed", "ran", "ran"]
    assert "cell 3 of run 'weekly' was changed" in said
    kept = nbformat.read(tmp_path / "done.ipynb", as_version=4)
    assert [_shown(cell) for cell in kept.cells] == ["", "[1, 2]", "[1, 2]", "2"]
    assert book.traces == "1 2 3 3 4 "


def test_the_command_sets_parameters_and_takes_a_new_id_each_time(book: Notebook) -> None:
    book.codes = ["print(month, name)"]
    status, report, _ = capsule_run(book, "--param", "month=3", "--param", "name=Ada")
    assert status == 0
    kept = nbformat.read(report["output"], as_version=4)
    assert _shown(kept.cells[1]) == "3 Ada"
    again = capsule_run(book, "--param", "month=3", "--param", "name=Ada")[1]
    assert again["id"] != report["id"]
    assert states(again) == ["ran", "ran"]


def test_the_command_reads_what_a_cell_s_metadata_say(book: Notebook) -> None:
    book.metadata = [{"capsule": {"retry": 2, "pause": 0.01}}, {"capsule": {"retry": "often"}}]
    book.codes = [f"if len(open({str(book.log)!r}).read()) < 6: raise OSError", "1 / 0", "pass"]
    status, report, said = capsule_run(book)
    assert status == 1
    assert states(report) == ["ran", "failed", "not run"]
    assert book.traces == "1 1 1 2 "
    assert "the cell's metadata is ignored: capsule.retry: " in said


def test_the_command_ends_cells_that_take_too_long(book: Notebook) -> None:
    book.codes = ["import time\ntime.sleep(100)"]
    status, report, _ = capsule_run(book, "--timeout", "0.5")
    assert status == 1
    assert "TimeoutError: the limit of 0.5 s for a cell is exceeded" in report["cells"][0]["error"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_has_written_its_outputs_and_can_be_continued(
    book: Notebook, tmp_path: Path, number: signal.Signals
) -> None:
    go = str(tmp_path / "go")
    book.codes[2] = f"import os, time\nif not os.path.exists({go!r}): time.sleep(100)\n" + book.codes[2]
    path, output = tmp_path / "book.ipynb", tmp_path / "done.ipynb"
    nbformat.write(book.content(), path)
    command = [CAPSULE, "run", str(path), "--id", "weekly", "-o", str(output), "--json"]
    process = subprocess.Popen(
        command, env=command_environment(book.home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    poll_until(lambda: book.traces == "1 2 3 ", "the third cell")
    process.send_signal(number)
    out, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    report = json.loads(out)
    assert (report["state"], states(report)) == ("interrupted", ["ran", "ran", "interrupted", "not run"])
    assert report["command"] == f"capsule run {path} --id weekly --output {output}"
    assert said.count(report["command"]) == 2
    assert [_shown(cell) for cell in nbformat.read(output, as_version=4).cells[:3]] == [
        "",
        "[1, 2]",
        "KeyboardInterrupt",
    ]
    (run,) = capsule(book.home, "runs", "--json").json["runs"]
    assert (run["id"], run["state"], run["cells"], run["done"]) == ("weekly", "failed", 3, 2)
    (tmp_path / "go").touch()
    assert states(capsule_run(book, "--id", "weekly")[1]) == ["replayed", "replayed", "ran", "ran"]
    assert book.traces == "1 2 3 3 4 "


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--param", "1a=2"], 2, "--param needs NAME=VALUE"),
        (["--retries", "-1"], 2, "--retries"),
        (["--kernel", "nope"], 2, 'capsule: No kernel named "nope" (choose from capsule, python3).'),
        (["--on-input", "perhaps"], 2, "--on-input"),
    ],
)
def test_the_command_says_what_is_wrong_with_its_arguments(
    book: Notebook, words: list[str], status: int, said: str
) -> None:
    found, _, text = capsule_run(book, *words)
    assert found == status
    assert said in text
    assert book.traces == ""


def test_a_file_that_is_not_a_notebook_is_reported(book: Notebook, tmp_path: Path) -> None:
    (tmp_path / "none.ipynb").write_text("no notebook")
    done = capsule(tmp_path / "home", "run", str(tmp_path / "none.ipynb"))
    assert done.status == 1
    assert "is not a notebook" in done.err
    assert not (tmp_path / "none.out.ipynb").exists()
