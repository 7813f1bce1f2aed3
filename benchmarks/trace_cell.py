"""Count the calls of Capsule's own functions that one cell takes: ``python benchmarks/trace_cell.py``.

A real kernel runs: a front, a forkserver and a worker, all with ``sys.setprofile``, and a client over ZMQ. After a
warm-up with ``x = 1`` the client runs ``y = x + 1; print(y)`` several times. It waits after each cell until the kernel
is quiet.

What is counted:

- Calls are calls of Python functions whose file is in an import package ``capsule`` or ``capsule_*``. Lambdas,
  generators and properties count. A coroutine or generator that continues after a pause does not count again. The SDK
  and other libraries do not count.
- Engine calls are those of the embedded engine in the front. They are in no other figure, except in the row
  "everything". The SDK calls the engine while the cell runs, so their number before the reply depends on timing.
- Files are the distinct files of the calls. A change is a call in another file than the call before it.
- The legs of the front: "receive" from the client's sending of the request until ``execute_request`` is called,
  "request" from there until ExecuteMessage leaves for the worker, "reply" from there until execute_reply is sent,
  "after" from there until the next cell. Background tasks count in the leg during which they run.
- A return is a call into a file of the execution path that was left for another file of that path before, in the leg
  "request". The path is capsule_durable/{execution,messaging,workers}/ and the modules in the root of capsule_durable,
  without ids and errors.
- The worker: all threads, until ResultMessage leaves; then the checkpoint, until the message about it leaves.

Figures are medians over the cells. Tracing makes the kernel slow, so there are no times.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import write_connection_file

WARM_UP, CELL = "x = 1", "y = x + 1; print(y)"
WARM_UPS = 3
DEADLINE_SECONDS = 60.0
#: A kernel is quiet when no message has come for so long.
QUIET_SECONDS = 1.0
TRACER = Path(__file__).parent / "tracer"
ENGINE = re.compile(r"capsule_durable/(engines/)?embedded/")
PATH = re.compile(r"capsule_durable/(?!ids\.py|errors\.py)((execution|messaging|workers)/)?[^/]+\.py")
LEGS = ("receive", "request", "reply", "after")


class Event(NamedTuple):
    """A line of a record; see ``tracer/sitecustomize.py``."""

    at: int
    kind: str
    file: str
    function: str


Trace = list[Event]


class CellTrace(NamedTuple):
    """What one cell made its kernel do.

    Args:
        front: the calls in the front by leg.
        worker: the calls in the worker until it had sent the result.
        checkpoint: the calls in the worker from there until it had reported the checkpoint.
    """

    front: dict[str, Trace]
    worker: Trace
    checkpoint: Trace


def main() -> None:
    """Trace cells and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=9, help="how many cells are traced (default 9)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--calls", action="store_true", help="list the calls of the last cell, in order")
    arguments = parser.parse_args()
    traces = trace(arguments.cells)
    if arguments.calls:
        print_calls(traces[-1])
    elif arguments.json:
        print(json.dumps(summary(traces), indent=2))
    else:
        print_table(summary(traces))


# -- running -------------------------------------------------------------------------------------------------


def trace(cells: int) -> list[CellTrace]:
    """Run a kernel and return the traces of ``cells`` cells, the warm-up not included."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        records = Path(directory, "records")
        records.mkdir()
        with _kernel(Path(directory), records) as (front, client):
            for _ in range(WARM_UPS):
                _run(client, WARM_UP)
            sent = []
            for _ in range(cells):
                sent.append(time.monotonic_ns())
                _run(client, CELL)
            sent.append(time.monotonic_ns())
        events = {int(path.name): read(path.read_text()) for path in records.iterdir()}
    return [cut(events, front, start, end) for start, end in pairwise(sent)]


@contextlib.contextmanager
def _kernel(folder: Path, records: Path) -> Iterator[tuple[int, BlockingKernelClient]]:
    """Start a kernel that records its calls; yield the front's pid and a client."""
    connection, _ = write_connection_file(str(folder / "connection.json"), key=secrets.token_hex().encode())
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(TRACER), os.environ.get("PYTHONPATH")])),
        "TRACE_CELL_DIRECTORY": str(records),
        # The worker writes its record, which the default profile would not let it do.
        "CAPSULE_PROFILE": "open",
        "CAPSULE_HOME": str(folder / "home"),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "capsule_kernel", "-f", connection], env=environment, stdout=subprocess.DEVNULL
    )
    client = BlockingKernelClient(connection_file=connection)
    client.load_connection_file()
    client.start_channels()
    try:
        client.kernel_info()
        client.get_shell_msg(timeout=DEADLINE_SECONDS)
        yield process.pid, client
        client.shutdown()
        process.wait(timeout=DEADLINE_SECONDS)
    finally:
        client.stop_channels()
        process.kill()
        process.wait()


def _run(client: BlockingKernelClient, code: str) -> None:
    """Run a cell and wait until the kernel is quiet."""
    client.execute(code, allow_stdin=False)
    reply = client.get_shell_msg(timeout=DEADLINE_SECONDS)
    if reply["content"]["status"] != "ok":
        raise SystemExit(f"the cell failed: {reply['content']}")
    with contextlib.suppress(queue.Empty):
        while True:
            client.get_iopub_msg(timeout=QUIET_SECONDS)


# -- counting ------------------------------------------------------------------------------------------------


def read(text: str) -> Trace:
    """Return the events of a record."""
    lines = (line.split("\t") for line in text.splitlines())
    return [Event(int(at), kind, file, function) for at, kind, file, function in lines]


def cut(events: dict[int, Trace], front: int, start: int, end: int) -> CellTrace:
    """Return what one cell did.

    Args:
        events: the record of each process, by its pid.
        front: the front's pid.
        start: when the cell was sent, in nanoseconds of CLOCK_MONOTONIC.
        end: when the next one was sent.

    Raises:
        SystemExit: a message without which nothing can be counted was not seen.
    """
    during = {pid: [event for event in trace if start <= event.at < end] for pid, trace in events.items()}
    called = _time_of(during[front], "call", "execute_request")
    sent = _time_of(during[front], "message", "ExecuteMessage")
    replied = _time_of(during[front], "jupyter", "execute_reply")
    ours = [event for event in during[front] if event.kind == "call"]
    bounds = dict(zip(LEGS, pairwise((start, called, sent, replied, end)), strict=True))
    legs = {leg: [event for event in ours if first <= event.at < last] for leg, (first, last) in bounds.items()}
    for pid, trace in during.items():
        if pid != front and any(event.function == "ResultMessage" for event in trace):
            result = _time_of(trace, "message", "ResultMessage")
            saved = _time_of(trace, "message", "CheckpointSavedMessage")
            calls = [event for event in trace if event.kind == "call"]
            return CellTrace(
                legs,
                [event for event in calls if event.at < result],
                [event for event in calls if result <= event.at < saved],
            )
    raise SystemExit("no worker sent a ResultMessage")


def _time_of(trace: Trace, kind: str, name: str) -> int:
    """Return when the first event of a kind happened whose function or message ends with ``name``."""
    for event in trace:
        if event.kind == kind and event.function.endswith(name):
            return event.at
    raise SystemExit(f"the record of the cell has no {kind} {name}")


def changes(trace: Trace) -> int:
    """Return how many calls are in another file than the call before them."""
    return sum(one.file != other.file for one, other in pairwise(trace))


def returns(trace: Trace) -> Counter[str]:
    """Return how often the files of the execution path were entered again after they had been left, by file."""
    entered = Counter(file for file, _ in groupby(event.file for event in trace if PATH.fullmatch(event.file)))
    return Counter({file: count - 1 for file, count in entered.items() if count > 1})


def without_engine(trace: Trace) -> Trace:
    """Return the calls that are not the engine's."""
    return [event for event in trace if not ENGINE.match(event.file)]


def summary(traces: Sequence[CellTrace]) -> dict[str, Any]:
    """Return the figures: medians over the cells, and the returns of the last cell by file."""

    def counts(parts: Sequence[Trace]) -> dict[str, float]:
        return {
            "calls": statistics.median(map(len, parts)),
            "files": statistics.median(len({event.file for event in part}) for part in parts),
            "changes": statistics.median(map(changes, parts)),
        }

    def figures(parts: Sequence[Trace]) -> dict[str, float]:
        rest = [without_engine(part) for part in parts]
        engine = [len(part) - len(other) for part, other in zip(parts, rest, strict=True)]
        return counts(rest) | {"engine calls": statistics.median(engine)}

    everything = [[event for leg in LEGS for event in trace.front[leg]] for trace in traces]
    return {
        "cells": len(traces),
        "front, request to reply": figures([trace.front["request"] + trace.front["reply"] for trace in traces]),
        **{f"front, leg {leg}": figures([trace.front[leg] for trace in traces]) for leg in LEGS},
        "front, everything": counts(everything) | {"engine calls": figures(everything)["engine calls"]},
        "worker, message to result": figures([trace.worker for trace in traces]),
        "worker, checkpoint after it": figures([trace.checkpoint for trace in traces]),
        "returns before the send": statistics.median(returns(trace.front["request"]).total() for trace in traces),
        "returns by file": dict(returns(traces[-1].front["request"]).most_common()),
    }


# -- printing ------------------------------------------------------------------------------------------------


def print_table(figures: dict[str, Any]) -> None:
    """Print the figures as a table."""
    print(f"Calls of our functions for `{CELL}`, medians of {figures['cells']} cells\n")
    print(f"{'':<30} {'calls':>7} {'files':>7} {'changes':>9} {'engine calls':>14}")
    for name, row in figures.items():
        if isinstance(row, dict) and "calls" in row:
            print(f"{name:<30} {row['calls']:7g} {row['files']:7g} {row['changes']:9g} {row['engine calls']:14g}")
    by_file = ", ".join(f"{file} {count}" for file, count in figures["returns by file"].items())
    print(f"\nReturns to a file before the send: {figures['returns before the send']:g} ({by_file})")


def print_calls(cell: CellTrace) -> None:
    """List the calls of a cell in order. A blank line is a change of file."""
    parts = {f"front, leg {leg}": calls for leg, calls in cell.front.items()}
    parts |= {"worker, message to result": cell.worker, "worker, checkpoint after it": cell.checkpoint}
    for title, calls in parts.items():
        print(f"== {title}: {len(calls)} calls")
        for file, group in groupby(calls, key=lambda event: event.file):
            print(*(f"{file}:{event.function}" for event in group), sep="\n", end="\n\n")


if __name__ == "__main__":
    main()
