"""The threads of subshells do one thing after the other, whatever becomes of it."""

from __future__ import annotations

import asyncio
import threading

from capsule_worker.process.subshells import Subshells
from tests.support.waiting import DEADLINE


def test_a_job_that_fails_does_not_keep_the_next_from_being_done() -> None:
    subshells, done = Subshells(), threading.Event()

    async def fail() -> None:
        raise SystemExit("not yet")

    async def succeed() -> None:
        await asyncio.sleep(0)
        done.set()

    subshells.put("a", fail)
    subshells.put("a", succeed)
    assert done.wait(DEADLINE)
