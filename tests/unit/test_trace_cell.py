"""The benchmark that counts the calls of a cell: what it makes of the records of the processes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "trace_cell.py"
FRONT, WORKER = 1, 2


def load():
    spec = importlib.util.spec_from_file_location("trace_cell", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["trace_cell"] = module
    spec.loader.exec_module(module)
    return module


trace_cell = load()


def record(*events: str):
    """Return the trace of events like ``10 call capsule_kernel/app.py run``; the file may be missing."""
    lines = []
    for event in events:
        at, kind, *file, function = event.split()
        lines.append("\t".join([at, kind, *(file or [""]), function]))
    return trace_cell.read("\n".join(lines))


def in_files(*names: str):
    return record(*(f"{number} call capsule_durable/{name}.py f" for number, name in enumerate(names)))


def test_a_cell_is_cut_into_legs() -> None:
    events = {
        FRONT: record(
            "5 call capsule_kernel/a.py before_the_cell",
            "10 call capsule_kernel/a.py received",
            "20 call capsule_kernel/a.py Kernel.execute_request",
            "21 resume capsule_kernel/a.py Kernel.execute_request",
            "30 message ExecuteMessage",
            "31 call capsule_durable/engines/embedded/tasks.py create",
            "40 jupyter stream",
            "50 call capsule_kernel/b.py reply",
            "60 jupyter execute_reply",
            "70 call capsule_kernel/b.py idle",
            "100 call capsule_kernel/b.py next_cell",
        ),
        WORKER: record(
            "32 call capsule_worker/a.py take",
            "35 message ResultMessage",
            "36 call capsule_worker/a.py save",
            "37 message CheckpointSavedMessage",
            "38 call capsule_worker/a.py later",
        ),
    }
    cell = trace_cell.cut(events, FRONT, 10, 100)
    names = {leg: [event.function for event in calls] for leg, calls in cell.front.items()}
    assert names == {
        "receive": ["received"],
        "request": ["Kernel.execute_request"],
        "reply": ["create", "reply"],
        "after": ["idle"],
    }
    assert [event.function for event in cell.worker] == ["take"]
    assert [event.function for event in cell.checkpoint] == ["save"]
    figures = trace_cell.summary([cell])["front, request to reply"]
    assert figures == {"calls": 2, "files": 2, "changes": 1, "engine calls": 1}


def test_a_cell_without_a_result_is_an_error() -> None:
    with pytest.raises(SystemExit, match="execute_request"):
        trace_cell.cut({FRONT: []}, FRONT, 0, 1)


@pytest.mark.parametrize(
    ("files", "count"),
    [
        (["runtime", "runtime", "bridge"], {}),
        (["runtime", "bridge", "runtime", "bridge", "runtime"], {"runtime": 2, "bridge": 1}),
        (["runtime", "ids", "runtime"], {}),
        (["execution/runtime", "history/cells", "workers/process", "execution/runtime"], {"execution/runtime": 1}),
        (["history/cells", "execution/runtime", "history/cells"], {}),
    ],
)
def test_a_return_is_a_call_into_a_file_of_the_path_that_was_left(files: list[str], count: dict[str, int]) -> None:
    assert trace_cell.returns(in_files(*files)) == {f"capsule_durable/{name}.py": n for name, n in count.items()}


def test_a_change_is_a_call_in_another_file() -> None:
    assert trace_cell.changes(in_files("a", "a", "b", "a")) == 2
