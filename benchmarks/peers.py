"""Measure other programs that save a notebook's state, on the same notebooks as Capsule.

Kishu and elastic-kernel run as kernels, as their users run them; dill and cloudpickle run in a plain Python that saves
its whole namespace after each cell, and does not wait until the disk has it. In the end the process that holds the
state is killed with SIGKILL, its successor restores the state, and a few expressions check that it is the same.

Each peer has a virtual environment of its own, made on first use. All but Kishu, which was written for pandas 2, have
the versions of the data's packages that are installed here.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import Empty
from typing import Any

import psutil
from capsules import CapsuleKernel, new_home, new_kernel
from checkpoint_notebooks import Notebook
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from kernels import BenchmarkError, Kernel, LostOutput

#: Seconds that a peer may take for the cells of a notebook, and again for getting the state back.
LIMIT = 300.0
#: Bytes of data that a peer's process may allocate; one that wants more fails, and not the machine.
MEMORY = 8 * 1024**3
#: Seconds for installing a peer.
_INSTALL = 900.0
#: What the notebooks import.
_DATA = ("numpy", "pandas", "matplotlib", "scikit-learn", "pyarrow")
_PLAIN = Path(__file__).with_name("peer_program.py")


class State(StrEnum):
    """What came back after the kill, the best first."""

    WHOLE = "whole"
    #: Some of what was looked at is missing, or not as it was.
    PARTLY = "partly"
    LOST = "lost"
    #: The limit of time was reached before there was anything to lose.
    STOPPED = "stopped"
    #: The program could not be installed or did not run the notebook.
    FAILED = "failed"


#: Labels of the figures.
COLUMNS = (
    "setup's pauses [s]",
    "cells [s]",
    "their pauses [s]",
    "longest [s]",
    "saved after [s]",
    "written [MB]",
    "first value [s]",
    "all values [s]",
)


@dataclass
class Attempt:
    """The result of one program and one notebook. It has the errors, and the figures measured before them.

    Args:
        program: its name.
        notebook: its name.
        setup: how many of the first cells made the namespace.
    """

    program: str
    notebook: str
    setup: int
    #: Seconds of each cell, saving included, as a user waits for it.
    seconds: list[float] = field(default_factory=list)
    #: What each takes without: in a kernel that saves nothing or, of a plain Python, the cell alone.
    bare: list[float] = field(default_factory=list)
    #: Seconds from the end of the last cell until its state was saved.
    behind: float = 0.0
    #: Bytes that were written to disk.
    written: int = 0
    #: Seconds from the kill, or from the start of the new process, until one value was back, and all.
    first: float | None = None
    back: float | None = None
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    state: State = State.FAILED
    #: What is missing, or went wrong.
    why: str = ""

    def figures(self) -> dict[str, float | None]:
        """Return what a table shows. Noise can make a pause negative."""
        pauses = [mine - bare for mine, bare in zip(self.seconds, self.bare, strict=False)]
        changes = pauses[self.setup :]
        values = (
            sum(pauses[: self.setup]) if pauses else None,
            sum(self.seconds[self.setup :]) if changes else None,
            sum(changes) if changes else None,
            max(changes) if changes else None,
            self.behind if changes else None,
            self.written / 1e6 if self.seconds else None,
            self.first,
            self.back,
        )
        return dict(zip(COLUMNS, values, strict=True))


class TooSlow(BenchmarkError):
    """A program did not finish within the limit."""


def measure(program: str, notebook: Notebook, cache: Path) -> Attempt:
    """Run a notebook under a program, kill it, and ask for the state.

    Args:
        program: one of ``PROGRAMS``.
        notebook: what to run.
        cache: a directory for environments and, for a time, for what is saved.

    Returns:
        The figures. What failed is told in them, not raised.
    """
    attempt = Attempt(program, notebook.name, notebook.setup)
    with new_home(cache / "work") as directory:
        try:
            _WAYS[program](attempt, notebook, directory, cache)
            attempt.state, attempt.why = _compare(notebook, attempt)
        except Exception as error:
            attempt.state = State.STOPPED if isinstance(error, TooSlow) else State.FAILED
            if attempt.before:
                attempt.state = State.LOST
            attempt.why = str(error) if isinstance(error, BenchmarkError) else f"{type(error).__name__}: {error}"
        if attempt.state is State.LOST:
            attempt.first = attempt.back = None
    return attempt


def _compare(notebook: Notebook, attempt: Attempt) -> tuple[State, str]:
    """Return whether the state was restored, and what was not."""
    values = zip(notebook.checks, attempt.before, attempt.after, strict=True)
    wrong = [(check, after) for check, before, after in values if before != after]
    if not wrong:
        return State.WHOLE, ""
    lost = len(wrong) == len(notebook.checks)
    described = [f"{check[:40]}: {after[:60] if after[:1] == '!' else 'differs'}" for check, after in wrong]
    return State.LOST if lost else State.PARTLY, described[0] if lost else "; ".join(described)


# --- Capsule


def _measure_capsule(attempt: Attempt, notebook: Notebook, directory: Path, cache: Path) -> None:
    with new_kernel(cache / "work", "off") as kernel:
        attempt.bare += [_seconds(kernel, cell) for cell in notebook.cells]
    with CapsuleKernel(directory, "background") as kernel:
        worker = kernel.worker()
        kernel.settle()
        attempt.seconds += [_seconds(kernel, cell) for cell in notebook.cells]
        attempt.behind = kernel.saved_since()
        attempt.written = kernel.written_since(0)
        attempt.before += map(kernel.evaluate, notebook.checks)
        kernel.prepare(("pass",))
        killed, started = kernel.kill(worker)
        kernel.finish(killed)
        _look(attempt, notebook, kernel, started)


# --- kernels


@dataclass(frozen=True)
class _Way:
    """How a peer that is a kernel is started, told to save, and asked for the state."""

    module: str
    environment: dict[str, str]
    attach: str = ""
    back: str = ""


def _measure_kernel(attempt: Attempt, notebook: Notebook, directory: Path, cache: Path) -> None:
    python = _python(attempt.program, cache)
    document = directory / "notebook.ipynb"
    document.write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")
    way = _kishu(document) if attempt.program == "kishu" else _elastic_kernel(document)
    bare = directory / "bare"
    bare.mkdir()
    with _PeerKernel(python, "ipykernel_launcher", bare, {}) as kernel:
        attempt.bare += [_seconds(kernel, cell) for cell in notebook.cells]
    with _PeerKernel(python, way.module, directory, way.environment) as kernel:
        kernel.silently(way.attach)
        before = kernel.written()
        try:
            for cell in notebook.cells:
                attempt.seconds.append(_seconds(kernel, cell))
        finally:
            if kernel.manager.is_alive():
                attempt.written = kernel.written() - before
        attempt.before += map(kernel.evaluate, notebook.checks)
        os.kill(kernel.pid, signal.SIGKILL)
    started = time.perf_counter()
    with _PeerKernel(python, way.module, directory, way.environment) as kernel:
        kernel.silently(way.back)
        _look(attempt, notebook, kernel, started)


def _kishu(document: Path) -> _Way:
    attach = f"from kishu import init_kishu; init_kishu({str(document)!r})"  # what `kishu init` sends to a kernel
    back = (
        "import pathlib as _pathlib\nimport kishu.commands as _commands\n"
        f"_log = _commands.KishuCommand.log_all(_pathlib.Path({str(document)!r})).commit_graph\n"
        f"{attach}\n_kishu.checkout(max(_log, key=lambda commit: commit.timestamp).commit_id)"
    )
    # Without a front end, saving the notebook would wait for one.
    environment = {"ENV_KISHU_TEST_MODE": "1", "KISHU_PATH_ROOT": str(document.parent)}
    return _Way("ipykernel_launcher", environment, attach, back)


def _elastic_kernel(document: Path) -> _Way:
    return _Way("elastic_kernel.kernel", {"JPY_SESSION_NAME": str(document)})


class _PeerKernel(Kernel):
    """A kernel of a peer's environment, with a limit of time and memory."""

    def __init__(self, python: Path, module: str, directory: Path, environment: dict[str, str]) -> None:
        specs = directory / "kernelspecs"
        (specs / "peer").mkdir(parents=True, exist_ok=True)
        argv = [str(python), "-m", module, "--HistoryManager.hist_file=:memory:", "-f", "{connection_file}"]
        spec = {"argv": argv, "display_name": module, "language": "python"}
        (specs / "peer" / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
        manager = KernelManager(
            kernel_name="peer",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(specs)], ensure_native_kernel=False),
            # Kishu takes the kernel's id from this name.
            connection_file=str(directory / f"kernel-{uuid.uuid4()}.json"),
        )
        self._until = time.monotonic() + LIMIT
        environment = {**os.environ, "IPYTHONDIR": str(directory / "ipython"), **environment}
        super().__init__(module, manager, cwd=str(directory), env=environment)
        self.pid = int(getattr(self.manager.provisioner, "pid", 0))
        _limit_memory(self.pid)

    def silently(self, code: str) -> None:
        """Run code that no peer takes for a cell of the notebook."""
        reply = self.finish(str(self.client.execute(code, silent=True, allow_stdin=False))).reply
        if reply["status"] != "ok":
            raise BenchmarkError(f"{reply.get('ename')}: {reply.get('evalue')}")

    def written(self) -> int:
        """Return the bytes that it has had written to disk, in whole pages; sockets and pipes do not count."""
        return int(psutil.Process(self.pid).io_counters().write_bytes)

    def _receive(self, get: Callable[..., dict[str, Any]], what: str) -> dict[str, Any]:
        while time.monotonic() < self._until:
            try:
                return get(timeout=1.0)
            except Empty:
                if not self.manager.is_alive():
                    raise LostOutput("the kernel died") from None
        raise TooSlow(f"stopped: no {what} within {LIMIT:g} s")


def _look(attempt: Attempt, notebook: Notebook, kernel: Kernel, started: float) -> None:
    """Look at all values once the state is back."""
    for check in notebook.checks:
        attempt.after.append(kernel.evaluate(check))
        attempt.back = time.perf_counter() - started
        attempt.first = attempt.first or attempt.back


def _seconds(kernel: Kernel, code: str) -> float:
    started = time.perf_counter()
    kernel.execute(code)
    return time.perf_counter() - started


# --- plain Python


def _measure_plain(attempt: Attempt, notebook: Notebook, directory: Path, cache: Path) -> None:
    python = _python(attempt.program, cache)
    content = {"program": attempt.program, "cells": notebook.cells, "checks": notebook.checks}
    (directory / "notebook.json").write_text(json.dumps(content), encoding="utf-8")
    _, reports = _run_plain(python, "save", directory)
    for report in reports:
        if "whole" in report:
            attempt.bare.append(report["bare"])
            attempt.seconds.append(report["whole"])
            attempt.written += report["written"]
    attempt.before += _values(reports)
    started, reports = _run_plain(python, "load", directory)
    attempt.after += _values(reports)
    times = [report["time"] - started for report in reports if "value" in report]
    attempt.first, attempt.back = times[0], times[-1]


def _run_plain(python: Path, action: str, directory: Path) -> tuple[float, list[dict[str, Any]]]:
    """Return when it was started, and its reports; also of one that was stopped."""
    started = time.monotonic()
    with (directory / "reports").open("w") as reports:
        process = subprocess.Popen([str(python), str(_PLAIN), action], cwd=directory, stdout=reports)
        try:
            _limit_memory(process.pid)
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise TooSlow(f"stopped after {LIMIT:g} s") from None
        finally:
            process.kill()
            process.wait()
    return started, [json.loads(line) for line in (directory / "reports").read_text(encoding="utf-8").splitlines()]


def _values(reports: list[dict[str, Any]]) -> list[str]:
    if not reports or "value" not in reports[-1]:
        raise BenchmarkError(reports[-1].get("error", "it ended early") if reports else "it did not start")
    return [report["value"] for report in reports if "value" in report]


# --- environments


def _limit_memory(pid: int) -> None:
    if hasattr(resource, "prlimit"):  # Linux only
        resource.prlimit(pid, resource.RLIMIT_DATA, (MEMORY, MEMORY))


def _python(peer: str, cache: Path) -> Path:
    """Return the interpreter of a peer's environment, which is made unless it exists.

    Raises:
        BenchmarkError: that failed.
    """
    requirements = _requirements(peer)
    home = cache / "environments" / peer
    python, done = home / "bin" / "python", home / "requirements.json"
    content = json.dumps(requirements)
    if done.exists() and done.read_text(encoding="utf-8") == content:
        return python
    try:
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(home)],
            [str(python), "-m", "pip", "install", "--quiet", *requirements],
        ):
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL)
    except subprocess.CalledProcessError as error:
        raise BenchmarkError(f"not installed: {(error.stderr or error.stdout).strip()[-300:]}") from None
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"not installed: {error}") from None
    # Last: an installation that was cut short is made again.
    done.write_text(content, encoding="utf-8")
    return python


def _requirements(peer: str) -> list[str]:
    here = [f"{name}=={found}" for name in _DATA if (found := _version(name)) is not None]
    if peer == "kishu":
        # It imports pkg_resources, which newer setuptools have not.
        return ["kishu==0.3.4", "setuptools<81", "pandas<3", *(each for each in here if not each.startswith("pandas"))]
    if peer == "elastic-kernel":
        return ["elastic-kernel==0.2.3", f"ipykernel=={version('ipykernel')}", *here]
    return [peer, *here]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


#: How each program is measured.
_WAYS: dict[str, Callable[[Attempt, Notebook, Path, Path], None]] = {
    "capsule": _measure_capsule,
    "kishu": _measure_kernel,
    "elastic-kernel": _measure_kernel,
    "dill": _measure_plain,
    "cloudpickle": _measure_plain,
}
#: All that can be measured.
PROGRAMS = tuple(_WAYS)
