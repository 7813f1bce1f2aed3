"""Whether a process still runs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from capsule_durable.storage import safe_directory


@pytest.mark.process
def test_a_process_that_has_ended_does_not_live_though_nobody_took_notice() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert safe_directory.alive(process.pid)
        assert process.stdin is not None
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not safe_directory.alive(process.pid)
    assert not safe_directory.alive(0)
