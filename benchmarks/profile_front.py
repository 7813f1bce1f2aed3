"""Print where the time of a cell that does nothing goes: ``python benchmarks/profile_front.py``.

The same cells run on three nested stretches of the path: in a worker alone, asked over its own
socket; in the durable runtime with a worker, without Jupyter's sockets; on the whole kernel with a client.
The differences are what each layer costs. Then the front runs under cProfile, which sees that process only
and slows it down: its shares tell where the front's time goes, not how much it is.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pstats
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import write_connection_file

from capsule_durable.config.settings import Settings
from capsule_durable.execution.runtime import Runtime
from capsule_durable.messaging.capabilities import Capabilities
from capsule_durable.workers.channels import WorkerHandle
from capsule_durable.workers.launcher import Launcher
from capsule_worker.protocol import Decoder, Message, encode
from capsule_worker.protocol import messages as m

DEADLINE = 60.0
WARM_UP = 50
#: Parts of a file's path, and what the time spent there is called. The first that fits counts.
GROUPS = (
    ("/resonate/", "durable engine (resonate)"),
    ("/capsule_durable/", "durable functions, bridge, session"),
    ("/capsule_worker/protocol/", "protocol (msgpack frames)"),
    ("/capsule_kernel/", "kernel (Jupyter's requests)"),
    ("/pydantic", "pydantic"),
    ("/msgpack/", "protocol (msgpack frames)"),
    ("/jupyter_client/", "Jupyter messages (sign, pack, send)"),
    ("/ipykernel/", "Jupyter messages (sign, pack, send)"),
    ("/dateutil/", "Jupyter messages (sign, pack, send)"),
    ("/traitlets/", "Jupyter messages (sign, pack, send)"),
    ("/hmac.py", "Jupyter messages (sign, pack, send)"),
    ("/zmq/", "ZMQ and tornado"),
    ("/tornado/", "ZMQ and tornado"),
    ("/asyncio/", "asyncio"),
    ("/json/", "json"),
)
REST = "the rest of the standard library"
#: Builtins that wait rather than work.
WAITS = ("select.epoll", "select.poll", "time.sleep")


def main() -> None:
    """Measure, profile, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--top", type=int, default=25, help="lines of each profile table; 0 for none")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        os.environ["IPYTHONDIR"] = directory
        folder = Path(directory)
        _print_stretches(folder, arguments.cells)
        _print_start()
        _print_profile(folder, arguments.cells, arguments.top)


# -- the three stretches -------------------------------------------------------------------------------------


def _print_stretches(folder: Path, cells: int) -> None:
    worker = worker_alone(cells)
    runtime = asyncio.run(runtime_alone(cells))
    with Front(folder, profile=None) as front:
        whole = front.drive(cells)
        client, cpu = front.cpu_client, front.cpu_kernel
    print(f"One of {cells} `pass` cells, p50:")
    for what, value in (
        ("whole: client, front, durable engine, worker", whole),
        ("  worker alone, over its socket", worker),
        ("  + durable engine, bridge, session", runtime - worker),
        ("  + Jupyter's sockets, kernel and client", whole - runtime),
    ):
        print(f"{what:<46} {value:6.2f} ms {value / whole:6.0%}")
    used = {"client": client, **cpu}
    print("Processor time per cell: " + ", ".join(f"{name} {value:.2f} ms" for name, value in used.items()))


def worker_alone(cells: int) -> float:
    """Return the p50 of a cell from request to result, over a worker's own socket, in ms."""
    launcher = Launcher()
    launched = launcher.launch()
    decoder = Decoder()
    messages = _messages(launched.sock, decoder)
    try:
        while not isinstance(next(messages), m.ReadyMessage):
            pass
        times = []
        for number in range(cells + WARM_UP):
            started = time.perf_counter()
            launched.sock.sendall(encode(m.ExecuteMessage(id=f"e{number}", code="pass")))
            while not isinstance(next(messages), m.ResultMessage):
                pass
            times.append(time.perf_counter() - started)
    finally:
        _end(launcher, launched)
    return statistics.median(times[WARM_UP:]) * 1000


def _messages(sock: Any, decoder: Decoder) -> Iterator[Message]:
    while data := sock.recv(1 << 18):
        yield from decoder.feed(data)
    raise SystemExit("the worker has ended")


async def runtime_alone(cells: int) -> float:
    """Return the p50 of a durable execution with a worker, in ms."""
    silent = Capabilities(lambda *_: None, lambda *_: None, lambda _: None)
    # A spare would start in the middle of it.
    runtime = Runtime("profile", Settings.model_validate({"spare_worker": False}), silent, Launcher())
    runtime.start()
    await runtime.workers.ready()
    times = []
    for number in range(cells + WARM_UP):
        started = time.perf_counter()
        await runtime.cells.execute(m.ExecuteMessage(id=f"e{number}", code="pass"))
        times.append(time.perf_counter() - started)
    await runtime.close()
    return statistics.median(times[WARM_UP:]) * 1000


class Front:
    """A front that is started by hand, as Jupyter would, and driven.

    Args:
        folder: for the connection file.
        profile: where cProfile is to write; None to run without.
    """

    def __init__(self, folder: Path, profile: Path | None) -> None:
        key = secrets.token_hex().encode()
        connection, _ = write_connection_file(str(folder / "connection.json"), key=key)
        profiler = [] if profile is None else ["-m", "cProfile", "-o", str(profile)]
        command = [sys.executable, *profiler, "-m", "capsule_kernel", "-f", connection]
        self._process = subprocess.Popen(command, env={**os.environ, "CAPSULE_SPARE_WORKER": "false"})
        self._client = BlockingKernelClient(connection_file=connection)
        self._client.load_connection_file()
        self._client.start_channels()
        #: Milliseconds of processor time per cell.
        self.cpu_client = 0.0
        self.cpu_kernel: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._client.wait_for_ready(timeout=DEADLINE)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.shutdown()
        try:
            self._process.wait(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._client.stop_channels()

    def drive(self, cells: int) -> float:
        """Run ``cells`` cells; return the p50 of their round trips, in ms."""
        for _ in range(WARM_UP if cells else 0):
            self._cell()
        before, ours, times = self._processor_times(), time.process_time(), []
        for _ in range(cells):
            started = time.perf_counter()
            self._cell()
            times.append(time.perf_counter() - started)
        if not times:
            return 0.0
        self.cpu_client = (time.process_time() - ours) * 1000 / cells
        after = self._processor_times()
        self.cpu_kernel = {name: (after[name] - before[name]) * 1000 / cells for name in after}
        return statistics.median(times) * 1000

    def _cell(self) -> None:
        request = self._client.execute("pass", allow_stdin=False)
        while True:
            message = self._client.get_iopub_msg(timeout=DEADLINE)
            idle = message["content"].get("execution_state") == "idle"
            if idle and message["parent_header"].get("msg_id") == request:
                break
        while self._client.get_shell_msg(timeout=DEADLINE)["parent_header"].get("msg_id") != request:
            pass

    def _processor_times(self) -> dict[str, float]:
        """Return seconds of the front and of the worker."""
        front = psutil.Process(self._process.pid)
        used = {"front": 0.0, "worker": 0.0}
        for process in (front, *front.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used["front" if process == front else "worker"] += times.user + times.system
        return used


# -- the start -----------------------------------------------------------------------------------------------


def _print_start() -> None:
    def interpreter(code: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-E", "-P", "-c", code], check=True)

    early = "import argparse, capsule_durable.config.settings, capsule_durable.workers.launcher"
    print("\nThe start, p50 of 5, each alone:")
    for what, action in (
        ("an empty interpreter", interpreter("pass")),
        ("... with what is needed to launch a worker", interpreter(early)),
        ("... with all that the front imports", interpreter(f"{early}, capsule_kernel.app")),
        ("a worker, from its launch to its ready", _start_worker),
    ):
        times = []
        for _ in range(5):
            started = time.perf_counter()
            action()
            times.append(time.perf_counter() - started)
        print(f"{what:<46} {statistics.median(times) * 1000:6.0f} ms")


def _start_worker() -> None:
    launcher = Launcher()
    launched = launcher.launch()
    next(_messages(launched.sock, Decoder()))
    _end(launcher, launched)


def _end(launcher: Launcher, launched: WorkerHandle) -> None:
    launched.sock.close()
    launched.close()
    warden = launcher.close()
    assert warden is not None
    warden.process.wait()


# -- the profile ---------------------------------------------------------------------------------------------


def _print_profile(folder: Path, cells: int, top: int) -> None:
    empty, full = folder / "empty.prof", folder / "full.prof"
    with Front(folder, empty) as front:
        front.drive(0)
    with Front(folder, full) as front:
        p50 = front.drive(cells)
    before, after = own_time(empty), own_time(full)
    groups = {name: max(0.0, after[name] - before[name]) for name in after}
    total = sum(groups.values())
    per_cell = 1000 / (cells + WARM_UP)
    print(f"\nThe front under cProfile (p50 {p50:.2f} ms), own time per cell, less the start:")
    for name, seconds in sorted(groups.items(), key=lambda item: -item[1]):
        print(f"{name:<46} {seconds * per_cell:6.2f} ms {seconds / total:6.0%}")
    print(f"{'together':<46} {total * per_cell:6.2f} ms")
    if top:
        stats = pstats.Stats(str(full))
        print("\nFunctions by own time (with the start):")
        stats.sort_stats("tottime").print_stats(top)
        print("Functions by cumulative time:")
        stats.sort_stats("cumulative").print_stats("capsule_|resonate|session.py|zmqstream", top)


def own_time(profile: Path) -> Counter[str]:
    """Return seconds of own time by group. A builtin's time is its callers'; waiting is left out."""
    groups: Counter[str] = Counter()
    functions: dict[Any, Any] = pstats.Stats(str(profile)).stats  # type: ignore[attr-defined]
    for (file, _, name), (_, _, own, _, callers) in functions.items():
        if file != "~":
            groups[_group(file)] += own
        elif not any(wait in name for wait in WAITS):
            for (caller, _, _), (_, _, share, _) in callers.items():
                groups[_group(caller)] += share
    return groups


def _group(file: str) -> str:
    path = file.replace(os.sep, "/")
    return next((name for part, name in GROUPS if part in path), REST)


if __name__ == "__main__":
    main()
