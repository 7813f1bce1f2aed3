"""Notebooks run as a batch by nbclient, as nbconvert, jupyter-book and CI systems do it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

from tests.support.kernels import kernel_environment
from tests.support.notebooks import data, error, kinds, notebook, text
from tests.support.waiting import DEADLINE

if TYPE_CHECKING:
    from typing import Any

    from nbformat import NotebookNode

    from tests.support.processes import Family


def _run(kernel_name: str, *cells: str, **options: Any) -> list[NotebookNode]:
    """Run cells to the end, whatever fails in them, and return them with their outputs."""
    book = notebook(*cells)
    client = NotebookClient(book, kernel_name=kernel_name, **{"timeout": 60, "allow_errors": True, **options})
    client.execute(env=kernel_environment())
    return list(book.cells)


def test_every_kind_of_output_lands_in_its_cell(kernel_name: str, family: Family) -> None:
    cells = _run(
        kernel_name,
        "print('out')",
        "import sys; print('err', file=sys.stderr)",
        "6 * 7",
        "from IPython.display import HTML, clear_output; display(HTML('<b>shown</b>'))",
        "handle = display('first', display_id='changing')",
        "handle.update('second')",
        "print('cleared'); clear_output(wait=True); print('kept')",
        "print('before'); raise ValueError('wrong')",
        "'still here'",
    )
    out, err, result, shown, changing, _, cleared, failed, after = cells
    assert text(out) == "out\n"
    assert text(err, "stderr") == "err\n"
    assert data(result) == ["42"]
    assert data(shown, "text/html") == ["<b>shown</b>"]
    assert data(changing) == ["'second'"]
    assert text(cleared) == "kept\n"
    assert kinds(failed) == ["stdout", "error"]
    assert error(failed) == ("ValueError", "wrong")
    assert data(after) == ["'still here'"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, 10))
    family.wait_until_gone()


def test_streams_displays_and_the_result_keep_their_order(kernel_name: str) -> None:
    (cell,) = _run(
        kernel_name,
        "import sys\nfor i in range(2):\n    print('o', flush=True)\n"
        "    print('e', file=sys.stderr, flush=True)\n    display(i)\nprint('end')\n'result'",
    )
    turn = ["stdout", "stderr", "display_data"]
    assert kinds(cell) == [*turn, *turn, "stdout", "execute_result"]
    assert data(cell) == ["0", "1", "'result'"]


def test_the_tools_of_a_data_notebook_work(kernel_name: str) -> None:
    cells = _run(
        kernel_name,
        "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()",
        "import pandas as pd\npd.DataFrame({'a': [1, 2]})",
        "import asyncio\nawait asyncio.sleep(0, 'awaited')",
        "%%bash\necho from bash",
        "!echo from a shell\nlines = !echo captured",
        "%%capture taken\nprint('not shown')",
        "print(lines, repr(taken.stdout))",
        "%timeit -n1 -r1 pass",
        "%env CAPSULE_PROBE=1\nimport os\nos.environ['CAPSULE_PROBE']",
    )
    plot, frame, awaited, bash, shell, capture, taken, timed, env = cells
    assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert data(plot, "image/png")[0].startswith("iVBOR")
    assert "<table" in data(frame, "text/html")[0]
    assert data(awaited) == ["'awaited'"]
    assert text(bash) == "from bash\n"
    assert text(shell).split() == ["from", "a", "shell"]
    assert capture["outputs"] == []
    assert text(taken) == "['captured'] 'not shown\\n'\n"
    assert "per loop" in text(timed)
    assert data(env) == ["'1'"]


def test_an_error_stops_the_run_with_the_outputs_so_far(kernel_name: str, family: Family) -> None:
    book = notebook("print('one')", "print('two'); 1/0", "print('three')")
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        NotebookClient(book, kernel_name=kernel_name, timeout=60).execute()
    assert [kinds(cell) for cell in book.cells] == [["stdout"], ["stdout", "error"], []]
    family.wait_until_gone()


def test_a_cell_tagged_to_raise_does_not_stop_the_run(kernel_name: str) -> None:
    book = notebook("1/0", "'on'")
    book.cells[0]["metadata"]["tags"] = ["raises-exception"]
    NotebookClient(book, kernel_name=kernel_name, timeout=60).execute()
    assert data(book.cells[1]) == ["'on'"]


def test_a_cell_over_its_time_is_interrupted_and_the_next_one_runs(kernel_name: str) -> None:
    cells = _run(
        kernel_name,
        "kept = 'kept'",
        "import time\ntime.sleep(60)",
        "kept",
        timeout_func=lambda cell: 1 if "sleep" in cell["source"] else 60,
        interrupt_on_timeout=True,
    )
    assert error(cells[1])[0] == "KeyboardInterrupt"
    assert data(cells[2]) == ["'kept'"]


def test_a_cell_over_its_time_fails_the_run_and_leaves_no_process(kernel_name: str, family: Family) -> None:
    book = notebook("while True: pass")
    with pytest.raises(CellTimeoutError):
        NotebookClient(book, kernel_name=kernel_name, timeout=1).execute()
    family.wait_until_gone()


def test_a_question_that_no_client_can_answer_is_an_error(kernel_name: str) -> None:
    asking, after = _run(kernel_name, "input('Name? ')", "'still here'")
    assert error(asking)[0] == "StdinNotImplementedError"
    assert data(after) == ["'still here'"]


def test_notebooks_run_side_by_side_in_one_event_loop(kernel_name: str, family: Family) -> None:
    books = [notebook(f"n = {n}", "import asyncio; await asyncio.sleep(0)", "print(n)") for n in range(2)]

    async def run_all() -> None:
        clients = [NotebookClient(book, kernel_name=kernel_name, timeout=60) for book in books]
        await asyncio.gather(*(client.async_execute() for client in clients))

    asyncio.run(run_all())
    assert [text(book.cells[2]) for book in books] == ["0\n", "1\n"]
    family.wait_until_gone()


def test_the_command_line_runs_a_notebook_in_place(kernel_name: str, family: Family, tmp_path: Path) -> None:
    path = tmp_path / "work.ipynb"
    nbformat.write(notebook("print('by command line')", "6 * 7"), path)
    jupyter = Path(sys.executable).with_name("jupyter")
    done = subprocess.run(
        [jupyter, "execute", f"--kernel_name={kernel_name}", "--inplace", path],
        capture_output=True,
        text=True,
        timeout=DEADLINE * 2,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cells = nbformat.read(path, as_version=4).cells
    assert text(cells[0]) == "by command line\n"
    assert data(cells[1]) == ["42"]
    family.wait_until_gone()


@pytest.mark.capsule_only
def test_a_killed_worker_fails_its_cell_and_the_run_continues(kernel_name: str, family: Family) -> None:
    cells = _run(
        kernel_name,
        "print('before')",
        "import os\nprint('last words')\nos.kill(os.getpid(), 9)",
        "6 * 7",
    )
    name, explanation = error(cells[1])
    assert name == "WorkerDied"
    assert "SIGKILL" in explanation
    assert text(cells[1]) == "last words\n"
    assert data(cells[2]) == ["42"]
    family.wait_until_gone()


@pytest.mark.capsule_only
def test_a_killed_worker_stops_a_run_that_stops_at_errors(kernel_name: str, family: Family) -> None:
    book = notebook("import os\nos.kill(os.getpid(), 9)", "print('not reached')")
    with pytest.raises(CellExecutionError, match="WorkerDied"):
        NotebookClient(book, kernel_name=kernel_name, timeout=60).execute()
    assert kinds(book.cells[1]) == []
    family.wait_until_gone()
