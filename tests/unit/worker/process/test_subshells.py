"""The threads of subshells run one job after the other, whether a job succeeds or fails."""

from __future__ import annotations

import asyncio
import threading

from capsule_worker.process.subshells import Subshells
from tests.support.waiting import DEADLINE


def test_the_next_job_runs_after_a_job_that_fails() -> None:
    subshells, done = Subshells(), threading.Event()

    async def fail() -> None:
        raise SystemExit("not yet")

    async def succeed() -> None:
        await asyncio.sleep(0)
        done.set()

    subshells.put("a", fail)
    subshells.put("a", succeed)
    assert done.wait(DEADLINE)
