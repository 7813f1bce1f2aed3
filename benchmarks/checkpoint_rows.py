"""The figures that checkpoints must meet, and how each is measured.

A *pause* is how much longer a user waits because of checkpoints. Two kernels run the same cells in turn, one that saves
in the background and one that saves nothing; the time goes from the sending of a cell to the first output of the next
one, which is sent at once. Before the next pair of cells, the checkpoint is on disk.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from capsules import NEXT, CapsuleKernel, Memory, new_home, new_kernel
from checkpoint_notebooks import (
    ARRAY,
    SMALL_CHANGES,
    Notebook,
    arrays,
    column_bytes,
    columns,
    mixed,
    workload_a,
    workload_b,
)
from kernels import BenchmarkError
from workloads import SPARE_IS_WARM

#: How often each of the small changes is made.
_TIMES = 12
#: Trivial cells in a small namespace.
_TRIVIAL = 200
#: How often a worker is killed, and a cell undone.
_DEATHS, _UNDOS = 3, 7
#: Seconds between cells that a person types.
_THINKING = 1.5
#: Dicts of workload B that change, one after the other.
_DICTS = 10

_GENERATOR = "def numbers():\n    yield from range(1_000_000)"
#: How much more the worker's main thread works, whatever others do on the machine.
_WORK = "processor time of the worker's main thread [ms]"

Figures = dict[str, float]


@dataclass(frozen=True)
class Row:
    """A figure of the table.

    Args:
        name: as it is called on the command line.
        figure: what is measured.
        limits: the most that each of its values may be, by label; the label names the unit.
    """

    name: str
    figure: str
    limits: Figures

    @property
    def must(self) -> str:
        """The limits, as text."""
        return ", ".join(f"{label} <= {limit:g}" for label, limit in self.limits.items())


@dataclass
class Taken:
    """What one measurement brought: values that have limits, and others that explain them, by row and label."""

    values: dict[str, Figures] = field(default_factory=dict)
    details: dict[str, Figures] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """Measures some rows together, since they need the same namespace.

    Args:
        rows: their names.
        measure: called with the scale and a directory for the kernels' homes.
    """

    rows: tuple[str, ...]
    measure: Callable[[float, Path], Taken]


ROWS = (
    Row("pause", "pause per cell, 1 GB namespace, small change", {"p50 [ms]": 5, "p99 [ms]": 20}),
    Row("trivial", "pause per trivial cell, small namespace", {"p50 [ms]": 2}),
    Row("a", "workload A, ten cells together", {"pause [ms]": 100, "written [MB]": 60}),
    Row("b", "workload B, one dict of 300,000 changes", {"pause [ms]": 25, "written [% of a full save]": 20}),
    Row("small-change", "bytes written for a small change in a 1 GB namespace", {"written [% of it]": 1}),
    Row("column", "bytes written when one of ten 100 MB columns changes", {"written [x the column]": 1.2}),
    Row("arrays", "50 cells, one new 1 MB array each", {"written [x the data]": 1.1}),
    Row("death", "next cell after SIGKILL of a worker that held 1 GB", {"first output [s]": 1.0}),
    Row("restore", "restore of a 1 GB namespace, one small variable used", {"result [s]": 1.0}),
    Row("memory", "worker memory while a checkpoint is written", {"memory [x the namespace]": 1.3}),
    Row(
        "standby",
        "SIGKILL to the next cell's result, 1 GB namespace with a generator",
        {"result [ms]": 50, "generators lost": 0},
    ),
    Row("undo", "`%capsule undo` of the last cell", {"undo [ms]": 50}),
)


def small_changes(scale: float, work: Path) -> Taken:
    """Measure the pause of each of many small changes in a large namespace, and the bytes written for each."""
    notebook = mixed(scale)
    codes = [code.format(i=i) for i in range(1, _TIMES + 1) for code in SMALL_CHANGES]
    with _new_pair(work) as pair:
        pair.prepare(notebook)
        pair.run(code.format(i=0) for code in SMALL_CHANGES)
        samples = pair.run(codes)
        by_kind = [samples[place :: len(SMALL_CHANGES)] for place in range(len(SMALL_CHANGES))]
        # Of each change what it takes without checkpoints, whatever it is, is taken off.
        usual = [statistics.median(off for _, off in kind) for kind in by_kind]
        pauses = [on - bare for kind, bare in zip(by_kind, usual, strict=True) for on, _ in kind]
        noise = [off - bare for kind, bare in zip(by_kind, usual, strict=True) for _, off in kind]
        details = {"p99 without checkpoints [ms]": _percentile(noise, 99), _WORK: pair.work}
        size = pair.background.size()
        parts = {}
        for code, kind, bare in zip(SMALL_CHANGES, by_kind, usual, strict=True):
            details[f"{code} [ms]"] = statistics.median(on - bare for on, _ in kind)
            written = [n for i in range(1, _TIMES + 1) for n in pair.background.written_for(code.format(i=i))]
            parts[f"{code} [%]"] = statistics.median(written) / size * 100
    return Taken(
        {
            "pause": {"p50 [ms]": statistics.median(pauses), "p99 [ms]": _percentile(pauses, 99)},
            "small-change": {"written [% of it]": max(parts.values())},
        },
        {"pause": details, "small-change": {**parts, "namespace [MB]": size / 1e6}},
    )


def trivial(_scale: float, work: Path) -> Taken:
    """Measure the pause of cells that do next to nothing, among a few small variables."""
    codes = [("pass", f"x = {i}", "x + 1", "names.append(x)")[i % 4] for i in range(_TRIVIAL)]
    with _new_pair(work) as pair:
        pair.prepare(Notebook("small", ("names = ['a', 'b']\nx = 1\nrate = 0.5",), 1))
        pair.run(codes[:20])
        samples = pair.run(codes)
    pauses = [on - off for on, off in samples]
    details = {
        "p99 [ms]": _percentile(pauses, 99),
        _WORK: pair.work,
        "with checkpoints [ms]": statistics.median(on for on, _ in samples),
        "without [ms]": statistics.median(off for _, off in samples),
    }
    return Taken({"trivial": {"p50 [ms]": statistics.median(pauses)}}, {"trivial": details})


def ten_cells(scale: float, work: Path) -> Taken:
    """Measure workload A: the pauses of its cells together, and what is written for them."""
    notebook = workload_a(scale)
    with _new_pair(work) as pair:
        pair.prepare(notebook)
        before = pair.background.count
        samples = pair.run(notebook.changes)
        written = pair.background.written_since(before)
    values = {"pause [ms]": sum(on - off for on, off in samples), "written [MB]": written / 1e6}
    details = {_WORK: pair.work}
    details |= {f"{code} [ms]": on - off for code, (on, off) in zip(notebook.changes, samples, strict=True)}
    return Taken({"a": values}, {"a": details})


def one_dict(scale: float, work: Path) -> Taken:
    """Measure workload B: one dict of many changes."""
    notebook = workload_b(scale)
    with _new_pair(work) as pair:
        pair.prepare(notebook)
        full = pair.background.written_since(0)
        codes = [f"data[{i} * len(data) // {_DICTS}]['score'] = -{i}.5" for i in range(_DICTS)]
        samples = pair.run(codes)
        written = [n for code in codes for n in pair.background.written_for(code)]
    share = statistics.median(written) / full * 100
    values = {"pause [ms]": statistics.median(on - off for on, off in samples), "written [% of a full save]": share}
    return Taken({"b": values}, {"b": {"full save [MB]": full / 1e6, _WORK: pair.work}})


def one_column(scale: float, work: Path) -> Taken:
    """Measure what is written when one column of a DataFrame changes."""
    notebook = columns(scale)
    with new_kernel(work, "background") as kernel:
        kernel.prepare(notebook.preparation)
        before = kernel.count
        kernel.prepare(notebook.changes)
        written = kernel.written_since(before)
    return Taken({"column": {"written [x the column]": written / column_bytes(scale)}})


def new_arrays(scale: float, work: Path) -> Taken:
    """Measure what is written when each cell makes an array."""
    notebook = arrays(scale)
    with new_kernel(work, "background") as kernel:
        kernel.prepare(notebook.preparation)
        before = kernel.count
        kernel.prepare(notebook.changes)
        written = kernel.written_since(before)
    return Taken({"arrays": {"written [x the data]": written / (ARRAY * len(notebook.changes))}})


def memory(scale: float, work: Path) -> Taken:
    """Measure the memory of the worker and its writers while all of a namespace is saved at once."""
    imports, *rest = mixed(scale).preparation
    with new_kernel(work, "background", spare_worker="false") as kernel:
        kernel.prepare((imports,))
        empty = Memory(kernel).at_rest()
        kernel.execute("\n".join(rest))
        sampler = Memory(kernel)
        sampler.start()
        kernel.settle()
        peak = sampler.end()
        full = Memory(kernel).at_rest()
        size = kernel.size()
    details = {
        "peak, imported modules included [MB]": peak / 1e6,
        "worker at rest, these included [MB]": full / 1e6,
        "imported modules [MB]": empty / 1e6,
        "the peak as part of what is saved [x]": peak / size,
    }
    return Taken({"memory": {"memory [x the namespace]": (peak - empty) / (full - empty)}}, {"memory": details})


def deaths(scale: float, work: Path) -> Taken:
    """Measure the next cell after a kill of a worker with a large namespace, and an undo."""
    with new_kernel(work, "background") as kernel:
        kernel.prepare(mixed(scale).preparation)
        undone = [_undo(kernel, i) for i in range(_UNDOS)]
        saved = []
        for _ in range(_DEATHS):
            # While a connection is open no standby waits: the variables come from the disk.
            kernel.prepare(("import socket\nconnection = socket.socket()",))
            saved.append(_kill(kernel, "print(parameter_297)"))
        kernel.prepare(("del connection",))
        kernel.prepare((_GENERATOR,))
        unsaveable = []
        for _ in range(_DEATHS):
            kernel.prepare(("ticks = numbers()\nnext(ticks)",))
            unsaveable.append(_kill(kernel, "print(next(ticks) if type(ticks).__name__ == 'generator' else 'lost')"))
    return Taken(
        {
            "death": {"first output [s]": statistics.median(death.first for death in saved)},
            "standby": {
                "result [ms]": statistics.median(death.result for death in unsaveable) * 1000,
                "generators lost": sum(death.text != "1" for death in unsaveable),
            },
            "undo": {"undo [ms]": statistics.median(undone)},
        },
        {
            "death": {"result [s]": statistics.median(death.result for death in saved)},
            "undo": {"fastest [ms]": min(undone), "slowest [ms]": max(undone)},
        },
    )


def resume(scale: float, work: Path) -> Taken:
    """Measure how soon a new kernel has a small variable of an earlier session's large namespace."""
    with new_home(work) as home:
        with CapsuleKernel(home, "background") as kernel:
            kernel.prepare(mixed(scale).preparation)
        with CapsuleKernel(home, "background") as kernel:
            kernel.execute(NEXT)
            started = time.perf_counter()
            kernel.execute("%capsule resume")
            resumed = time.perf_counter() - started
            text = "".join(kernel.execute("print(parameter_297)").text).strip()
            result = time.perf_counter() - started
    if text != "[297]":
        raise BenchmarkError(f"resumed, but a variable is {text!r}")
    return Taken({"restore": {"result [s]": result}}, {"restore": {"%capsule resume [s]": resumed}})


MEASUREMENTS = (
    Measurement(("pause", "small-change"), small_changes),
    Measurement(("trivial",), trivial),
    Measurement(("a",), ten_cells),
    Measurement(("b",), one_dict),
    Measurement(("column",), one_column),
    Measurement(("arrays",), new_arrays),
    Measurement(("death", "standby", "undo"), deaths),
    Measurement(("restore",), resume),
    Measurement(("memory",), memory),
)


@dataclass
class _Pair:
    """Two kernels that run the same cells in turn: one saves in the background, one saves nothing."""

    background: CapsuleKernel
    off: CapsuleKernel
    #: Milliseconds of processor time by which the one worker's main thread exceeded the other's for each pair of cells.
    work: float = 0.0

    def prepare(self, notebook: Notebook) -> None:
        """Make the namespace."""
        for kernel in (self.background, self.off):
            kernel.prepare(notebook.preparation)

    def run(self, codes: Iterable[str]) -> list[tuple[float, float]]:
        """Run cells; return for each the milliseconds to the next one's output, with checkpoints and without."""
        samples = []
        workers = [kernel.worker() for kernel in (self.background, self.off)]
        self.background.settle()
        started = [_processor_time(worker) for worker in workers]
        for number, code in enumerate(codes):
            taken = {}
            # Each of them goes first as often as the other.
            for kernel in (self.background, self.off) if number % 2 else (self.off, self.background):
                taken[kernel] = kernel.to_next_output(code)
                kernel.settle()
            samples.append((taken[self.background], taken[self.off]))
        background, off = (_processor_time(worker) - before for worker, before in zip(workers, started, strict=True))
        self.work = (background - off) / len(samples)
        return samples


def _processor_time(pid: int) -> float:
    """Return the milliseconds that the main thread of a process has run."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


@contextmanager
def _new_pair(work: Path) -> Iterator[_Pair]:
    with new_kernel(work, "background") as background, new_kernel(work, "off") as off:
        yield _Pair(background, off)


def _undo(kernel: CapsuleKernel, number: int) -> float:
    """Return the milliseconds that it takes to undo a cell."""
    for cell in (f"parameter_298 = {number}", f"parameter_298 = 'changed {number}'"):
        kernel.prepare((cell,))
        time.sleep(_THINKING)
    started = time.perf_counter()
    kernel.execute("%capsule undo")
    elapsed = (time.perf_counter() - started) * 1000
    text = "".join(kernel.execute("print(parameter_298)").text).strip()
    if text != str(number):
        raise BenchmarkError(f"undone, but the variable is {text}, not {number}")
    kernel.settle()
    return elapsed


@dataclass(frozen=True)
class _Death:
    """Seconds from the kill of a worker to the next cell's first output, and to its result; and what it printed."""

    first: float
    result: float
    text: str


def _kill(kernel: CapsuleKernel, code: str) -> _Death:
    """Kill the worker in a cell, with a warm spare. Finally restore all variables and wait until they are saved."""
    worker = kernel.worker()
    kernel.settle()
    time.sleep(SPARE_IS_WARM)
    killed, started = kernel.kill(worker)
    request = kernel.send(code)
    died = kernel.finish(killed)
    text = kernel.first_text(request)
    first = time.perf_counter() - started
    exchange = kernel.finish(request)
    result = time.perf_counter() - started
    if died.reply["status"] != "error" or exchange.reply["status"] != "ok":
        raise BenchmarkError(f"after the kill: {exchange.reply.get('ename')}: {exchange.reply.get('evalue')}")
    # A cell that may touch anything needs everything.
    kernel.prepare(("exec('pass')",))
    return _Death(first, result, (text + "".join(exchange.text)).strip())


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]
