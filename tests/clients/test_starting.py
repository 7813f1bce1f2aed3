"""What a client can ask for when it starts a kernel."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .kernels import KERNEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from .kernels import Opened


def test_history_stays_in_memory_where_the_client_wants_it(open_kernel: Callable[..., Opened]) -> None:
    in_memory, in_file = "'nowhere to be found'", "'to be found'"
    _, kernel = open_kernel(extra_arguments=["--HistoryManager.hist_file=:memory:"])
    kernel.run(in_memory)
    _, other = open_kernel()
    other.run(in_file)
    history = Path(other.run("print(get_ipython().history_manager.hist_file)").text().strip())
    with sqlite3.connect(history) as database:

        def known() -> set[str]:
            return {source for (source,) in database.execute("SELECT source FROM history")}

        other.listen_until(lambda: in_file in known(), "history is written")
        assert in_memory not in known()
    assert kernel.run("get_ipython().history_manager.hist_file").result == "':memory:'"


def test_jupyter_run_runs_a_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("print('from the script')")
    command = [sys.executable, "-m", "jupyter_client.runapp", f"--kernel={KERNEL}", script]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (0, "from the script\n"), ran.stderr
