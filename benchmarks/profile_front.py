"""Profile the front while it runs cells that do nothing: ``python benchmarks/profile_front.py``."""

from __future__ import annotations

import argparse
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import write_connection_file


def main() -> None:
    """Run the front under cProfile, drive cells, print where the time went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--top", type=int, default=25)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        profile = Path(directory) / "front.prof"
        connection, _ = write_connection_file(str(Path(directory) / "connection.json"))
        for command in (["-m", "cProfile", "-o", str(profile), "-m", "capsule_kernel"], ["-m", "capsule_kernel"]):
            process = subprocess.Popen([sys.executable, *command, "-f", connection])
            client = BlockingKernelClient(connection_file=connection)
            client.load_connection_file()
            client.start_channels()
            client.wait_for_ready(timeout=60)
            times = []
            for _ in range(arguments.cells):
                started = time.perf_counter()
                client.execute_interactive("pass", timeout=60)
                times.append(time.perf_counter() - started)
            client.shutdown()
            process.wait(timeout=60)
            client.stop_channels()
            how = "under the profiler" if "cProfile" in command else "as it is"
            print(f"{arguments.cells} cells {how}: p50 {statistics.median(times) * 1000:.2f} ms")
        statistics_ = pstats.Stats(str(profile))
        statistics_.sort_stats("tottime").print_stats(arguments.top)
        statistics_.sort_stats("cumulative").print_stats(
            "capsule|resonate/(core|send|context)|session.py", arguments.top
        )


if __name__ == "__main__":
    main()
